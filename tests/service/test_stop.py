"""A stop in order: all is flushed, whatever was just going on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.worker import _ended
from headrace.state.directory import StateDirectory
from tests.service.conftest import Start
from tests.service.test_service import events, learned, spec


async def test_a_stop_while_a_topic_is_being_joined_or_left_is_in_order(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Right after a deploy or a delete was answered: all is flushed, so nothing is amiss, and the
    group is left, so that nobody waits for a member that is gone.
    """
    async with start() as (_, client):
        await client.deploy(spec("joined", "t-joined"))
    async with start() as (service, client):
        await client.deploy(spec("left", "t-left"))
        await service.events.send_all(events("t-joined", range(10)))
        await learned(client, "joined", 10)
        await client.delete("left")
        (shard,) = service.worker.shards.of_agent("joined")
        caplog.set_level(logging.INFO, "aiokafka.consumer.group_coordinator")
    assert shard.durable_offset == 10
    assert "LeaveGroup request succeeded" in caplog.messages


async def test_a_stop_waits_for_what_it_cancels(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is still at work on the state directory meets no other process there."""
    order: list[str] = []
    begun = threading.Event()
    close = StateDirectory.close

    def work() -> None:
        begun.set()
        time.sleep(2.0)
        order.append("the thread has ended")

    def closing(directory: StateDirectory) -> None:
        order.append("the directory is free")
        close(directory)

    monkeypatch.setattr(StateDirectory, "close", closing)
    async with start() as (service, _):
        service.worker._run(in_a_thread(work))
        assert await asyncio.to_thread(begun.wait, 10)
    assert order == ["the thread has ended", "the directory is free"]


async def test_what_loses_a_cancellation_is_told_again() -> None:
    """`asyncio.wait_for` does, if what it waits for is done just then: a stop would never end."""

    async def losing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    task = asyncio.create_task(losing())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await _ended(task)
    assert task.cancelled()
