"""Events into topics beforehand, and decisions counted afterwards."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from benchmarks.workload import PARTITIONS, START_MS, Sent

from headrace.errors import StateError
from headrace.pipelines.broker import Broker
from headrace.pipelines.live import partition_of
from headrace.pipelines.topics import Topics

BATCH_BYTES = 256 << 10
BATCHES_AHEAD = 32
"""Batches of events under way to the broker at a time."""
TICK_S = 0.05
"""Between two batches of a stream of events."""
READ_WAIT_S = 20.0
"""How long decisions may be missing before they count as lost."""


class Lent(msgspec.Struct):
    """A broker that runs in another process, as the service sees its own."""

    bootstrap: str
    url: str
    can_transactions: bool
    can_start_at_timestamp: bool
    durable: bool
    own: bool = True

    @classmethod
    def of(cls, broker: Broker) -> Lent:
        """The same broker, for another process."""
        return cls(
            bootstrap=broker.bootstrap,
            url=broker.url,
            can_transactions=broker.can_transactions,
            can_start_at_timestamp=broker.can_start_at_timestamp,
            durable=broker.durable,
        )

    async def start(self) -> None:
        """Nothing: it runs."""

    async def stop(self) -> None:
        """Nothing: whoever started it ends it."""

    def ended(self) -> bool:
        """Whoever started it would know."""
        return False


class Decided(NamedTuple):
    """What a decision topic holds."""

    records: int
    ids: int  # different ones among them


class _Id(msgspec.Struct):
    id: str


async def make_topic(
    broker: Broker,
    topic: str,
    partitions: int = PARTITIONS,
    settings: Mapping[str, str] | None = None,
) -> None:
    """A topic that keeps everything, unless Kafka's own `settings` say otherwise."""
    if settings is not None:
        await _make_with(broker, NewTopic(topic, partitions, 1, topic_configs=dict(settings)))
        return
    topics = Topics(broker)
    await topics.start()
    try:
        await topics.ensure(topic, partitions=partitions, ours=False)
    finally:
        await topics.stop()


async def append(
    broker: Broker,
    topic: str,
    events: Sequence[Sent],
    *,
    times: int = 1,
    partitions: int = PARTITIONS,
) -> None:
    """Append events in their order, a millisecond apart, to the partitions of their keys.

    `times`: so often, one after the other.
    """
    async with _producer(broker) as producer:
        sender = _Sender(producer, topic, partitions)
        for number in range(times * len(events)):
            key, value = events[number % len(events)]
            await sender.append(key, value, START_MS + number)
        await sender.finish()


async def stream(
    broker: Broker,
    topic: str,
    events: Sequence[Sent],
    *,
    rate: float,
    seconds: float,
) -> int:
    """Append events at a fixed rate, an open loop, round and round; returns how many it were.

    What is late, because this process was, is made up for at once. Timestamps are as in `append`.
    """
    clock = asyncio.get_running_loop().time
    sent, began = 0, clock()
    async with _producer(broker) as producer:
        sender = _Sender(producer, topic, len(await producer.partitions_for(topic)))
        while sent < int(rate * seconds):
            await asyncio.sleep(max(began + sent / rate + TICK_S - clock(), 0))
            due = min(int((clock() - began) * rate), int(rate * seconds))
            for number in range(sent, due):
                key, value = events[number % len(events)]
                await sender.append(key, value, START_MS + number)
            sent = due
            await sender.flush()
        await sender.finish()
    return sent


async def _make_with(broker: Broker, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        made = await admin.create_topics([topic])
    finally:
        await admin.close()
    for name, code, text in made.topic_errors:
        if code:
            raise StateError(f"topic {name} was not made: {text or code}")


class _Sender:
    """Fills a batch for each partition; hands over the full ones."""

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._batches = [producer.create_batch() for _ in range(partitions)]
        self._partitions: dict[bytes, int] = {}
        self._waiting: deque[asyncio.Future[object]] = deque()

    async def append(self, key: bytes, value: bytes, timestamp: int) -> None:
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = partition_of(key.decode(), len(self._batches))
        batch = self._batches[partition]
        if batch.append(key=key, value=value, timestamp=timestamp) is None:
            await self._send(partition)
            batch = self._batches[partition] = self._producer.create_batch()
            batch.append(key=key, value=value, timestamp=timestamp)

    async def flush(self) -> None:
        """Hand over what was appended."""
        for partition, batch in enumerate(self._batches):
            if batch.record_count():
                await self._send(partition)
                self._batches[partition] = self._producer.create_batch()

    async def finish(self) -> None:
        await self.flush()
        await asyncio.gather(*self._waiting)

    async def _send(self, partition: int) -> None:
        batch = self._batches[partition]
        batch.close()
        sending = self._producer.send_batch(batch, self._topic, partition=partition)
        self._waiting.append(await sending)
        if len(self._waiting) > BATCHES_AHEAD:
            await self._waiting.popleft()


async def decided(
    broker: Broker, topic: str, expected: int, wait_s: float = READ_WAIT_S
) -> Decided:
    """Read the agent's decisions until there are as many as expected and no more come.

    Raises StateError if they stay away.
    """
    decode = msgspec.json.Decoder(_Id).decode
    records, ids = 0, set[str]()
    async with _consumer(broker, topic) as consumer:
        patience = Patience(wait_s)
        while True:
            fetched = await consumer.getmany(timeout_ms=300)
            if not fetched and records >= expected:
                return Decided(records, len(ids))
            for batch in fetched.values():
                records += len(batch)
                ids.update(decode(record.value).id for record in batch)
            if patience.is_over(records):
                raise StateError(f"{topic} holds {records:,} decisions of {expected:,}")


@asynccontextmanager
async def lengths(broker: Broker) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """Tells how many records were ever appended to a topic, those that are gone again included.

    The broker is asked, so it is true also while a worker does not know how far it is behind. On
    Apache Kafka: the embedded broker leaves out the last batch of each partition.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)

    async def length(topic: str) -> int:
        wanted = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return sum((await consumer.end_offsets(wanted)).values())

    await consumer.start()
    try:
        yield length
    finally:
        await consumer.stop()


class Patience:
    """Runs out when a count has not risen for so long."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._most = -1
        self._since = self._loop.time()

    def is_over(self, count: int) -> bool:
        if count > self._most:
            self._most, self._since = count, self._loop.time()
        return self._loop.time() - self._since > self._seconds


@asynccontextmanager
async def _producer(broker: Broker) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap,
        acks="all",
        max_batch_size=BATCH_BYTES,
        max_request_size=4 << 20,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _consumer(broker: Broker, topic: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        yield consumer
    finally:
        await consumer.stop()
