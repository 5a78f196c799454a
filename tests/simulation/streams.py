"""Reading: what `pipelines.streams` and the chunk driver do, without Faust, with its accidents.

The order of one partition's chunks is the driver's own `PartitionOrder`. Chunks are lost, come
twice, come late; partitions are taken away and given back; positions are asked for as the driver
asks for them.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from headrace.pipelines.order import Chunk, PartitionOrder
from headrace.ports import ReadingPositions
from headrace.views import Partition
from tests.simulation.broker import SimBroker
from tests.simulation.loop import Process
from tests.simulation.violation import Violation

CHUNK_MAX = 40
IDLE_S = 0.1
COMMIT_S = 0.3
Hook = Callable[[Collection[Partition]], Awaitable[None]]


class WatchedPositions(ReadingPositions, Protocol):
    """Who knows the positions, and the law of commits."""

    def check_commit(self, partition: Partition, offset: int) -> None: ...


class _Reading:
    """One partition being read: its order, where the fetch stands, and what was fetched."""

    def __init__(self, order: PartitionOrder) -> None:
        self.order = order
        self.at = order.next_offset
        self.fetched: deque[Chunk] = deque()
        self.safe = False  # the fetch after a seek is not lost: the driver seeks back only once


class SimStreams:
    """`pipelines.streams.Streams`: the same verbs, and the same promises to the worker."""

    def __init__(
        self,
        broker: SimBroker,
        process: Process,
        positions: WatchedPositions,
        chance: random.Random,
        make_order: Callable[[int, int], PartitionOrder] = PartitionOrder,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broker = broker
        self._positions = positions
        self._chance = chance
        self._process = process
        self._make_order = make_order
        self._topics: dict[str, asyncio.Task[None]] = {}
        self._owned: set[Partition] = set()
        self._readings: dict[Partition, _Reading] = {}
        self._behind: dict[Partition, int] = {}
        self._number = itertools.count(1)
        self._flowing = False
        self._changing = asyncio.Lock()
        self._working = asyncio.Lock()  # a chunk is being used
        self._committer: asyncio.Task[None] | None = None

    def hook(
        self, on_chunk: Callable[[Chunk], Awaitable[None]], on_assigned: Hook, on_revoked: Hook
    ) -> None:
        """Whom to tell; before `subscribe`."""
        self._on_chunk, self._on_assigned, self._on_revoked = on_chunk, on_assigned, on_revoked

    @property
    def topics(self) -> Collection[str]:
        return self._topics.keys()

    @property
    def flowing(self) -> bool:
        return self._flowing

    def assigned(self, topic: str) -> set[Partition]:
        return {p for p in self._owned if p.topic == topic}

    async def start(self) -> None:
        self._committer = self._task(self._commit_again_and_again())

    async def subscribe(self, topic: str) -> None:
        async with self._changing:
            if topic not in self._topics:
                self._topics[topic] = self._task(self._read(topic))
                await self._rebalance()

    async def unsubscribe(self, topic: str) -> None:
        async with self._changing:
            task = self._topics.pop(topic, None)
            if task is not None:
                await self._rebalance()
                task.cancel()

    async def rebalance(self) -> None:
        """The group says so: all partitions go, and come back."""
        async with self._changing:
            await self._rebalance()

    async def rewind(self, partition: Partition, offset: int) -> None:
        reading = self._readings.get(partition)
        if reading is not None and reading.order.next_offset > offset:
            self._broker.counts["rewinds"] += 1
            self._seek(partition, offset)

    async def stop(self) -> None:
        async with self._changing:
            await self._give_back()
            for task in (*self._topics.values(), self._committer):
                if task is not None:
                    task.cancel()
            self._topics.clear()

    # -- positions ---------------------------------------------------------------------------

    async def _rebalance(self) -> None:
        await self._give_back()
        await self._broker.away(0.05)
        counts = self._broker.partitions
        self._owned = {Partition(t, n) for t in self._topics for n in range(counts.get(t, 0))}
        if not self._owned:
            return
        await self._on_assigned(frozenset(self._owned))
        for partition in sorted(self._owned):
            wanted = self._positions.next_offset(partition)
            if wanted is None:
                group = self._broker.committed.get(partition, 0)
                wanted = max(group, self._broker.logs[partition].begin)
            self._seek(partition, wanted)
        self._flowing = True

    async def _give_back(self) -> None:
        self._flowing = False
        async with self._working:
            gone, self._owned = self._owned, set()
        if gone:
            await self._on_revoked(frozenset(gone))
            self._commit(gone)
        self._readings.clear()
        self._behind.clear()

    def _seek(self, partition: Partition, offset: int) -> None:
        self._readings[partition] = _Reading(self._make_order(offset, next(self._number)))

    async def _commit_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            self._commit(self._owned)

    def _commit(self, partitions: Collection[Partition]) -> None:
        if not self._process.alive:
            return
        for partition in sorted(partitions):
            offset = self._positions.durable_offset(partition)
            if offset is not None and offset > self._broker.committed.get(partition, -1):
                self._positions.check_commit(partition, offset)
                self._broker.committed[partition] = offset

    # -- chunks ------------------------------------------------------------------------------

    async def _read(self, topic: str) -> None:
        while True:
            idle = True
            for partition in sorted(self.assigned(topic)):
                if not self._flowing:
                    break
                self._fetch(partition)
                chunk = self._next(partition)
                if chunk is not None:
                    idle = False
                    await self._use(partition, chunk)
            await (asyncio.sleep(IDLE_S) if idle else self._broker.away(0.01))

    def _fetch(self, partition: Partition) -> None:
        """What one poll brings, with the accidents on the way."""
        reading = self._readings.get(partition)
        if reading is None or len(reading.fetched) > 1:
            return
        log, chance, counts = self._broker.logs[partition], self._chance, self._broker.counts
        count = chance.randrange(1, CHUNK_MAX)
        wanted = self._positions.next_offset(partition)
        if reading.at < log.begin and (wanted is None or log.begin <= wanted):
            reading.at = log.begin  # it had gone back, but nobody lacks what was retired
        begins = reading.at
        if begins < log.begin:
            raise Violation(f"{partition} is read from {begins}, and begins at {log.begin}")
        records = log.rows(begins)[:count]
        if not records:
            return
        end = records[-1].offset + 1
        while end < log.end and log.entries[end] is None and chance.random() < 0.7:
            end += 1  # markers behind the last record are part of what was fetched
        counts["holes in a chunk"] += end - begins > len(records)
        chunk = Chunk(partition.topic, partition.partition, records, end)
        reading.at = end
        accident = chance.random()
        if accident < 0.04 and not reading.safe and log.rows(end):  # a later one tells
            counts["chunks lost"] += 1
        else:
            reading.fetched.append(chunk)
            if accident < 0.10:
                counts["chunks twice"] += 1
                reading.fetched.append(chunk)
            elif accident < 0.13:
                counts["fetches gone back"] += 1
                reading.at = max(end - chance.randrange(1, CHUNK_MAX), log.begin)
        reading.safe = False

    def _next(self, partition: Partition) -> Chunk | None:
        reading = self._readings.get(partition)
        if reading is None or not reading.fetched:
            return None
        fetched = reading.fetched.popleft()
        order = reading.order
        if order.missing(fetched):
            self._broker.counts["gaps seen"] += 1
            reading.at, reading.safe = order.next_offset, True
            reading.fetched.clear()
            return None
        return order.fresh(fetched)

    async def _use(self, partition: Partition, chunk: Chunk) -> None:
        """A chunk of the present reading, unless a shard that was opened lacks earlier records."""
        if self._chance.random() < 0.1:
            await self._broker.away(0.05)  # it waits for the agent; much may happen meanwhile
        async with self._working:
            reading = self._readings.get(partition)
            if not self._flowing or reading is None or chunk.reading != reading.order.reading:
                return
            wanted = self._positions.next_offset(partition)
            if self._behind.get(partition) != wanted:
                self._behind.pop(partition, None)
                if wanted is not None and wanted < chunk.begins:
                    self._broker.counts["rewinds"] += 1
                    self._behind[partition] = wanted
                    self._seek(partition, wanted)
                    return
            # The driver starts a task here: a shard may be opened between the look and the use.
            await (self._broker.away(0.05) if self._chance.random() < 0.1 else asyncio.sleep(0))
            await self._on_chunk(chunk)

    def _task(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)
