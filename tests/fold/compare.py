"""The fold against what a service left behind: rows, decisions, quarantined events.

Each comparison returns sentences, one per difference; none means that the two are exactly equal.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from headrace.models import codec
from tests.fold.oracle import Origin
from tests.fold.state import Folded, KeyFold

KEYS = b"k/"
LAYOUT = 1
TOLD_MAX = 12  # differences told of one kind


class StoredRows(Protocol):
    """The rows of a shard's store."""

    def get(self, row: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]: ...


class _Row(msgspec.Struct, array_like=True):
    """A key's row as it is stored, SHA-256 aside."""

    layout: int
    last_seen: int
    last_learned: int
    updates: int
    full: bool
    baseline: list[Any]
    waiting: list[Any]
    model: bytes


def rows(folded: Folded, stored: StoredRows) -> list[str]:
    """All keys' models, bit for bit, and all that is kept beside them; the shard's counters.

    A key that has been idle for too long may still have its row, or not any more.
    """
    there = {name[len(KEYS) :].decode(): data for name, data in stored.scan(KEYS)}
    found = [
        f"key {key!r} has a row, the fold knows no such key"
        for key in there.keys() - folded.keys.keys()
    ]
    for key, state in folded.keys.items():
        if key in there:
            found += _key(key, state, there[key])
        elif key not in folded.idle:
            found.append(f"key {key!r} has no row")
    return [*_few(found), *_counters(folded, stored)]


def _key(key: str, state: KeyFold, data: bytes) -> list[str]:
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        return [f"key {key!r}: the row does not match its digest"]
    row = msgspec.msgpack.decode(data[32:], type=_Row)
    simple = state.simple
    pairs = [
        ("layout", row.layout, LAYOUT),
        ("updates", row.updates, state.updates),
        ("last_seen", row.last_seen, state.last_seen),
        ("last_learned", row.last_learned, state.last_learned),
        ("full", row.full, False),
        ("baseline", row.baseline, [simple.count, simple.mean, simple.last, simple.classes]),
        (
            "waiting",
            row.waiting,
            [[w.since, w.offset, w.x, w.base, list(w.guess)] for w in state.waiting],
        ),
    ]
    found = [
        f"key {key!r}: {what} is {is_!r}, not {must!r}" for what, is_, must in pairs if is_ != must
    ]
    if row.model != codec.encode(state.model):
        found.append(f"key {key!r}: the model's bytes differ after {state.updates} updates")
    return found


def _counters(folded: Folded, stored: StoredRows) -> list[str]:
    counters, logtime = stored.get(b"s/counters"), stored.get(b"s/logtime")
    if counters is None or logtime is None:
        empty = not folded.counted and not folded.counted_bad
        return [] if empty else ["there are no counters, although events came"]
    must = [
        folded.counted,
        folded.counted_bad,
        folded.learned,
        folded.unlabelled,
        folded.labels_lost,
        0,
    ]
    found = []
    counted, slack = msgspec.msgpack.decode(counters), folded.uncertain
    if any(abs(is_ - m) > slack for is_, m in zip(counted, must, strict=True)):
        found.append(f"the counters are {counted}, not {must}")
    if (clock := msgspec.msgpack.decode(logtime)) != [folded.now, folded.stamps]:
        found.append(f"log time is {clock[0]}, not {folded.now}, or its window differs")
    return found


def decisions(
    folded: Folded,
    values: Iterable[bytes],
    origin: Origin,
    *,
    whole: bool = True,
    epochs: Collection[int] = (),
) -> list[str]:
    """Each event that is emitted has its one decision; repeats are byte-identical; no others.

    `values` are the decision topic's, of one partition; those of other epochs than `epochs` (the
    origin's, if there are none) are left out. Not `whole`: the last ones may be missing, because
    the agent was deleted.
    """
    epochs = epochs or (origin.epoch,)
    by_offset: dict[int, set[bytes]] = defaultdict(set)
    found = []
    for value in values:
        told = msgspec.json.decode(value)
        if told["agent"] != origin.agent or told["epoch"] not in epochs:
            continue
        if told["cause"] != "event":
            continue
        offset = told["position"]["offset"]
        by_offset[offset].add(value)
        if told["id"] != replace(origin, epoch=told["epoch"]).id_of(offset):
            found.append(f"the decision on offset {offset} is called {told['id']!r}")
    last = max(by_offset, default=-1)
    for offset in sorted(folded.decisions.keys() | by_offset.keys()):
        if not whole and offset > last:
            break
        found += _decision(offset, folded.decisions.get(offset), by_offset.get(offset, set()))
    return _few(found)


def _decision(offset: int, must: dict[str, Any] | None, values: set[bytes]) -> list[str]:
    if must is None:
        return [f"there is a decision on offset {offset}, which must have none"]
    if not values:
        return [f"the decision on offset {offset} is missing"]
    if len(values) > 1:
        return [f"there are {len(values)} different decisions on offset {offset}"]
    told = msgspec.json.decode(next(iter(values)))
    return [
        f"the decision on offset {offset} says {name} {told.get(name)!r}, not {must.get(name)!r}"
        for name in must.keys() | told.keys()
        if told.get(name) != must.get(name)
    ]


def quarantined(
    folded: Folded,
    values: Iterable[bytes],
    origin: Origin,
    *,
    whole: bool = True,
    epochs: Collection[int] = (),
) -> list[str]:
    """Exactly the refused events are in quarantine, each with its reason.

    `values` are the quarantine topic's; those of other agents, epochs and partitions are left out.
    `whole` and `epochs` as for decisions.
    """
    epochs = epochs or (origin.epoch,)
    there: dict[int, set[bytes]] = defaultdict(set)
    for value in values:
        told = msgspec.json.decode(value)
        position = told["position"]
        mine = (told["agent"], position["topic"], position["partition"])
        ours = (origin.agent, origin.topic, origin.partition)
        if mine == ours and told["epoch"] in epochs:
            there[position["offset"]].add(value)
    found = []
    last = max(there, default=-1)
    for offset in sorted(folded.refused.keys() | there.keys()):
        if not whole and offset > last:
            break
        must = folded.refused.get(offset)
        codes = {msgspec.json.decode(value)["reason"] for value in there.get(offset, ())}
        if must is None:
            found.append(f"offset {offset} is in quarantine ({codes}), and must not be")
        elif not codes:
            found.append(f"the quarantined event at offset {offset} is missing: {must}")
        elif codes != {must} or len(there[offset]) > 1:
            found.append(f"offset {offset} is in quarantine as {codes}, not as {must}")
    return _few(found)


def _few(found: list[str]) -> list[str]:
    more = len(found) - TOLD_MAX
    return found if more <= 0 else [*found[:TOLD_MAX], f"and {more} more"]
