"""Services that come and go on a broker that outlives them, as a cluster does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from headrace.config import Config
from headrace.pipelines.broker import Broker
from headrace.service import Service
from headrace.serving.client import AsyncClient


class Running(NamedTuple):
    """A service that is ready, and a client of it."""

    service: Service
    client: AsyncClient


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    """Start a service of this test's own app; call it again and it is a restart."""
    own = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[-40:].strip("-")

    @asynccontextmanager
    async def running(
        state: str = "state", on: Broker | None = None, app: str = own, **more: Any
    ) -> AsyncIterator[Running]:
        path = tmp_path / state
        config = Config(app=app, grpc_port=0, metrics_port=None, state_dir=path, **more)
        service = Service(config, broker=on or broker)
        await service.start()
        try:
            async with AsyncClient(service.grpc_address) as client:
                yield Running(service, client)
        finally:
            await service.stop()
        _keep_apart(service, request.node.nodeid)

    return running


_TAKEN: dict[tuple[int, str], str] = {}


def _keep_apart(service: Service, test: str) -> None:
    """Tests share a broker, so a topic of decisions must be one test's alone."""
    registry = service.worker.controls.registry
    for deployment in (*registry.live(), *registry.deleted()):
        place = (id(service.worker.broker), deployment.deploy.emit_topic)
        taken = _TAKEN.setdefault(place, test)
        assert taken == test, f"{place[1]} is used in {taken}: give the agent another name"


@asynccontextmanager
async def administering(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    """What the owner of a cluster does to topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topic(broker: Broker, topic: str, **settings: str) -> None:
    """A topic of one partition; `settings` are Kafka's, with _ for the dots in their names."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    async with administering(broker) as admin:
        made = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=named)])
    for _, code, text in made.topic_errors:
        if code:
            raise for_code(code)(text)
