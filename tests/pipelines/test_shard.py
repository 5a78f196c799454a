"""A shard turns chunks into decisions and durable rows, in an order that loses and doubles none."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CorruptStateError, StateError
from headrace.models.decisions import decode_decision
from headrace.pipelines import quarantine
from headrace.pipelines.changes import Change
from headrace.pipelines.shard import Shard
from headrace.state.memory import MemoryStore
from tests.pipelines.small_shard import (
    DECISIONS,
    QUARANTINE,
    SPEC,
    Chunk,
    Sink,
    Store,
    as_logged,
    chunk,
    event,
    open_shard,
    rows,
)


async def test_state_is_written_after_acknowledgement_and_committed_after_that() -> None:
    """The flush order: decisions acknowledged, then state written, then the offset is durable."""
    sink = Sink()
    store = Store(sink)
    shard = open_shard(sink, store)
    await shard.process(chunk(*(event(n) for n in range(10))))
    assert (shard.next_offset, shard.durable_offset) == (10, 0)
    await shard.flush()
    assert sink.journal == ["acknowledged", "written 10"]
    assert shard.durable_offset == 10


async def test_without_acknowledgement_nothing_is_written() -> None:
    """When Kafka does not take the decisions, the state stays where it was."""
    sink = Sink()
    store = Store(sink)
    shard = open_shard(sink, store)
    await shard.process(chunk(event(0)))
    sink.broken = True
    with pytest.raises(ConnectionError):
        await shard.flush()
    assert store.meta is None
    assert shard.durable_offset == 0


async def test_records_that_were_learned_are_skipped() -> None:
    """A chunk that comes again, or overlaps, teaches only what is new."""
    shard = open_shard(sink := Sink(), Store(sink))
    await shard.process(chunk(*(event(n) for n in range(6))))
    await shard.process(chunk(*(event(n) for n in range(6))))
    await shard.process(chunk(*(event(n) for n in range(4, 9))))
    assert shard.learner.accepted == 9
    offsets = [decode_decision(value).offset for value in sink.of(DECISIONS)]
    assert offsets == list(range(9))


async def test_a_chunk_before_which_records_are_missing_waits_until_they_have_come() -> None:
    """A shard that is opened while a later chunk is on its way does not begin with that."""
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store)
    late = Chunk([event(n) for n in range(5, 10)], next_offset=10, begins=5)
    await shard.process(late)
    assert (shard.next_offset, sink.appended) == (0, [])
    await shard.process(chunk(*(event(n) for n in range(5))))
    await shard.process(late)
    assert (shard.next_offset, len(sink.appended)) == (10, 10)


async def test_what_is_left_of_a_chunk_waits_when_nothing_flows_any_more() -> None:
    """A rebalance waits for one slice, not for thousands of events of all agents of a topic."""
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store)
    whole = chunk(*(event(n) for n in range(3000)))
    await shard.process(whole, lambda: False)
    assert 0 < shard.next_offset < 3000
    assert len(sink.appended) == shard.next_offset
    await shard.process(whole)
    assert (shard.next_offset, len(sink.appended)) == (3000, 3000)


async def test_a_restart_at_any_flush_gives_the_same_rows_and_decisions() -> None:
    """Losing what was learned after a flush and learning it again ends in the same bytes."""
    events = [event(n, key="abc"[n % 3]) for n in range(40)]
    straight, straight_store = Sink(), MemoryStore()
    shard = open_shard(straight, straight_store)
    await shard.process(chunk(*events))
    await shard.flush()

    sink, store = Sink(), MemoryStore()
    for stop, lost in ((9, 13), (20, 20), (33, 40), (40, 40)):
        shard = open_shard(sink, store)
        await shard.process(chunk(*events[shard.next_offset : stop]))
        await shard.flush()
        if lost > stop:  # learned and decided, but never flushed: the crash forgets it
            await shard.process(chunk(*events[stop:lost]))
    assert rows(store) == rows(straight_store)
    first_of: dict[str, bytes] = {}
    for value in sink.of(DECISIONS):
        record = decode_decision(value)
        assert first_of.setdefault(record.id, value) == value, "a repeat must be byte-identical"
    assert sorted(first_of.values()) == sorted(straight.of(DECISIONS))


async def test_a_bad_event_goes_to_quarantine_and_the_stream_goes_on() -> None:
    """The refused event is kept with its reason, its position and its bytes; its key's row stays
    as it was.
    """
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store)
    await shard.process(chunk(event(0)))
    await shard.flush()
    before = rows(store)[b"k/a"]
    bad = event(1, power="hot")
    await shard.process(chunk(bad))
    await shard.flush()
    assert rows(store)[b"k/a"] == before
    await shard.process(chunk(event(2)))
    assert shard.learner.learned == 2
    kept = [quarantine.decode(value) for value in sink.of(QUARANTINE)]
    assert [(k.reason, k.position.offset, k.path) for k in kept] == [("wrong_type", 1, "$.power")]
    assert quarantine.original(kept[0]) == bad.value


async def test_a_hole_in_the_log_is_passed() -> None:
    """Compacted offsets and transaction markers move the position without any record."""
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store)
    await shard.process(chunk(event(0), event(5), next_offset=9))
    await shard.flush()
    assert store.meta is not None
    assert store.meta.next_offset == 9
    assert store.meta.applied is not None
    assert store.meta.applied.offset == 5


async def test_a_pause_takes_effect_at_its_offset_also_inside_a_chunk() -> None:
    """After a restart the pause is replayed at the position that the control log states."""
    sink = Sink()
    shard = open_shard(sink, MemoryStore())
    await shard.schedule([Change(3, "pause", 1), Change(7, "resume", 2)])
    await shard.process(chunk(*(event(n) for n in range(10))))
    updates = [decode_decision(value).updates for value in sink.of(DECISIONS)]
    assert updates == [0, 1, 2, 3, 3, 3, 3, 3, 4, 5]
    assert shard.learner.learned == 6


async def test_a_pause_that_overtook_a_rewind_counts_before_it_after_a_restart() -> None:
    """The rewind stands before it in the control log, and counted behind it."""
    sink, at = Sink(), []

    async def work(shard: Shard) -> bool:
        at.append(shard.next_offset)
        return True

    shard = open_shard(sink, MemoryStore())
    await shard.schedule([Change(7, "rollback", 1, work), Change(3, "pause", 2)])
    await shard.process(chunk(*(event(n) for n in range(10))))
    assert (shard.learner.learned, at) == (3, [7])


async def test_a_command_that_counts_behind_a_hole_is_done_where_it_counts() -> None:
    """As when it came: offsets without a record do not keep the shard before it."""
    store, at = MemoryStore(), []

    async def work(shard: Shard) -> bool:
        await shard.settle()
        assert store.meta is not None
        at.append((shard.next_offset, store.meta.next_offset))
        return True

    shard = open_shard(Sink(), store)
    await shard.schedule([Change(7, "rollback", 1, work)])
    await shard.process(chunk(*(event(n) for n in (0, 1, 2, 3, 9))))
    assert at == [(7, 7)]
    assert (shard.next_offset, shard.learner.learned) == (10, 5)


async def test_no_event_is_handled_before_the_effect_is_read_back() -> None:
    """Between the append of an effect and its coming back the shard stands still."""
    sink = Sink()
    shard = open_shard(sink, MemoryStore())
    await shard.process(chunk(event(0)))
    read_back = asyncio.Event()

    async def effect(offset: int) -> int:
        await read_back.wait()
        return offset

    applying = asyncio.create_task(shard.apply("pause", 5, effect))
    await asyncio.sleep(0)
    processing = asyncio.create_task(shard.process(chunk(event(1))))
    for _ in range(20):
        await asyncio.sleep(0)
    assert shard.next_offset == 1
    read_back.set()
    await asyncio.gather(applying, processing)
    assert (shard.next_offset, shard.learner.learned, shard.paused) == (2, 1, True)


async def test_many_changed_keys_flush_without_a_timer() -> None:
    """A shard flushes by size, so that what a crash repeats is bounded."""
    sink = Sink()
    shard = open_shard(sink, Store(sink), flush_keys=3)
    await shard.process(chunk(event(0, "a"), event(1, "b")))
    assert shard.durable_offset == 0
    await shard.process(chunk(event(2, "c")))
    assert shard.durable_offset == 3


async def test_a_flush_without_news_writes_nothing() -> None:
    """A quiet log costs no disk."""
    shard = open_shard(sink := Sink(), Store(sink))
    await shard.process(chunk(event(0)))
    await shard.flush()
    await shard.flush()
    assert sink.journal == ["acknowledged", "written 1"]


async def test_closing_flushes_and_refuses_what_comes_later() -> None:
    """After its close a shard takes no chunk, so a late one cannot touch a closed store."""
    sink = Sink()
    shard = open_shard(sink, Store(sink))
    await shard.process(chunk(event(0)))
    await shard.close(flush=True)
    await shard.process(chunk(event(1)))
    await shard.flush()
    assert sink.journal == ["acknowledged", "written 1"]
    assert shard.next_offset == 1


async def test_idle_rows_are_deleted_by_log_time() -> None:
    """A key that was not seen for `idle_ttl` of log time leaves the store; others stay."""
    text = SPEC + "state: {idle_ttl: 1h}\n"
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store, text)
    await shard.process(chunk(event(0, "old", at=0), event(1, "kept", at=0)))
    await shard.flush()
    later = [event(n, "kept", at=4_000_000) for n in range(2, 120)]
    await shard.process(chunk(*later))
    await shard.flush()
    assert b"k/old" in rows(store)
    await shard.sweep()
    assert b"k/old" not in rows(store)
    assert b"k/kept" in rows(store)


class TornStore(MemoryStore):
    """Fails to read one key's row, as a damaged disk does."""

    def get(self, row: bytes) -> bytes | None:
        if row == b"k/torn":
            raise CorruptStateError("row k/torn does not match its digest")
        return super().get(row)


