"""The whole service on a disk without room."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from river import linear_model, preprocessing

from headrace.config import Config
from headrace.errors import DiskFullError
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import Outgoing
from headrace.service import Service
from headrace.serving.client import AsyncClient
from headrace.views import AgentView
from tests.service.test_service import events, learned, spec
from tests.service.watched import decisions
from tests.small_disk import SmallDisk


def river_scores(sent: Sequence[Outgoing]) -> list[float]:
    """What River itself predicts for each event before it learns it: a model for each key."""
    models: dict[bytes, Any] = {}
    scores = []
    for event in sent:
        read = msgspec.json.decode(event.value)
        model = models.setdefault(
            event.key, preprocessing.StandardScaler() | linear_model.LinearRegression()
        )
        x = {"power": float(read["power"])}
        scores.append(float(model.predict_one(x)))
        model.learn_one(x, float(read["temp"]))
    return scores


async def noted(client: AsyncClient, agent: str, text: str) -> AgentView:
    """The agent as soon as its note says so (empty: says nothing)."""
    async with asyncio.timeout(20):
        while True:
            view = await client.agent(agent)
            if re.search(text, view.note) if text else not view.note:
                return view
            await asyncio.sleep(0.05)


async def test_a_full_disk_stops_learning_and_committing_and_nothing_else(
    disk: SmallDisk, broker: Broker
) -> None:
    """Without room an agent stands still, says why and answers; with room again it goes on by
    itself, and every event was learned once.
    """
    sent = events("t-full", range(3000))
    config = Config(app="full", grpc_port=0, metrics_port=None, state_dir=disk.path / "state")
    service = Service(config, broker=broker)
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            await client.deploy(spec("full", "t-full", state={"flush_ms": 100}))
            await service.events.send_all(sent[:1000])
            await learned(client, "full", 1000)
            disk.fill()
            await service.events.send_all(sent[1000:2000])
            await noted(client, "full", "No space left on device")
            await asyncio.sleep(1.0)  # the chunk in work is learned to its end
            view = await client.agent("full")
            assert view.state == "running"
            assert view.shards[0].durable_offset < view.shards[0].next_offset
            await service.events.send_all(sent[2000:])
            answer = await client.predict("full", key="ada", features={"power": 1.0})
            assert answer.standing.offset == view.shards[0].next_offset
            assert not service.failed.done()
            disk.empty()
            await noted(client, "full", "")
            await learned(client, "full", 3000)
            made = await decisions(client, "full")
    finally:
        await service.stop()
    assert [d["position"]["offset"] for d in made] == list(range(3000))
    assert [d["score"] for d in made] == river_scores(sent)


async def test_an_agent_is_deleted_to_make_room(disk: SmallDisk, broker: Broker) -> None:
    """It is what somebody would do; the other agent of the topic goes on when there is room."""
    sent = events("t-make-room", range(3000))
    config = Config(app="two", grpc_port=0, metrics_port=None, state_dir=disk.path / "state")
    service = Service(config, broker=broker)
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            await client.deploy(spec("goes", "t-make-room", state={"flush_ms": 100}))
            await client.deploy(spec("stays", "t-make-room", state={"flush_ms": 60_000}))
            await service.events.send_all(sent[:1000])
            await learned(client, "stays", 1000)
            disk.fill()
            await service.events.send_all(sent[1000:2000])
            await noted(client, "goes", "No space left on device")
            await service.events.send_all(sent[2000:])
            await asyncio.sleep(1.0)  # they have been fetched, and wait for the first of the two
            assert (await client.delete("goes")).changed
            disk.empty()
            await learned(client, "stays", 3000)
            assert not service.failed.done()
    finally:
        await service.stop()


async def test_an_agent_that_finds_no_room_begins_when_there_is(
    disk: SmallDisk, broker: Broker
) -> None:
    """It is `failed` and says why, is tried again by itself, and its deploy then succeeds."""
    config = Config(app="later", grpc_port=0, metrics_port=None, state_dir=disk.path / "state")
    service = Service(config, broker=broker)
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            await client.deploy(spec("first", "t-later"))
            await service.events.send_all(events("t-later", range(10)))
            await learned(client, "first", 10)
            disk.fill()
            deploying = asyncio.ensure_future(client.deploy(spec("later", "t-later")))
            async with asyncio.timeout(5):
                while "later" not in service.worker.holdings.broken:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert (await client.agent("later")).state == "failed"
            disk.empty()
            assert (await deploying).changed
            assert (await learned(client, "later", 10)).state == "running"
    finally:
        await service.stop()


async def test_a_service_does_not_start_on_a_full_disk(disk: SmallDisk, broker: Broker) -> None:
    """It says that there is no room, before it has touched anything."""
    disk.fill()
    config = Config(app="roomless", grpc_port=0, metrics_port=None, state_dir=disk.path / "state")
    service = Service(config, broker=broker)
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        await service.start()
