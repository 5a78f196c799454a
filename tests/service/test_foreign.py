"""What somebody else does to the topics of the service."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from headrace.errors import ForeignStateError, RequestError, StateError, UnavailableError
from headrace.pipelines.broker import Broker
from headrace.pipelines.reader import KafkaLogs, LogSpan
from headrace.pipelines.topics import Topics
from headrace.views import Partition
from tests.service.conftest import Start, administering
from tests.service.test_service import spec

DEEP = b"[" * 100_000
T0 = 1_700_000_000_000


async def test_what_somebody_else_writes_into_the_control_log_is_passed_over(
    start: Start, broker: Broker
) -> None:
    """It changes nothing, now and at a restart; a record that another Headrace may have written
    is refused, with its place.
    """
    async with start() as (service, client):
        topic = service.worker.control_topic
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            for value in (b"hello", None, b"7", b'{"id": 7}', b"\xff\xfe", DEEP):
                await producer.send_and_wait(topic, value, key=b"k")
        await client.deploy(spec("stands", "t-stands"))
        assert not service.failed.done()
    async with start() as (service, client):
        assert [view.name for view in await client.agents()] == ["stands"]
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            await producer.send_and_wait(topic, b'{"type": "rollback", "id": "7"}')
        await asyncio.wait({service.failed}, timeout=10)
        with pytest.raises(ForeignStateError, match="Start the build that wrote it"):
            service.failed.result()


async def test_a_failed_agent_whose_source_is_gone_can_be_deleted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a partition that there is not; other agents' commands go on."""

    async def none_of_it(topics: Topics, topic: str) -> int:
        return 0 if topic == "t-astray" else await counted(topics, topic)

    async def no_answer(logs: KafkaLogs, partition: Partition) -> LogSpan:
        if partition.topic != "t-astray":
            return await asked(logs, partition)
        raise UnavailableError("broker_away", "that is how Kafka tells it of such a partition")

    async with start() as (service, client):
        await client.deploy(spec("unmoved", "t-unmoved"))
        await client.deploy(spec("astray", "t-astray"))
        (shard,) = service.worker.shards.of_agent("astray")
        await service.worker.holdings.drop(shard, StateError("its log was made anew"))
        # A broker that makes topics by itself makes it again, so that it can be gone here only.
        counted, asked = Topics.partition_count, KafkaLogs.span
        monkeypatch.setattr(Topics, "partition_count", none_of_it)
        monkeypatch.setattr(KafkaLogs, "span", no_answer)
        async with asyncio.timeout(20):
            assert (await client.delete("astray")).changed
            assert (await client.pause("unmoved")).changed


async def test_a_watch_of_decisions_whose_topic_was_deleted_says_so(
    start: Start, broker: Broker
) -> None:
    """The topic is named; a watch that begins when it has been made again works."""
    async with start() as (_, client):
        await client.deploy(spec("vanished", "t-vanished"))
        async with administering(broker) as admin:
            await admin.delete_topics(["decisions.t-vanished.vanished"])
        with pytest.raises(
            RequestError, match=r"topic 'decisions\.t-vanished\.vanished' does not exist"
        ):
            async with asyncio.timeout(20):
                await anext(client.watch_decisions("vanished"))
