"""One embedded broker for all tests: starting it costs 0.3 s, topics cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.topics import Topics


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running embedded broker, ended by its own process id."""
    # Started from the main thread: the kernel ends the broker together with this thread.
    running = MemoryBroker(tmp_path_factory.mktemp("broker"))
    asyncio.run(running.start())
    yield running
    asyncio.run(running.stop())


@pytest.fixture
async def topics(broker: Broker) -> AsyncIterator[Topics]:
    """Topics of the embedded broker."""
    asked = Topics(broker)
    await asked.start()
    yield asked
    await asked.stop()
