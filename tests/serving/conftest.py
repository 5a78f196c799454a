"""A real server on a free loopback port, before a small real backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import SnapshotView
from tests.serving.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def before(world: World) -> SnapshotView:
    """The one snapshot that is there, named `before`."""
    return world.snapshots.take("card-fraud", "before", "named")


@pytest.fixture
def limits() -> Limits:
    return Limits(stall_s=0.2, health_poll_s=0.01)


@pytest.fixture
async def server(world: World, limits: Limits) -> AsyncIterator[Server]:
    server = Server(world.backend, Listen(port=0), limits=limits)
    await server.start()
    yield server
    await server.stop(0.2)


@pytest.fixture
def target(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


@pytest.fixture
async def client(target: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(target) as client:
        yield client
