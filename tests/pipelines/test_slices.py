"""How long one slice of a chunk may hold the event loop."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from headrace.models.decisions import decode_decision
from headrace.pipelines import slices as of_slices
from headrace.pipelines.slices import SLICE_BYTES_MAX
from headrace.state.memory import MemoryStore
from tests.pipelines.small_shard import DECISIONS, Event, Sink, chunk, event, open_shard


class Counting(Sink):
    """A sink that counts the slices: `flow` is awaited after each."""

    slices = 0

    async def flow(self) -> None:
        self.slices += 1


def large(offset: int, size: int) -> Event:
    """A bad event: to say what is wrong with it takes a look at all of it."""
    value = msgspec.json.encode({"id": "a", "more": [1] * (size // 2)}) + b"x"
    return Event(offset, offset, b"a", value)


@pytest.mark.parametrize(("size", "slices"), [(SLICE_BYTES_MAX // 4, 10), (900_000, 30)])
async def test_a_slice_is_bounded_by_bytes(size: int, slices: int) -> None:
    """After many small events a slice holds 256; of large ones so many as fit, at least one."""
    shard = open_shard(sink := Counting(), MemoryStore())
    await shard.process(chunk(*(event(n) for n in range(600))))
    assert sink.slices < 60
    sink.slices = 0
    await shard.process(chunk(*(large(n, size) for n in range(600, 630))))
    assert sink.slices >= slices
    assert shard.learner.quarantined == 30


async def test_large_bad_events_do_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn between two large events; without the bound they would wait for all."""

    async def turns() -> int:
        shard, taken = open_shard(Sink(), MemoryStore()), 0
        await shard.process(chunk(*(event(n) for n in range(600))))
        working = asyncio.create_task(
            shard.process(chunk(*(large(n, 300_000) for n in range(600, 620))))
        )
        while not working.done():
            taken += 1
            await asyncio.sleep(0)
        return taken

    monkeypatch.setattr(of_slices, "SLICE_S", 60.0)  # time cuts none, however slow the machine
    assert await turns() >= 20
    monkeypatch.setattr(of_slices, "SLICE_BYTES_MAX", 1 << 40)
    assert await turns() < 10


async def test_a_command_need_not_wait_for_all_of_a_long_chunk() -> None:
    """It counts where the shard stands when it is asked for; the rest is handled behind it."""
    shard = open_shard(sink := Sink(), MemoryStore())
    counted: list[int] = []

    async def effect(offset: int) -> int:
        counted.append(offset)
        await asyncio.sleep(0)  # the chunk is not gone on with until it is read back
        assert shard.next_offset == offset
        return offset

    learning = asyncio.create_task(shard.process(chunk(*(event(n) for n in range(600)))))
    while not shard.next_offset:  # noqa: ASYNC110 - after its first slice
        await asyncio.sleep(0)
    await shard.apply("pause", 5, effect)
    await learning
    assert 0 < counted[0] < 600
    decided = [decode_decision(value) for value in sink.of(DECISIONS)]
    assert [decision.position.offset for decision in decided] == list(range(600))
    assert [decision.updates for decision in decided] == [min(n, counted[0]) for n in range(600)]


async def test_a_stop_does_not_wait_for_all_of_a_long_chunk() -> None:
    """What is closed between two slices has learned so far, durably, and no further."""
    shard = open_shard(sink := Sink(), store := MemoryStore())
    learning = asyncio.create_task(shard.process(chunk(*(event(n) for n in range(600)))))
    while not shard.next_offset:  # noqa: ASYNC110 - after its first slice
        await asyncio.sleep(0)
    await shard.close(flush=True)
    await learning
    assert store.meta is not None
    assert 0 < store.meta.next_offset == shard.next_offset == len(sink.of(DECISIONS)) < 600
