"""Reading a topic outside of any group: recent records, one record, or all that come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from headrace.errors import UnavailableError
from headrace.pipelines import clients
from headrace.pipelines.replay import Replay, replaying
from headrace.ports import Record
from headrace.views import Partition

POLL_MS = 300
"""How long one poll waits for records that may still come."""

END_POLL_MS = 60
"""The same where only what is in the log is wanted: a little above the broker's own wait of 50."""

ANSWER_WAIT_S = 15.0
"""How long a broker may bring nothing while a partition is being read to its end."""


class LogSpan(NamedTuple):
    """Which offsets of a partition exist: `begin` is the oldest, `end` one past the newest."""

    begin: int
    end: int


class Logs(Protocol):
    """What a shard that is opened asks of its input log, outside of any group."""

    async def span(self, partition: Partition) -> LogSpan: ...

    async def record_at(self, partition: Partition, offset: int) -> Record | None: ...

    async def offset_at_time(self, partition: Partition, timestamp_ms: int) -> int | None: ...

    async def newest(self, partition: Partition, count: int) -> Sequence[Record]: ...

    def replay(self, partition: Partition, begin: int) -> AbstractAsyncContextManager[Replay]: ...


class KafkaLogs:
    """The logs of the broker at `bootstrap`; each question is asked by a consumer of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def span(self, partition: Partition) -> LogSpan:
        return await span(self._bootstrap, partition)

    async def record_at(self, partition: Partition, offset: int) -> Record | None:
        return await record_at(self._bootstrap, partition, offset)

    async def offset_at_time(self, partition: Partition, timestamp_ms: int) -> int | None:
        return await offset_at_time(self._bootstrap, partition, timestamp_ms)

    async def newest(self, partition: Partition, count: int) -> Sequence[Record]:
        return [record for _, record in await recent(self._bootstrap, [partition], count)]

    def replay(self, partition: Partition, begin: int) -> AbstractAsyncContextManager[Replay]:
        return replaying(self._bootstrap, partition, begin)


@asynccontextmanager
async def _reading(bootstrap: str, partitions: list[Partition]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group. Raises UnavailableError `broker_away`, for its user too."""
    consumer = clients.log_reader(bootstrap)
    try:
        await clients.start(consumer)
        consumer.assign([TopicPartition(*p) for p in partitions])
        yield consumer
    except KafkaError as error:
        raise UnavailableError("broker_away", f"the broker cannot be read: {error}") from error
    finally:
        await clients.stop(consumer)


async def _to_the_end(
    consumer: AIOKafkaConsumer, partitions: list[Partition]
) -> AsyncIterator[ConsumerRecord]:
    """Records from where the consumer stands to the end of the log as it is now.

    The end that a broker reports when it is asked may be short of its last batch; the one that
    comes with a fetch is not. It is the last stable offset: an open transaction keeps readers
    below the high watermark. A poll that brings nothing says only that a fetch takes its time.
    Raises UnavailableError `broker_away` if the broker stops answering before the end.
    """
    tps = [TopicPartition(*p) for p in partitions]
    ends: dict[TopicPartition, int] = {}
    clock = asyncio.get_running_loop().time
    deadline = clock() + ANSWER_WAIT_S
    while True:
        fetched = await consumer.getmany(timeout_ms=END_POLL_MS)
        for tp in tps:
            if tp not in ends and (end := _stable_end(consumer, tp)) is not None:
                ends[tp] = end
        for tp, records in fetched.items():
            for record in records:
                if record.offset < ends.get(tp, record.offset + 1):
                    yield record
        if len(ends) == len(tps) and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
            return
        if fetched:
            deadline = clock() + ANSWER_WAIT_S
        elif clock() > deadline:
            raise UnavailableError(
                "broker_away", f"the broker did not answer a read in {ANSWER_WAIT_S:g} s"
            )


