"""Whole topics, as they are in the end."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord

from headrace.pipelines import reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.topics import Topics
from headrace.views import Partition

Records = dict[int, list[ConsumerRecord]]


async def read(broker: Broker, topic: str) -> Records:
    """All records of a topic, by partition, in offset order."""
    topics = Topics(broker)
    await topics.start()
    try:
        count = await topics.partition_count(topic)
    finally:
        await topics.stop()
    found: Records = {number: [] for number in range(count)}
    async for record in reader.stored(broker.bootstrap, [Partition(topic, n) for n in found]):
        found[record.partition].append(record)
    return found
