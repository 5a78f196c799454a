"""Reading a topic outside of any group: recent records, one record, or all that come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from headrace.views import Partition

QUIET_MS = 300
"""A fetch that brings nothing for this long has reached the end of the log."""


@asynccontextmanager
async def _reading(bootstrap: str, partitions: list[Partition]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(*p) for p in partitions])
        yield consumer
    finally:
        await consumer.stop()


async def _to_the_end(
    consumer: AIOKafkaConsumer, partitions: list[Partition]
) -> AsyncIterator[ConsumerRecord]:
    """Records from where the consumer stands to the end of the log as it is now.

    The end that a broker reports when asked may be short of its last batch; the high watermark
    that comes with a fetch is not.
    """
    at = {TopicPartition(*p): 0 for p in partitions}
    while True:
        fetched = await consumer.getmany(timeout_ms=QUIET_MS)
        for tp, records in fetched.items():
            at[tp] = records[-1].offset + 1
            for record in records:
                yield record
        if not fetched or all(at[tp] >= (consumer.highwater(tp) or at[tp] + 1) for tp in at):
            return


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


class LogSpan:
    """Which offsets of a partition exist: `begin` is the oldest, `end` one past the newest."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end


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


async def record_at(bootstrap: str, partition: Partition, offset: int) -> ConsumerRecord | None:
    """The record at exactly this offset; None if it is not there (any more, or yet)."""
    async with _reading(bootstrap, [partition]) as consumer:
        consumer.seek(TopicPartition(*partition), offset)
        for records in (await consumer.getmany(timeout_ms=10 * QUIET_MS, max_records=1)).values():
            for record in records:
                return record if record.offset == offset else None
    return None


async def offset_at_time(bootstrap: str, partition: Partition, timestamp_ms: int) -> int | None:
    """The first offset whose record's timestamp is at or after the time; None: no such yet."""
    tp = TopicPartition(*partition)
    async with _reading(bootstrap, [partition]) as consumer:
        found = (await consumer.offsets_for_times({tp: timestamp_ms})).get(tp)
        return None if found is None else int(found.offset)


async def follow(
    bootstrap: str, partitions: list[Partition], *, from_start: bool, stop_at_end: bool = False
) -> AsyncIterator[ConsumerRecord]:
    """Records as they come. `stop_at_end`: end where the log is silent instead of waiting on."""
    async with _reading(bootstrap, partitions) as consumer:
        tps = [TopicPartition(*p) for p in partitions]
        if from_start:
            await consumer.seek_to_beginning(*tps)
        else:
            for partition in partitions:
                consumer.seek(TopicPartition(*partition), (await span(bootstrap, partition)).end)
        while True:
            fetched = await consumer.getmany(timeout_ms=QUIET_MS, max_records=500)
            if not fetched and stop_at_end:
                return
            for records in fetched.values():
                for record in records:
                    yield record
            await asyncio.sleep(0)
