"""What somebody else does to the service's own: its control log, and one agent's disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from headrace.errors import ForeignStateError, RequestError, StateError
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import Outgoing
from tests.service.conftest import Start, administering
from tests.service.test_service import events, learned, spec

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


async def test_a_disk_that_fails_when_room_is_made_in_memory_ends_one_agent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget flushes the largest shard, whoever came over it; only that one's agent fails."""

    def many(topic: str, count: int) -> list[Outgoing]:
        return [
            Outgoing(
                topic, key.encode(), msgspec.json.encode({"id": key, "power": 1, "temp": 2}), T0
            )
            for key in (f"key-{n}" for n in range(count))
        ]

    def broken(*_: object) -> None:
        raise StateError("Input/output error")

    rarely = {"flush_ms": 60_000, "flush_keys": 100_000}
    async with start(models_bytes_max=1 << 20) as (service, client):
        await client.deploy(spec("large", "t-large", state=rarely))
        await client.deploy(spec("small", "t-small", state=rarely))
        await service.events.send_all(many("t-large", 150))
        await learned(client, "large", 150)
        (shard,) = service.worker.shards.of_agent("large")
        monkeypatch.setattr(shard._store, "write", broken)
        await service.events.send_all(many("t-small", 100))
        await learned(client, "small", 100)
        async with asyncio.timeout(10):
            while (await client.agent("large")).state != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await service.events.send_all(events("t-small", range(10)))
        await learned(client, "small", 110)
        assert not service.failed.done()


async def test_a_stop_while_a_topic_is_being_joined_or_left_is_in_order(start: Start) -> None:
    """Right after a deploy or a delete was answered: all is flushed, so nothing is amiss."""
    async with start() as (_, client):
        await client.deploy(spec("joined", "t-joined"))
    async with start() as (service, client):
        await client.deploy(spec("second", "t-second"))
        await service.events.send_all(events("t-joined", range(10)))
        await learned(client, "joined", 10)
        await client.delete("second")
        (shard,) = service.worker.shards.of_agent("joined")
    assert shard.durable_offset == 10


async def test_a_deploy_whose_shards_cannot_be_opened_says_why_at_once(
    start: Start, tmp_path: Path
) -> None:
    """Nobody waits out the time that a command may take for what has failed already. The service
    goes on, starts again, and the agent can be deleted.
    """
    async with start(control_timeout_s=60.0) as (_, client):
        (tmp_path / "state" / "shards").mkdir(exist_ok=True)
        (tmp_path / "state" / "shards" / "narrow").write_text("somebody's notes")
        async with asyncio.timeout(20):
            with pytest.raises(StateError, match="cannot be written: File exists"):
                await client.deploy(spec("narrow", "t-narrow"))
        assert (await client.agent("narrow")).state == "failed"
    async with start() as (service, client):
        assert (await client.agent("narrow")).state == "failed"
        assert (await client.delete("narrow")).changed
        assert await client.agents() == []
        assert not service.failed.done()


async def test_a_watch_of_decisions_whose_topic_was_deleted_says_so(
    start: Start, broker: Broker
) -> None:
    """The topic is named; a watch that begins when it has been made again works."""
    async with start() as (_, client):
        await client.deploy(spec("gone", "t-gone"))
        async with administering(broker) as admin:
            await admin.delete_topics(["decisions.gone"])
        with pytest.raises(RequestError, match=r"topic 'decisions\.gone' does not exist"):
            async with asyncio.timeout(20):
                await anext(client.watch_decisions("gone"))