async def test_a_shard_that_failed_inside_a_chunk_is_never_flushed_again() -> None:
    """Its live models may be ahead of its position: written down, an event would count twice."""
    sink, store = Sink(), TornStore()
    shard = open_shard(sink, store)
    await shard.process(chunk(event(0)))
    await shard.flush()
    with pytest.raises(CorruptStateError):
        await shard.process(chunk(event(1), event(2, "torn")))
    await shard.flush()
    await shard.close(flush=True)
    assert store.meta is not None
    assert store.meta.next_offset == 1


async def test_a_command_that_was_scheduled_is_not_applied_again() -> None:
    """What the shard took from the control log when it opened may be announced once more; by then
    a later command may have undone it.
    """
    shard = open_shard(Sink(), MemoryStore())
    await shard.schedule([Change(0, "pause", 1), Change(0, "resume", 2)])

    async def effect(offset: int) -> int:
        raise AssertionError("no second effect is logged")

    await shard.apply("pause", 1, effect)
    assert not shard.paused


async def test_a_command_that_nobody_applied_counts_from_behind_what_is_decided() -> None:
    """Events learned again after a crash have decisions out already: the pause comes after them."""
    shard = open_shard(sink := Sink(), MemoryStore(), decided_below=3)
    await shard.apply("pause", 1, as_logged)
    await shard.process(chunk(*(event(n) for n in range(6))))
    updates = [decode_decision(value).updates for value in sink.of(DECISIONS)]
    assert updates == [0, 1, 2, 3, 3, 3]


