"""The driver over a log in memory that loses chunks, has holes, and repeats itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from headrace.config import Config
from headrace.errors import StateError
from headrace.pipelines.faustapp import FaustApp
from headrace.pipelines.fetchthread import OffsetGoneError, _out_of_range
from headrace.pipelines.transport import CHUNKS_IN_FLIGHT_MAX, Chunk, ChunkConsumer
from headrace.views import Partition
from tests.pipelines.test_order import Event

AT = TP("t", 0)
BESIDE = TP("beside", 0)


class Positions:
    """What a worker would say."""

    def __init__(self) -> None:
        self.next: int | None = 0
        self.durable: int | None = None

    def next_offset(self, partition: Partition) -> int | None:
        return self.next

    def durable_offset(self, partition: Partition) -> int | None:
        return self.durable


class Log:
    """Stands in for the fetching thread: one partition whose offsets are `offsets`.

    `lose`: begins of fetches whose records never arrive, once each, as around a rebalance.
    `beside`: of another partition, what it has next.
    """

    def __init__(self, offsets: Iterable[int], *, step: int = 10) -> None:
        self.offsets = list(offsets)
        self.step = step
        self.position = 0
        self.lose: set[int] = set()
        self.beside: list[int] = []
        self.sought: list[int] = []
        self.group: int | None = None
        self.first = 0
        self.fails: Exception | None = None

    async def getmany(self, active: Any, wait_s: float) -> dict[TP, Chunk]:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        if BESIDE in active and self.beside:
            records = [Event(self.beside.pop(0))]
            return {BESIDE: Chunk(*BESIDE, records, records[0].offset + 1)}
        if AT not in active:
            return {}
        here = [o for o in self.offsets if o >= self.position][: self.step]
        if not here:
            return {}
        begin, self.position = self.position, here[-1] + 1
        if begin in self.lose:
            self.lose.discard(begin)
            return {}
        return {AT: Chunk("t", 0, [Event(o) for o in here], self.position)}

    async def seek_to(self, offsets: Mapping[TP, int]) -> None:
        self.position = offsets[AT]
        self.sought.append(self.position)

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        return {AT: self.group}

    async def spans(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (self.first, 90))

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.group = offsets[AT]
        return True

    def assignment(self) -> set[TP]:
        return {AT, BESIDE} if self.beside else {AT}


class Driven(NamedTuple):
    """A driver that fetches from a log in memory, and what it delivers."""

    consumer: ChunkConsumer
    log: Log
    positions: Positions
    delivered: asyncio.Queue[Chunk]
    ended: list[asyncio.Future[Any]]  # what the driver has said to be over

    async def chunk(self) -> Chunk:
        async with asyncio.timeout(5):
            return await self.delivered.get()

    async def learn(self) -> list[int]:
        """Take the next chunk as an agent does; its offsets, or none if it is void."""
        chunk = await self.chunk()
        if not await self.consumer.begin(chunk):
            self.consumer.skip(chunk)
            return []
        self.positions.next = chunk.next_offset
        self.consumer.end(chunk)
        return [r.offset for r in chunk.records]

    async def learn_to(self, end: int) -> list[int]:
        learned: list[int] = []
        while not learned or learned[-1] < end - 1:
            learned += await self.learn()
        return learned


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    positions, log = Positions(), Log(range(100))
    ended: list[asyncio.Future[Any]] = []
    delivered: asyncio.Queue[Chunk] = asyncio.Queue()
    app = FaustApp(Config(), "127.0.0.1:1", positions, asyncio.Event(), ended.append)
    consumer = app.chunks
    consumer._thread.thread_loop.close()  # of the thread that the log stands in for
    consumer._thread = log  # type: ignore[assignment]

    async def deliver(message: Any) -> None:
        delivered.put_nowait(message.value)

    consumer.callback = deliver
    consumer.resume_partitions({AT})
    fetcher = SimpleNamespace(should_stop=False)
    draining = asyncio.create_task(consumer._drain_messages(fetcher))
    yield Driven(consumer, log, positions, delivered, ended)
    fetcher.should_stop = True
    consumer.stop_flow()
    consumer.resume_flow()
    async with asyncio.timeout(5):
        await draining


async def test_reading_starts_where_the_positions_say(driven: Driven) -> None:
    """Neither the group's offset nor the log's start counts when a shard knows better."""
    driven.log.group, driven.positions.next = 70, 40
    await driven.consumer.perform_seek()
    assert await driven.learn_to(100) == list(range(40, 100))


@pytest.mark.parametrize(
    ("group", "first", "starts"), [(70, 0, 70), (None, 20, 20), (10, 20, 20), (170, 0, 90)]
)
async def test_reading_starts_at_the_group_or_at_the_first_record(
    driven: Driven, group: int | None, first: int, starts: int
) -> None:
    """Where no shard knows, the group's offset counts, as far as the log has it; without one the
    log's first record.
    """
    driven.log.group, driven.log.first, driven.positions.next = group, first, None
    await driven.consumer.perform_seek()
    assert (await driven.learn())[0] == starts


async def test_nothing_is_delivered_before_positions_were_sought(driven: Driven) -> None:
    """What aiokafka fetched on its own before the shards were open is not handed over."""
    for _ in range(200):
        await asyncio.sleep(0)
    assert driven.log.position == 100
    assert driven.delivered.empty()
    await driven.consumer.perform_seek()
    assert await driven.learn_to(100) == list(range(100))


async def test_a_lost_chunk_is_fetched_again(driven: Driven) -> None:
    """A chunk that never arrived leaves a gap, and the gap leads back to it."""
    await driven.consumer.perform_seek()
    driven.log.lose = {30, 60}
    assert await driven.learn_to(100) == list(range(100))
    assert driven.log.sought == [0, 30, 60]


async def test_a_hole_in_the_log_is_sought_once_and_accepted(driven: Driven) -> None:
    """Compaction and markers leave holes: one seek back each, then reading goes on."""
    driven.log.offsets = [*range(20), *range(50, 60), *range(90, 100)]
    await driven.consumer.perform_seek()
    assert await driven.learn_to(100) == driven.log.offsets
    assert driven.log.sought == [0, 20, 60]


async def test_the_reader_waits_for_the_agent(driven: Driven) -> None:
    """At most two chunks of a partition are in flight, however slow its agent is."""
    await driven.consumer.perform_seek()
    for _ in range(200):
        await asyncio.sleep(0)
    assert driven.delivered.qsize() == CHUNKS_IN_FLIGHT_MAX
    assert await driven.learn_to(100) == list(range(100))


async def test_a_slow_agent_keeps_no_other_waiting(driven: Driven) -> None:
    """With two chunks in its hands, those of another partition come nevertheless."""
    driven.log.beside = [0]
    driven.consumer.resume_partitions({AT, BESIDE})
    await driven.consumer.perform_seek()
    topics = [(await driven.chunk()).topic for _ in range(1 + CHUNKS_IN_FLIGHT_MAX)]
    assert sorted(topics) == [BESIDE.topic, *[AT.topic] * CHUNKS_IN_FLIGHT_MAX]
    for _ in range(200):  # whoever reads ahead has done so
        await asyncio.sleep(0)
    driven.log.beside = [1]
    chunk = await driven.chunk()
    assert (chunk.topic, chunk.next_offset) == (BESIDE.topic, 2)


async def test_a_rewind_voids_what_was_handed_over(driven: Driven) -> None:
    """After a rewind the next chunk that may be used begins at the offset asked for."""
    await driven.consumer.perform_seek()
    assert await driven.learn() == list(range(10))
    assert await driven.learn() == list(range(10, 20))
    driven.positions.next = 5
    await driven.consumer.rewind(AT, 5)
    learned: list[int] = []
    while not learned:
        learned = await driven.learn()
    assert learned == list(range(5, 15))
    assert await driven.learn_to(100) == list(range(15, 100))


async def test_a_rewind_forward_does_nothing(driven: Driven) -> None:
    """Records in between belong to other agents of the topic."""
    await driven.consumer.perform_seek()
    assert await driven.learn() == list(range(10))
    await driven.consumer.rewind(AT, 80)
    assert await driven.learn_to(100) == list(range(10, 100))


async def test_a_shard_that_lacks_earlier_records_gets_them(driven: Driven) -> None:
    """A shard opened between two chunks needs no luck in the timing of its rewind."""
    await driven.consumer.perform_seek()
    assert await driven.learn() == list(range(10))
    driven.positions.next = 3
    assert await driven.learn() == []  # [10, 20) would leave a hole in that shard
    assert await driven.learn_to(100) == list(range(3, 100))


async def test_a_shard_that_does_not_move_holds_nobody_back(driven: Driven) -> None:
    """Going back is done once for a position; after that the others go on without it."""
    await driven.consumer.perform_seek()
    learned: list[int] = []
    while not learned or learned[-1] < 99:
        offsets = await driven.learn()
        driven.positions.next = 0
        learned += offsets
    assert len(learned) <= 120
    assert sorted(set(learned)) == list(range(100))


async def test_only_what_is_durable_is_committed(driven: Driven) -> None:
    """The group's offset follows the durable offset: never above it, never backwards."""
    await driven.consumer.perform_seek()
    await driven.learn_to(100)
    assert not await driven.consumer.commit()
    driven.positions.durable = 30
    assert await driven.consumer.commit()
    assert driven.log.group == 30
    assert not await driven.consumer.commit()
    driven.positions.durable = 20
    assert not await driven.consumer.commit()
    assert driven.log.group == 30


