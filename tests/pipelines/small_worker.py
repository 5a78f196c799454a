"""A worker in small for tests of the streams, and what feeds and watches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from headrace.config import Config
from headrace.pipelines.broker import Broker
from headrace.pipelines.streams import Streams
from headrace.pipelines.transport import Chunk
from headrace.views import Partition

_names: Iterator[int] = count()


def name(prefix: str) -> str:
    """A topic or group that no other test uses."""
    return f"{prefix}-{next(_names)}"


class Reader:
    """A worker in small: positions in a dict, chunks in lists, nothing durable until told."""

    def __init__(self, broker: Broker, group: str, *, max_poll_records: int = 4000) -> None:
        self.positions: dict[Partition, int] = {}
        self.durable: dict[Partition, int] = {}
        self.start_at: dict[Partition, int] = {}
        self.chunks: list[Chunk] = []
        self.values: dict[Partition, list[bytes]] = {}
        self.calls: list[tuple[str, frozenset[Partition]]] = []
        self.changed = asyncio.Event()
        self.hold = asyncio.Event()  # cleared: chunks stay in work
        self.hold.set()
        self.raises: dict[str, Exception] = {}
        self.flush_when_revoked = False
        self.away = False
        self.streams = Streams(
            Config(
                app=group,
                session_timeout_s=2.0,  # the embedded broker's group forms after half of it
                commit_interval_s=0.2,
                max_poll_records=max_poll_records,
            ),
            broker.bootstrap,
            self,
            on_chunk=self._on_chunk,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            on_gone=self._on_gone,
            away=lambda: self.away,
        )

    def next_offset(self, partition: Partition) -> int | None:
        return self.positions.get(partition)

    def durable_offset(self, partition: Partition) -> int | None:
        return self.durable.get(partition)

    def flush(self) -> None:
        """What was read is durable now."""
        self.durable.update(self.positions)

    async def until(self, true: Callable[[], bool], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():  # another reader may be the one who makes it true
                self.changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)

    def read(self, topic: str) -> int:
        """How many records of the topic have come."""
        return sum(len(v) for p, v in self.values.items() if p.topic == topic)

    async def _on_chunk(self, chunk: Chunk) -> None:
        await self.hold.wait()
        if "chunk" in self.raises:
            raise self.raises["chunk"]
        partition = Partition(chunk.topic, chunk.partition)
        self.chunks.append(chunk)
        self.values.setdefault(partition, []).extend(r.value or b"" for r in chunk.records)
        self.positions[partition] = chunk.next_offset
        self.changed.set()

    async def _on_assigned(self, partitions: Collection[Partition]) -> None:
        self.calls.append(("assigned", frozenset(partitions)))
        if "assigned" in self.raises:
            raise self.raises["assigned"]
        for partition in partitions:
            if partition in self.start_at:
                self.positions.setdefault(partition, self.start_at[partition])
        self.changed.set()

    async def _on_revoked(self, partitions: Collection[Partition]) -> None:
        self.calls.append(("revoked", frozenset(partitions)))
        if self.flush_when_revoked:
            self.flush()
        for partition in partitions:
            self.positions.pop(partition, None)
        self.changed.set()

    async def _on_gone(self, partition: Partition) -> None:
        self.calls.append(("gone", frozenset([partition])))
        self.positions.pop(partition, None)
        await self.streams.read_on(partition)
        self.changed.set()


@asynccontextmanager
async def reading(reader: Reader, *topics: str) -> AsyncIterator[Reader]:
    await reader.streams.start()
    try:
        for topic in topics:
            await reader.streams.subscribe(topic)
        yield reader
    finally:
        await reader.streams.stop()


async def produce(
    broker: Broker, topic: str, partition: int, values: range, *, compression: str | None = None
) -> None:
    """Values as text, in one or more batches."""
    async with AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, compression_type=compression
    ) as producer:
        batch = producer.create_batch()
        for value in values:
            data = b"%d" % value
            if batch.append(key=None, value=data, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=None, value=data, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=partition))


async def committed(broker: Broker, group: str, partition: Partition) -> int | None:
    """The group's offset."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group)
    await consumer.start()
    try:
        tp = TopicPartition(*partition)
        consumer.assign([tp])
        offset: int | None = await consumer.committed(tp)
        return offset
    finally:
        await consumer.stop()


def texts(values: range) -> list[bytes]:
    return [b"%d" % v for v in values]