async def test_an_effect_that_counts_below_the_position_is_refused() -> None:
    """Another worker held the shard and logged an earlier place: this state went on too far."""
    shard = open_shard(Sink(), MemoryStore())
    await shard.process(chunk(event(0), event(1)))

    async def effect(offset: int) -> int:
        return 1

    with pytest.raises(StateError, match="state directory"):
        await shard.apply("pause", 5, effect)


async def test_a_close_whose_flush_fails_still_releases_the_store() -> None:
    """The lock of a shard that could not be flushed must not outlive it."""
    sink, store = Sink(), MemoryStore()
    shard = open_shard(sink, store)
    await shard.process(chunk(event(0)))
    sink.broken = True
    with pytest.raises(ConnectionError):
        await shard.close(flush=True)
    with pytest.raises(AssertionError):
        store.get(b"k/a")
    await shard.close(flush=True)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.booleans()), max_size=6),
    size=st.integers(1, 17),
)
def test_any_world_of_crashes_ends_in_the_same_bytes(
    cuts: list[tuple[int, int, bool]], size: int
) -> None:
    """Crash anywhere, with or without a flush before, repeat chunks of any size: rows and the
    first bytes of each decision are those of the uninterrupted run.
    """
    events = [event(n, key="abcd"[n * n % 4], power=-1 if n % 9 == 5 else None) for n in range(40)]

    async def world() -> tuple[MemoryStore, Sink]:
        sink, store = Sink(), MemoryStore()
        for stop, lost, flush_fails in [*cuts, (40, 0, False)]:
            shard = open_shard(sink, store, flush_keys=3)
            for begin in range(max(shard.next_offset - 2, 0), stop, size):
                await shard.process(chunk(*events[begin : min(begin + size, stop)]))
            if flush_fails:
                continue
            await shard.flush()
            if lost and stop < 40:
                await shard.process(chunk(*events[stop : stop + lost]))
        return store, sink

    async def straight() -> tuple[MemoryStore, Sink]:
        sink, store = Sink(), MemoryStore()
        shard = open_shard(sink, store)
        await shard.process(chunk(*events))
        await shard.flush()
        return store, sink

    (store, sink), (expected, expected_sink) = asyncio.run(world()), asyncio.run(straight())
    assert rows(store) == rows(expected)
    for to in (DECISIONS, QUARANTINE):
        assert dict.fromkeys(sorted(sink.of(to))) == dict.fromkeys(sorted(expected_sink.of(to)))