async def test_a_rebalance_waits_for_the_chunk_in_work(driven: Driven) -> None:
    """Partitions are given back only between two chunks."""
    await driven.consumer.perform_seek()
    chunk, waiting_chunk = await driven.chunk(), await driven.chunk()
    assert await driven.consumer.begin(chunk)
    driven.consumer.stop_flow()
    waiting = asyncio.create_task(driven.consumer.wait_empty())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    driven.consumer.end(chunk)
    await asyncio.wait_for(waiting, 1)
    assert not await driven.consumer.begin(waiting_chunk)


async def test_a_fetch_that_fails_is_told_and_ends_reading(driven: Driven) -> None:
    """The service hears of it once, and Faust does not tear itself down meanwhile."""
    await driven.consumer.perform_seek()
    await driven.learn()
    driven.log.fails = StateError("the log is cut")
    for _ in range(50):
        await asyncio.sleep(0)
    (draining,) = driven.ended
    assert draining.exception() is driven.log.fails
    assert not driven.consumer.crashed


def consumer_at(position: int) -> Any:
    """As much of aiokafka's consumer as tells a partition's position."""
    state = SimpleNamespace(has_valid_position=True, position=position)
    assignment = SimpleNamespace(state_value=lambda _: state)
    return SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    )


def test_an_offset_that_the_log_has_lost_is_never_jumped_over() -> None:
    """Retention or a topic made anew: the operator must know, no record is skipped silently."""
    error = OffsetOutOfRangeError({TopicPartition("t", 0): 40})
    with pytest.raises(OffsetGoneError, match=r"t\[0\] has no offset 40"):
        _out_of_range(consumer_at(40), error)


def test_an_outdated_range_error_is_ignored() -> None:
    """An error about a position that has been left since says nothing about the present one."""
    error = OffsetOutOfRangeError({TopicPartition("t", 0): 40})
    assert _out_of_range(consumer_at(60), error) == {}
