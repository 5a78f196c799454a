"""Virtual time, and processes that die between two steps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.simulation.loop import Process, Stuck, VirtualLoop

T = TypeVar("T")


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop of its own, closed in the end."""
    made = VirtualLoop(random.Random(3))
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


def run(loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives."""
    return loop.run_until_complete(work)


def test_hours_pass_at_once(loop: VirtualLoop) -> None:
    """A sleep of a day ends at the virtual time of a day later, and costs nothing."""
    run(loop, asyncio.sleep(86_400))
    assert 86_400 <= loop.time() < 86_401


def test_who_waits_for_nothing_is_told(loop: VirtualLoop) -> None:
    """A future that nobody will ever set is an error, not a hang."""
    with pytest.raises(Stuck):
        run(loop, asyncio.wait_for(asyncio.shield(loop.create_future()), None))


def test_a_thread_is_a_later_step(loop: VirtualLoop) -> None:
    """What goes to a thread is done at one moment and told at a later one, on this loop."""
    assert run(loop, asyncio.to_thread(lambda: asyncio.get_running_loop() is loop))


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_process_dies_at_any_step(loop: VirtualLoop, dies_at: int) -> None:
    """Its tasks do nothing more, those that wait included; what the system holds is taken back."""
    done: list[str] = []

    async def child() -> None:
        for number in range(3):
            await asyncio.sleep(0.1)
            done.append(f"child {number}")

    async def parent() -> None:
        task = asyncio.ensure_future(child())
        await asyncio.sleep(0)
        done.append("parent")
        await task

    async def world() -> None:
        process = Process("w", dies_at)
        process.held.callback(done.append, "taken back")
        process.start(parent())
        await process.dead
        await asyncio.sleep(5)

    run(loop, world())
    assert done[-1] == "taken back"
    assert len(done) <= dies_at
    assert done[:-1] == ["parent", "child 0", "child 1", "child 2"][: len(done) - 1]
