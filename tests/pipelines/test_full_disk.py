"""A shard on a disk without room: it answers and waits, and loses and doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import load_spec
from headrace.pipelines.shard import ROOM_LOOK_S, Shard
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.state.memory import MemoryStore
from headrace.state.store import ShardStore
from headrace.views import Question
from tests.pipelines.small_shard import DECISIONS, QUARANTINE, SPEC, Event, Sink, chunk, event, rows
from tests.small_disk import SmallDisk

KEYS = 1500


@pytest.fixture
def store(disk: SmallDisk) -> Iterator[ShardStore]:
    store = ShardStore.open(disk.path / "shard", create=True)
    yield store
    store.close()


def opened(store: ShardStore | MemoryStore, sink: Sink) -> Shard:
    spec = load_spec(SPEC + "state: {flush_keys: 100000, flush_ms: 50}\n")
    learner = Learner(spec, Origin("warmth", 1, 1, "readings", 0), store)
    outlets = Outlets(sink, DECISIONS, QUARANTINE)
    at = store.meta.next_offset if store.meta else 0
    return Shard(learner, store, outlets, ShardStart(at, 0, "c", spec.digest))


def wave(number: int) -> list[Event]:
    start = number * KEYS
    return [event(start + n, key=f"key-{n}") for n in range(KEYS)]


async def test_a_flush_without_room_waits_and_succeeds_later(
    disk: SmallDisk, store: ShardStore
) -> None:
    """Nothing becomes durable, everything is answered from memory; with room again the same rows
    are written as if nothing had been. Until then the shard says what it waits for.
    """
    shard = opened(store, Sink())
    await shard.process(chunk(*wave(0)))
    await shard.flush()
    disk.fill()
    await shard.process(chunk(*wave(1)))
    await shard.flush()
    assert "No space left on device" in shard.waits_for
    assert (shard.next_offset, shard.durable_offset) == (2 * KEYS, KEYS)
    asked = Question(agent="warmth", key="key-7", features={"power": 3.0})
    assert shard.learner.predict(asked, shard.next_offset).standing.updates == 2
    await shard.flush()
    assert shard.waits_for
    disk.empty()
    await shard.flush()
    assert (shard.waits_for, shard.durable_offset) == ("", 2 * KEYS)
    await shard.process(chunk(*wave(2)))
    await shard.close(flush=True)

    straight = MemoryStore()
    other = opened(straight, Sink())
    for number in range(3):
        await other.process(chunk(*wave(number)))
    await other.flush()
    again = ShardStore.open(disk.path / "shard", create=False)
    assert again.meta == straight.meta
    assert dict(again.scan(b"")) == rows(straight)
    again.close()


async def test_no_more_of_a_chunk_is_learned_when_a_flush_finds_no_room(
    disk: SmallDisk, store: ShardStore
) -> None:
    """One between two of its slices: the rest waits for room, and comes then."""
    shard = opened(store, Sink())
    learning = asyncio.create_task(shard.process(chunk(*wave(0))))
    while not shard.next_offset:  # noqa: ASYNC110 - after its first slice
        await asyncio.sleep(0)
    disk.fill()
    await shard.flush()
    assert shard.waits_for
    stood = shard.next_offset
    await asyncio.sleep(2 * ROOM_LOOK_S)
    assert shard.next_offset == stood < KEYS
    disk.empty()
    await shard.flush()
    await learning
    assert shard.next_offset == KEYS


async def test_a_shard_that_closes_without_room_is_learned_again_from_there(
    disk: SmallDisk, store: ShardStore
) -> None:
    """A stop or a rebalance on a full disk ends, with the state of the last flush."""
    sink = Sink()
    shard = opened(store, sink)
    await shard.process(chunk(*wave(0)))
    await shard.flush()
    disk.fill()
    await shard.process(chunk(*wave(1)))
    await shard.close(flush=True)
    disk.empty()
    again = ShardStore.open(disk.path / "shard", create=False)
    shard = opened(again, sink)
    assert shard.next_offset == KEYS
    await shard.process(chunk(*wave(1)))
    await shard.close(flush=True)
    made = sink.of(DECISIONS)
    assert len(made) == 3 * KEYS
    assert len(set(made)) == 2 * KEYS


async def test_the_timer_tries_again_by_itself(disk: SmallDisk, store: ShardStore) -> None:
    """Nobody has to do anything but make room."""
    shard = opened(store, Sink())
    disk.fill()
    await shard.process(chunk(*wave(0)))
    await shard.flush()
    assert shard.waits_for
    flushing = asyncio.ensure_future(shard.flush_by_timer())
    disk.empty()
    async with asyncio.timeout(10):
        while shard.durable_offset != KEYS:  # noqa: ASYNC110 - a timer tells nobody
            await asyncio.sleep(0.02)
    assert not shard.waits_for
    await shard.close(flush=False)
    await flushing
