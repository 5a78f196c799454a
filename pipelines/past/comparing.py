"""A decision's record against what it must be, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from headrace.models.decisions import Decision, encode_decision
from headrace.models.exclusion import DecisionId, decision_id_of
from headrace.views import Difference

DIFFERENCES_MAX = 100
"""Fields that are told: a record that is handed in may have any number."""
NOTHING = msgspec.UNSET
_DEFAULTS = {
    field.name: field.default
    for field in msgspec.structs.fields(Decision)
    if field.default is not msgspec.NODEFAULT
}


def compared(given: dict[str, Any], expected: Decision) -> tuple[Difference, ...]:
    """The fields that differ. One that is left out has its default; how a number is written, as 1
    or as 1.0, makes no difference.

    >>> from headrace.views import Position
    >>> made = Decision(
    ...     id="a/1/t/0/7", agent="a", spec_version=1, epoch=1, key="ada",
    ...     position=Position("t", 0, 7), event_time=1000, decision="allow", score=0.25,
    ... )
    >>> record = msgspec.json.decode(encode_decision(made))
    >>> compared(record, made)
    ()
    >>> record["position"]["offset"], record["more"] = 8, "!"
    >>> [(each.field, each.found, each.expected) for each in compared(record, made)]
    [('more', '"!"', ''), ('position.offset', '8', '7')]
    """
    must = msgspec.json.decode(encode_decision(expected))
    found = _differences("", {**_DEFAULTS, **given}, must)
    return tuple(islice(found, DIFFERENCES_MAX))


def names_in(given: dict[str, Any]) -> list[DecisionId]:
    """Which decision a record says that it is: by its id, and by its other fields.

    They are one unless somebody has altered one of them; none for what is no decision's record.
    """
    if given.get("cause") == "boundary":
        return []
    position = given.get("position")
    parts = [given.get("agent"), given.get("epoch")]
    if isinstance(position, dict):
        parts += [position.get(name) for name in ("topic", "partition", "offset")]
    told = [str(given.get("id")), "/".join(map(str, parts))]
    names = [name for text in told if (name := decision_id_of(text))]
    return list(dict.fromkeys(names))


def _differences(path: str, found: Any, must: Any) -> Iterator[Difference]:
    if isinstance(found, dict) and isinstance(must, dict):
        for name in sorted(found.keys() | must.keys()):
            there = found.get(name, NOTHING), must.get(name, NOTHING)
            yield from _differences(f"{path}.{name}" if path else name, *there)
    elif not _same(found, must):
        yield Difference(field=path, found=_text(found), expected=_text(must))


def _same(found: Any, must: Any) -> bool:
    if isinstance(found, list) and isinstance(must, list):
        return len(found) == len(must) and all(map(_same, found, must))
    if isinstance(found, dict) and isinstance(must, dict):
        return found.keys() == must.keys() and all(_same(found[n], must[n]) for n in must)
    # True is 1 in Python, and not in JSON.
    return bool(found == must) and isinstance(found, bool) == isinstance(must, bool)


def _text(value: Any) -> str:
    return "" if value is NOTHING else msgspec.json.encode(value).decode()
