"""A decision, or a stretch of them, found by halving, whatever comes late a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.models.decisions import (
    Boundary,
    Decision,
    Origin,
    encode_boundary,
    encode_decision,
)
from headrace.models.exclusion import DecisionId
from headrace.pipelines import control, decisionlog
from headrace.pipelines.decided import decided_below, newest_epoch
from headrace.pipelines.decisionlog import DecisionLog
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.reader import Logs, LogSpan
from headrace.pipelines.replay import Pieces
from headrace.views import Partition, Position
from tests.pipelines.turns import turns_of_others

WHERE = Partition("decided", 0)
EVENTS = Partition("t", 0)


class Topic:
    """As much of `pipelines.reader.Logs` as is needed, over values; it counts what is read."""

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        self.read = 0

    async def span(self, _: Partition) -> LogSpan:
        return LogSpan(0, len(self.values))

    @asynccontextmanager
    async def replay(self, partition: Partition, begin: int) -> AsyncIterator[Any]:
        pieces, topic = Pieces(partition, begin), self

        class Replay:
            async def upto(self, offset: int) -> Any:
                end = min(offset, len(topic.values))
                there = enumerate(topic.values[begin:end], begin)
                rows = [SimpleNamespace(offset=n, value=value) for n, value in there]
                pieces.add([row for row in rows if not pieces.reach(row.offset + 1)], end)
                chunk = pieces.upto(offset)
                topic.read += 0 if chunk is None else len(chunk.records)
                return chunk

        yield Replay()


def decision(offset: int, epoch: int = 1) -> bytes:
    origin = Origin("a", 1, epoch, *EVENTS)
    return encode_decision(
        Decision(
            id=origin.decision_id(offset),
            agent="a",
            spec_version=1,
            epoch=epoch,
            key="ada",
            position=Position(*EVENTS, offset),
            event_time=0,
            decision="score",
        )
    )


def boundary(offset: int, epoch: int, life: int = 1) -> bytes:
    return encode_boundary(
        Boundary(
            id=Origin("a", 1, epoch, *EVENTS).boundary_id(),
            agent="a",
            life=life,
            epoch=epoch,
            position=Position(*EVENTS, offset),
            control_id="c",
        )
    )


def rank(record: Decision | Boundary) -> int | None:
    return None if isinstance(record, Boundary) else record.position.offset


@st.composite
def topics(draw: st.DrawFn) -> list[int]:
    """Offsets of events as their decisions came: rising, and at times a piece of them again."""
    offsets: list[int] = []
    for n in range(draw(st.integers(1, 120))):
        offsets.append(n)
        if draw(st.integers(0, 9)) == 0:
            begin = draw(st.integers(0, n))
            offsets += range(begin, min(n + 1, begin + draw(st.integers(1, 16))))
    return offsets


@given(offsets=topics(), share=st.floats(0, 1))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_of_the_stretch_comes_before_where_it_is_read_from(
    monkeypatch: pytest.MonkeyPatch, offsets: list[int], share: float
) -> None:
    """Every decision from the wanted one on is read for the first time behind that place."""
    monkeypatch.setattr(decisionlog, "PIECE_RECORDS", 4)
    monkeypatch.setattr(decisionlog, "GIVE_WAY_S", 0)
    monkeypatch.setattr(decisionlog, "LATE_RECORDS", 16 * 6)
    wanted = int(share * max(offsets))
    logs = cast(Logs, Topic([decision(offset) for offset in offsets]))
    span = LogSpan(0, len(offsets))
    begin = asyncio.run(DecisionLog(logs, WHERE).begins(span, wanted, rank))
    assert begin <= offsets.index(wanted)


async def test_a_long_topic_is_not_read_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is read of 20,000 decisions to find one: what it looks back over, and little more."""
    monkeypatch.setattr(decisionlog, "LATE_RECORDS", 1_000)
    topic = Topic([decision(offset) for offset in range(20_000)])
    begin = await DecisionLog(cast(Logs, topic), WHERE).begins(LogSpan(0, 20_000), 15_000, rank)
    assert 14_000 < begin <= 15_000
    assert topic.read < 12_000


async def test_others_have_their_turn_while_a_long_topic_is_read() -> None:
    """Events and questions wait for no more than one piece, although all of it is there at once."""
    topic = Topic([decision(offset) for offset in range(5_000)])
    there = DecisionLog(cast(Logs, topic), WHERE).pieces(LogSpan(0, 5_000))
    async with turns_of_others() as turns:
        read = [len(piece) async for piece in there]
    assert sum(read) == 5_000
    assert turns.count >= len(read)


