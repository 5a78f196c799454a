"""Clients are started and stopped in a bounded time, and whoever is cancelled meanwhile ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiokafka.client
import pytest
from aiokafka.errors import KafkaError

from headrace.pipelines import clients, reader
from headrace.pipelines.broker import Broker
from headrace.views import Partition

TURNS = 12


class Client:
    """A client that takes some turns of the event loop to stop."""

    async def stop(self) -> None:
        for _ in range(TURNS // 2):
            await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_cancellation_at_any_moment_of_a_stop_is_not_swallowed(turns: int) -> None:
    """Who stops a client while being cancelled would go on otherwise, and wait for what is gone."""
    after: list[str] = []

    async def stop() -> None:
        await clients.stop(cast(Any, Client()))
        after.append("went on")

    stopping = asyncio.create_task(stop())
    for _ in range(turns):
        await asyncio.sleep(0)
    in_time = stopping.cancel()
    await asyncio.wait({stopping})
    assert (stopping.cancelled(), after) == ((True, []) if in_time else (False, ["went on"]))


async def test_a_reader_that_is_given_up_while_it_starts_leaves_no_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka forgets its first connection when it is cancelled before it has the metadata."""
    made: list[Any] = []
    real = aiokafka.client.create_conn

    async def create_conn(*where: Any, **how: Any) -> Any:
        made.append(await real(*where, **how))
        return made[-1]

    monkeypatch.setattr(aiokafka.client, "create_conn", create_conn)
    reading = asyncio.create_task(reader.span(broker.bootstrap, Partition("left", 0)))
    while not made:  # noqa: ASYNC110 - it asks for metadata now
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    assert not any(connection.connected() for connection in made)


@pytest.mark.parametrize("how", ["waits", "raises", "is cancelled"])
async def test_a_reader_whose_stop_is_cut_short_leaves_no_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Aiokafka closes its connections last, and lets the cancellation of a request through."""
    monkeypatch.setattr(clients, "STOP_WAIT_S", 0.1)
    consumer = clients.log_reader(broker.bootstrap)
    await clients.start(consumer)
    await consumer._client.fetch_all_metadata()
    connections = list(consumer._client._conns.values())
    assert any(connection.connected() for connection in connections)
    close = consumer._fetcher.close

    async def cut_short() -> None:
        await close()
        if how == "waits":
            await asyncio.Event().wait()
        raise KafkaError if how == "raises" else asyncio.CancelledError

    monkeypatch.setattr(consumer._fetcher, "close", cut_short)
    await clients.stop(consumer)
    assert not any(connection.connected() for connection in connections)


@pytest.mark.parametrize("again", [False, True])
async def test_a_stop_that_is_given_up_while_it_closes_connections_ends(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    """Its cancellation is not that of who stops the client, and a second wait has an end, too."""
    monkeypatch.setattr(clients, "STOP_WAIT_S", 0.1)
    monkeypatch.setattr(clients, "CANCEL_WAIT_S", 0.1)
    consumer = clients.log_reader(broker.bootstrap)
    await clients.start(consumer)
    await consumer._client.fetch_all_metadata()
    connection = next(iter(consumer._client._conns.values()))
    close, never = connection.close, asyncio.get_running_loop().create_future
    ended = never()

    def closing(**how: Any) -> asyncio.Future[None]:
        close(**how)
        return never() if again else ended

    monkeypatch.setattr(connection, "close", closing)
    await asyncio.wait_for(clients.stop(consumer), 10)
    assert not connection.connected()
