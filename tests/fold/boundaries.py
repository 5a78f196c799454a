"""Which boundaries must be in a topic of decisions, and where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tests.fold.control import Life, Where


def boundaries(life: Life, where: Where, values: Iterable[bytes]) -> list[str]:
    """Sentences; none if each rollback and migration that counts in the partition has its boundary,
    behind all decisions of older epochs that are not void and before the first of its own.

    `values`: of the partition of decisions, in their order. Where a delete came in between, one
    may be missing if nothing was decided behind it.
    """
    told = [msgspec.json.decode(value) for value in values]
    mine = [one for one in told if one["agent"] == life.agent and one["epoch"] in life.epochs]
    must = _expected(life, where)
    found = [
        f"there is a boundary {one}, which must not be"
        for one in mine
        if one["cause"] == "boundary" and one != must.get(one["epoch"])
    ]
    for epoch, boundary in must.items():
        told_of = _place(mine, boundary, owed=not life.deleted)
        found += [f"boundary of epoch {epoch}: {text}" for text in told_of]
    return found


def _expected(life: Life, where: Where) -> dict[int, dict[str, Any]]:
    """By epoch."""
    found = {}
    for control_id, (_, epoch, _) in life.replaced.items():
        if (control_id, where) in life.effects:
            offset = life.effects[control_id, where]
            found[epoch] = {
                "cause": "boundary",
                "schema": 1,
                "id": f"{life.agent}/{epoch}/{where[0]}/{where[1]}/boundary",
                "agent": life.agent,
                "life": life.epoch,
                "epoch": epoch,
                "position": {"topic": where[0], "partition": where[1], "offset": offset},
                "control_id": control_id,
            }
    return found


def _place(told: list[dict[str, Any]], boundary: dict[str, Any], *, owed: bool) -> list[str]:
    epoch, offset = boundary["epoch"], boundary["position"]["offset"]
    decided = [one for one in told if one["cause"] == "event"]
    if boundary not in told:
        behind = owed or any(one["epoch"] >= epoch for one in decided)
        return ["it is missing"] if behind else []
    at = told.index(boundary)
    before = {one["id"] for one in told[:at]}
    found = []
    for one in decided:
        below = one["position"]["offset"] < offset
        if one["epoch"] < epoch and below and one["id"] not in before:
            found.append(f"the decision {one['id']} comes behind it for the first time")
    if any(one["cause"] == "event" and one["epoch"] >= epoch for one in told[:at]):
        found.append("a decision of its own epoch comes before it")
    return found
