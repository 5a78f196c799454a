"""A log is read to its end, however long its fetches take."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from headrace.pipelines import reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.topics import Topics
from headrace.views import Partition

RECORDS = 4_000
FETCH_BYTES = 1 << 20  # what a consumer takes of one partition at a time


async def test_a_slow_fetch_is_not_the_end(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of several fetches is read whole, although polls in between bring nothing."""
    where = Partition("t-slowly-read", 0)
    await topics.ensure(where.topic, partitions=1, ours=False)
    value = b"x" * (3 * FETCH_BYTES // RECORDS)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for _ in range(RECORDS):
            await producer.send(where.topic, value, partition=0)
    monkeypatch.setattr(reader, "END_POLL_MS", 1)
    offsets = [record.offset async for record in reader.stored(broker.bootstrap, [where])]
    assert offsets == list(range(RECORDS))
    assert await reader.span(broker.bootstrap, where) == (0, RECORDS)


async def test_what_lies_below_an_offset(broker: Broker, topics: Topics) -> None:
    """So many records, oldest first, as far as the log has them; none from the offset on."""
    where = Partition("t-read-below", 0)
    await topics.ensure(where.topic, partitions=1, ours=False)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for _ in range(9):
            await producer.send(where.topic, b"x", partition=0)
    for offset, count, there in ((7, 3, [4, 5, 6]), (2, 5, [0, 1]), (0, 5, []), (9, 1, [8])):
        found = await reader.below(broker.bootstrap, where, offset, count)
        assert [record.offset for record in found] == there
