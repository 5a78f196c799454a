"""docs/spec.md says what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from headrace.models.guard import REASONS
from headrace.models.spec import json_schema, load_spec
from headrace.models.spec.model import build
from tests.models.test_spec import HEATERS, changed

PAGE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_first_example_is_a_spec() -> None:
    """The example that people copy first deploys as it stands."""
    assert load_spec(EXAMPLES[0]).agent == "card-fraud"


def test_the_other_examples_stand_in_specs() -> None:
    """The example of a model builds, the one of a controller decides."""
    model, decide = (yaml.safe_load(example) for example in EXAMPLES[1:])
    assert build(model["model"], 0)[1] == []
    spec = load_spec(yaml.safe_dump(changed(HEATERS, "decide", decide["decide"])))
    assert spec.digest == load_spec(HEATERS).digest


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """Every name in the schema, the catalog's left out."""
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from fields(inner)
    for inner in schema.get("anyOf", []):
        yield from fields(inner)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"])


def test_every_field_is_explained() -> None:
    """Whatever a spec may say stands on the page."""
    missing = {name for name in fields(json_schema()) if not re.search(rf"\b{name}\b", PAGE)}
    assert missing == set()


def test_every_reason_is_explained() -> None:
    """Whatever an event may be refused for stands on the page."""
    assert {code for code in REASONS if f"`{code}`" not in PAGE} == set()