async def test_a_long_topic_is_not_read_while_somebody_has_precedence() -> None:
    """No piece more while a state is replaced; all the rest when that is done."""
    topic, precedence = Topic([decision(offset) for offset in range(2_000)]), Precedence()
    there = DecisionLog(cast(Logs, topic), WHERE, precedence).pieces(LogSpan(0, 2_000))
    read = len(await anext(there))
    with precedence.held():
        waiting = asyncio.ensure_future(anext(there))
        await asyncio.sleep(20 * decisionlog.GIVE_WAY_S)
        assert not waiting.done()
        assert topic.read == read
    read += len(await waiting)
    async for piece in there:
        read += len(piece)
    assert read == 2_000


def test_a_batch_holds_no_more_decisions_than_is_reckoned_with() -> None:
    """The smallest decision there is has that many bytes, so LATE_RECORDS is what can be late."""
    assert len(decision(0)) >= decisionlog.DECISION_BYTES_MIN


def wanted(offset: int, epoch: int = 1) -> DecisionId:
    return DecisionId("a", epoch, *EVENTS, offset)


@given(offsets=topics(), begin=st.integers(0, 60), share=st.floats(0, 1))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_decision_is_found_by_its_id_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, offsets: list[int], begin: int, share: float
) -> None:
    """Also where an epoch has ended in between; and none that is not there."""
    monkeypatch.setattr(decisionlog, "PIECE_RECORDS", 4)
    monkeypatch.setattr(decisionlog, "GIVE_WAY_S", 0)
    monkeypatch.setattr(decisionlog, "LATE_RECORDS", 16 * 6)
    there = [(offset, 1 + (offset >= begin)) for offset in offsets]
    logs = cast(Logs, Topic([decision(*place) for place in there]))
    asked = int(share * (max(offsets) + 1))
    for place in ((asked, 1), (asked, 2)):
        found = asyncio.run(DecisionLog(logs, WHERE).decision_of(wanted(*place)))
        assert found == (decision(*place) if place in there else None)


async def test_decisions_that_came_late_again_hide_none() -> None:
    """As a worker writes them that was paused: a piece of a hundred, 500 behind their place."""
    offsets = [*range(1_000), *range(500, 600), *range(1_000, 2_000)]
    logs = cast(Logs, Topic([decision(offset) for offset in offsets]))
    for offset in range(500, 1_000, 20):
        found = await DecisionLog(logs, WHERE).decision_of(wanted(offset))
        assert found == decision(offset)


async def test_a_void_decision_is_found_behind_the_boundary() -> None:
    """It comes when its epoch has ended, so behind decisions of the next one."""
    later = [decision(offset, 2) for offset in range(900, 2_000)]
    void = [decision(offset) for offset in range(900, 950)]
    values = [*(decision(n) for n in range(900)), boundary(900, 2), *later[:300], *void, *later]
    logs = cast(Logs, Topic(values))
    assert await DecisionLog(logs, WHERE).decision_of(wanted(920)) == decision(920)


def test_a_boundary_tells_how_far_was_decided_and_what_is_void_does_not() -> None:
    """Of this life and partition; a decision behind the end of its epoch counts for nothing."""
    registry = control.Registry()
    deploy = control.Deploy(id="d", agent="a", spec={}, digest="1", emit_topic="decided")
    base = control.Base(partition=0, epoch=1, next_offset=2, digest="")
    back = control.Rollback(id="r", agent="a", life=1, snapshot_id="s", bases=(base,))
    effects = [
        control.ShardEffect(
            id=f"{cid}/t/0", control_id=cid, agent="a", epoch=epoch, topic="t", partition=0,
            next_offset=offset, worker="w",
        )
        for cid, epoch, offset in (("d", 1, 0), ("r", 2, 10))
    ]  # fmt: skip
    records: tuple[control.ControlRecord, ...] = (deploy, effects[0], back, effects[1])
    for offset, record in enumerate(records):
        registry.apply(record, offset)
    deployment = registry.get("a")

    def told(*values: bytes) -> int:
        records = [SimpleNamespace(value=value) for value in values]
        return decided_below(cast(Any, records), deployment, EVENTS)

    assert told(decision(7)) == 8
    assert told(decision(7), boundary(10, 2)) == 10
    assert told(boundary(10, 2), decision(12, epoch=2)) == 13
    assert told(boundary(10, 2), decision(14, epoch=1)) == 10  # void
    assert told(boundary(10, 2, life=7), decision(7)) == 8
    values = cast(Any, [SimpleNamespace(value=v) for v in (decision(7), boundary(10, 2), b"?")])
    assert newest_epoch(values, "a") == 2
    assert newest_epoch(values, "b") == 0
    foreign = cast(Any, [SimpleNamespace(value=decision(7, epoch=2**63 - 1)), *values])
    assert newest_epoch(foreign, "a") == 2  # the next one would be no number that a record can hold
