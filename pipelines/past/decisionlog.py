"""One decision found in its topic, which may hold millions."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from headrace.errors import UnavailableError
from headrace.models.decisions import decode_decision
from headrace.models.exclusion import DecisionId, decision_id_of
from headrace.pipelines.reader import Logs
from headrace.pipelines.rewind import IDLE_S
from headrace.views import Partition

READ_ALL = 500
"""So few records are read one after the other."""
WAIT_S = 15.0
"""How long the topic may bring nothing."""


class _Found(NamedTuple):
    name: DecisionId
    value: bytes


async def decision_of(logs: Logs, where: Partition, wanted: DecisionId) -> bytes | None:
    """The value of that decision's record; None if it is not there.

    Epochs and offsets rise along the topic. After a crash some decisions come again, from an
    earlier one on; but whoever comes from one below the wanted to one above it comes past it. So
    halving finds it. Raises UnavailableError.
    """
    span = await logs.span(where)
    low, high = span.begin, span.end
    while high - low > READ_ALL:
        middle = (low + high) // 2
        first = await _read(logs, where, (middle, high), enough=1)
        if first and first[0].name == wanted:
            return first[0].value
        if first and _order(first[0].name) < _order(wanted):
            low = middle
        else:
            high = middle
    there = await _read(logs, where, (low, high))
    return next((found.value for found in there if found.name == wanted), None)


def _order(name: DecisionId) -> tuple[int, int]:
    return name.epoch, name.offset


async def _read(
    logs: Logs, where: Partition, between: tuple[int, int], enough: int | None = None
) -> list[_Found]:
    """The decisions between two offsets of their topic; with `enough`, so many at least."""
    begin, end = between
    found: list[_Found] = []
    clock = asyncio.get_running_loop().time
    deadline = clock() + WAIT_S
    async with logs.replay(where, begin) as replay:
        while begin < end and (enough is None or len(found) < enough):
            chunk = await replay.upto(min(end, begin + READ_ALL))
            if chunk is None:
                if clock() > deadline:
                    raise UnavailableError("broker_away", f"{where.topic} could not be read")
                await asyncio.sleep(IDLE_S)
                continue
            found += [one for record in chunk.records if (one := _decision(record.value))]
            begin, deadline = chunk.next_offset, clock() + WAIT_S
    return found


def _decision(value: bytes | None) -> _Found | None:
    """None for what else may be in that topic."""
    try:
        name = decision_id_of(decode_decision(value or b"").id)
    except msgspec.DecodeError:
        return None
    return None if name is None else _Found(name, value or b"")
