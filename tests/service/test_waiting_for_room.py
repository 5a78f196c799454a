"""What waits for room on a full disk, and what must not wait behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from headrace.config import Config
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import Outgoing
from headrace.service import Service
from headrace.serving.client import AsyncClient
from tests.service.test_full_disk import noted
from tests.service.test_service import events, learned, spec
from tests.small_disk import SmallDisk

SELDOM = {"flush_ms": 60_000, "flush_keys": 1_000_000}
STOP_S = 30.0  # in which a service stops that waits for nothing


@asynccontextmanager
async def serving(
    disk: SmallDisk, broker: Broker, app: str
) -> AsyncIterator[tuple[Service, AsyncClient]]:
    """A service whose state lies on that disk; it must stop although that is full."""
    state = disk.path / "state"
    config = Config(app=app, grpc_port=0, metrics_port=None, state_dir=state, control_timeout_s=5.0)
    service = Service(config, broker=broker)
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            yield service, client
    finally:
        stopping = asyncio.ensure_future(service.stop())
        stopped, _ = await asyncio.wait({stopping}, timeout=STOP_S)
        disk.empty()
        await stopping
    assert stopped


@pytest.mark.parametrize("whom", ["goes", "stays", "other"])
async def test_an_agent_is_deleted_although_a_snapshot_waits_for_room(
    disk: SmallDisk, broker: Broker, whom: str
) -> None:
    """The one that waits, one that reads the same topic, or any other: it is what makes room."""
    topic = f"t-makes-room-{whom}"
    sent = events(topic, range(2000))
    async with serving(disk, broker, f"room-{whom}") as (service, client):
        await client.deploy(spec("goes", topic, state={"flush_ms": 100}))
        await client.deploy(spec("stays", topic, state=SELDOM))
        await client.deploy(spec("other", f"{topic}-other", state=SELDOM))
        await service.events.send_all(sent[:1000])
        await learned(client, "stays", 1000)
        disk.fill()
        await service.events.send_all(sent[1000:])
        await noted(client, "goes", "No space left on device")
        asking = asyncio.ensure_future(client.create_snapshot("goes", "two"))
        await asyncio.sleep(1.0)
        assert not asking.done()
        assert (await client.delete(whom)).changed
        asking.cancel()
        assert not service.failed.done()


async def test_a_stop_ends_what_waits_for_room(disk: SmallDisk, broker: Broker) -> None:
    """A snapshot has the shard, events that have been fetched wait for it, and it for the disk."""
    sent = events("t-stops", range(40_000))
    async with serving(disk, broker, "stops") as (service, client):
        await client.deploy(spec("stops", "t-stops", state=SELDOM))
        await service.events.send_all(sent[:1000])
        await learned(client, "stops", 1000)
        (shard,) = service.worker.shards.of_agent("stops")
        await shard.flush()
        disk.fill()
        feeding = asyncio.ensure_future(_fed(service, sent[1000:]))
        await asyncio.sleep(0.5)
        asking = asyncio.ensure_future(client.create_snapshot("stops", "one"))
        async with asyncio.timeout(10):
            while not shard.waits_for:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # a chunk comes, and waits
        assert shard._turn.locked()
        feeding.cancel()
        asking.cancel()


async def _fed(service: Service, sent: Sequence[Outgoing]) -> None:
    for begin in range(0, len(sent), 200):
        await service.events.send_all(sent[begin : begin + 200])
        await asyncio.sleep(0.002)