def _stable_end(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """Up to where the last fetch could read; None before the first one."""
    stable: int | None = consumer.last_stable_offset(tp)
    if stable is not None and stable >= 0:
        return stable
    watermark: int | None = consumer.highwater(tp)  # of a broker that knows no transactions
    return watermark


async def recent(
    bootstrap: str, partitions: list[Partition], count: int
) -> list[tuple[int, ConsumerRecord]]:
    """The last `count` records over all partitions, each with its partition; oldest first.

    Of several partitions, each gives an equal share.
    """
    share = -(-count // max(len(partitions), 1))
    async with _reading(bootstrap, partitions) as consumer:
        for partition in partitions:
            tp = TopicPartition(*partition)
            begin = (await consumer.beginning_offsets([tp]))[tp]
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, max(begin, end - share))
        found = [(r.partition, r) async for r in _to_the_end(consumer, partitions)]
    newest: list[tuple[int, ConsumerRecord]] = []
    for partition in partitions:
        newest.extend([pair for pair in found if pair[0] == partition.partition][-share:])
    return sorted(newest, key=lambda pair: (pair[1].timestamp, pair[0], pair[1].offset))


async def below(
    bootstrap: str, partition: Partition, offset: int, count: int
) -> list[ConsumerRecord]:
    """The records of the `count` offsets below that one, as far as the log has them; oldest first.

    There may be fewer: compaction and transactions leave offsets without a record.
    """
    tp = TopicPartition(*partition)
    found: list[ConsumerRecord] = []
    async with _reading(bootstrap, [partition]) as consumer:
        begin = max((await consumer.beginning_offsets([tp]))[tp], offset - count)
        if begin >= offset:
            return found
        consumer.seek(tp, begin)
        async for record in _to_the_end(consumer, [partition]):
            if record.offset >= offset:
                break
            found.append(record)
    return found


async def span(bootstrap: str, partition: Partition) -> LogSpan:
    """The offsets of a partition that can be read now."""
    tp = TopicPartition(*partition)
    async with _reading(bootstrap, [partition]) as consumer:
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, max(begin, end - 1))
        async for record in _to_the_end(consumer, [partition]):
            end = max(end, record.offset + 1)
        return LogSpan(begin, max(end, begin, consumer.highwater(tp) or 0))


async def record_at(bootstrap: str, partition: Partition, offset: int) -> Record | None:
    """The record at exactly this offset; None if the log has none there (any more, or yet)."""
    async with _reading(bootstrap, [partition]) as consumer:
        consumer.seek(TopicPartition(*partition), offset)
        async for record in _to_the_end(consumer, [partition]):
            found: Record = record
            return found if found.offset == offset else None
    return None


async def offset_at_time(bootstrap: str, partition: Partition, timestamp_ms: int) -> int | None:
    """The first offset whose record's timestamp is at or after the time; None: no such yet."""
    tp = TopicPartition(*partition)
    async with _reading(bootstrap, [partition]) as consumer:
        found = (await consumer.offsets_for_times({tp: timestamp_ms})).get(tp)
        return None if found is None else int(found.offset)


async def stored(
    bootstrap: str, partitions: list[Partition]
) -> AsyncGenerator[ConsumerRecord, None]:
    """All records from the beginning to where the log ends now."""
    async with _reading(bootstrap, partitions) as consumer:
        await consumer.seek_to_beginning(*[TopicPartition(*p) for p in partitions])
        async for record in _to_the_end(consumer, partitions):
            yield record


async def follow(
    bootstrap: str, partitions: list[Partition], *, from_start: bool
) -> AsyncGenerator[ConsumerRecord, None]:
    """Records as they come, without end, from the beginning or from now on."""
    async with _reading(bootstrap, partitions) as consumer:
        for partition in partitions:
            at = await span(bootstrap, partition)
            consumer.seek(TopicPartition(*partition), at.begin if from_start else at.end)
        while True:
            for records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=500)).values():
                for record in records:
                    yield record
