"""Services that come and go on a broker that outlives them, as a cluster does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

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
    app = request.node.name.replace("_", "-").removeprefix("test-")[:40]

    @asynccontextmanager
    async def running(state: str = "state", on: Broker | None = None) -> AsyncIterator[Running]:
        config = Config(app=app, grpc_port=0, metrics_port=None, state_dir=tmp_path / state)
        service = Service(config, broker=on or broker)
        await service.start()
        try:
            async with AsyncClient(service.grpc_address) as client:
                yield Running(service, client)
        finally:
            await service.stop()

    return running
