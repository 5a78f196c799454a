"""The process of the workers: what the harness hears when things go wrong in it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.pipelines.broker import Broker
from tests.crash.life import Life
from tests.crash.nursery import Nursery, WorkerEndedError


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    """A nursery of its own."""
    started = Nursery(tmp_path / "worker.log")
    await started.start()
    yield started
    await started.stop()


def life(broker: Broker, state: Path) -> Life:
    return Life(
        app="nursery",
        bootstrap=broker.bootstrap,
        transactions=broker.can_transactions,
        state=str(state),
        session_s=0.8,
    )


async def test_a_worker_that_does_not_start_is_told_with_its_last_words(
    broker: Broker, nursery: Nursery, tmp_path: Path
) -> None:
    """A state directory that is none: the harness does not wait, and says what the worker said."""
    (tmp_path / "state").write_text("a file")
    worker = await nursery.bear(life(broker, tmp_path / "state"))
    with pytest.raises(WorkerEndedError, match="state is a file"):
        await nursery.ready(worker)
    assert await worker.ended == 1


async def test_one_process_bears_one_worker_after_the_other(
    broker: Broker, nursery: Nursery, tmp_path: Path
) -> None:
    """After a kill and after a SIGTERM another one is born, each with an id of its own."""
    born = []
    for _ in range(2):
        worker = await nursery.bear(life(broker, tmp_path / "state"))
        assert await nursery.ready(worker)
        born.append(await worker.pid)
        if len(born) == 1:
            await worker.kill()
            assert worker.ended.result() == -9
    assert await worker.stop() == 0
    assert born[0] != born[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_when_the_process_is_gone_nobody_waits(
    broker: Broker, nursery: Nursery, tmp_path: Path
) -> None:
    """Whoever waits for a worker is told at once that nothing will come."""
    worker = await nursery.bear(life(broker, tmp_path / "state"))
    await worker.pid
    nursery._process.kill()
    with pytest.raises(WorkerEndedError, match="the nursery has ended"):
        async with asyncio.timeout(10):
            await worker.ended
