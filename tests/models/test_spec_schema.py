"""The schema that editors use: it is a schema, and it takes what `load_spec` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.models.spec import load_spec
from headrace.models.spec.schema import DRAFT, json_schema
from tests.models.test_spec import FRAUD, SPECS, changed

SCHEMA = json_schema()
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
    "null": type(None),
}


def complaints(schema: dict[str, Any], value: Any, at: str = "$") -> Iterator[str]:
    """The part of draft 2020-12 that the schema uses; an unknown word is an error."""
    for word, said in schema.items():
        yield from _complaints(schema, word, said, value, at)


def _complaints(schema: dict[str, Any], word: str, said: Any, value: Any, at: str) -> Iterator[str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if word == "type":
        names = [said] if isinstance(said, str) else said
        if not any(_is(value, name) for name in names):
            yield f"{at} is not {said}"
    elif word == "$ref":
        yield from complaints(SCHEMA["$defs"][said.removeprefix("#/$defs/")], value, at)
    elif word == "anyOf":
        if all(list(complaints(one, value, at)) for one in said):
            yield f"{at} fits none of {len(said)}"
    elif word == "enum":
        if value not in said:
            yield f"{at} is not one of {said}"
    elif word == "properties" and isinstance(value, dict):
        for name in said.keys() & value.keys():
            yield from complaints(said[name], value[name], f"{at}.{name}")
    elif word == "additionalProperties" and isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            if said is False:
                yield f"{at}.{name} is unknown"
            elif said is not True:
                yield from complaints(said, value[name], f"{at}.{name}")
    elif word == "required" and isinstance(value, dict):
        yield from (f"{at}.{name} is required" for name in said if name not in value)
    elif word == "items" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from complaints(said, item, f"{at}[{index}]")
    elif word == "pattern" and isinstance(value, str):
        if re.search(said, value) is None:
            yield f"{at} does not match {said}"
    elif (
        (word == "minimum" and number and value < said)
        or (word == "maximum" and number and value > said)
        or (word == "exclusiveMinimum" and number and value <= said)
        or (word in ("minItems", "minProperties") and _size(value, word) < said)
        or (word in ("maxItems", "maxProperties") and _size(value, word) > said)
    ):
        yield f"{at}: {word} {said}"
    else:
        assert word in KNOWN, word


KNOWN = {
    "$schema", "$defs", "title", "description", "uniqueItems", "properties", "required", "items",
    "additionalProperties", "pattern", "minimum", "maximum", "exclusiveMinimum", "minItems",
    "maxItems", "minProperties", "maxProperties",
}  # fmt: skip


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def _size(value: Any, word: str) -> int:
    wanted = dict if word.endswith("Properties") else list
    if isinstance(value, wanted):
        return len(value)
    return 0 if word.startswith("max") else 1 << 62


def test_it_is_a_schema() -> None:
    """It names its draft, is JSON, and describes every field of the top level."""
    assert SCHEMA["$schema"] == DRAFT
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    for name, field in SCHEMA["properties"].items():
        assert field.get("description") or "$ref" in field, name


@pytest.mark.parametrize("name", SPECS)
def test_it_takes_specs(name: str) -> None:
    """Specs as people write them and as they are stored both fit."""
    spec = load_spec(SPECS[name])
    assert list(complaints(SCHEMA, spec.to_dict())) == []
    assert list(complaints(SCHEMA, json.loads(spec.canonical()))) == []
    written = changed(SPECS[name], "agent", spec.agent)
    assert list(complaints(SCHEMA, written)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("agent", "Card Fraud"),
        ("agent", None),
        ("source/keys", "$.a"),
        ("source/key", "card_id"),
        ("features/amount/type", "numbr"),
        ("features/amount/range", [1]),
        ("model", "linear_model.LogisticRegresion"),
        ("model", [{"linear_model.LogisticRegression": {"optimiser": {}}}]),
        ("label/after", "30s"),
        ("decide", {"verdict": {"block": 0.9}}),
        ("decide", {"verdict": {"block": 0.9, "else": "x"}, "score": {}}),
        ("metrics", ["Acuracy"]),
        ("state/idle_ttl", "90 days"),
        ("state/flush_ms", 0),
        ("sauce", 1),
    ],
)
def test_it_underlines_mistakes(path: str, value: Any) -> None:
    """Misspelt names, wrong types and bounds are seen while writing."""
    assert list(complaints(SCHEMA, changed(FRAUD, path, value)))
