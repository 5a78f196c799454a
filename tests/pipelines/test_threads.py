"""Work in threads: who waits for it, and who goes first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import BEHIND_NICE, behind_others, in_a_thread
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Added
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import published, take, taken, told
from tests.pipelines.test_fetcher import Threaded

FORBIDDEN = """
import asyncio, logging, os, sys
from headrace.pipelines.threads import behind_others

def forbidden(*_):
    raise PermissionError(1, "Operation not permitted")

async def work():
    return [await behind_others(lambda: number) for number in range(3)]

logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")
os.setpriority = forbidden
print(asyncio.run(work()))
"""
"""In a process of its own: the threads of this one are there already."""

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="threads have no priority of their own here"
)


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
async def test_what_nobody_waits_for_steps_behind_and_nothing_else_does() -> None:
    """Its threads are nicer than the others, which stay as they were."""
    usual = _niceness()
    assert await behind_others(_niceness) == min(usual + BEHIND_NICE, 19)
    assert await in_a_thread(_niceness) == usual == _niceness()


@linux
def test_files_are_published_behind_others_and_stores_are_opened_by_none_of_those(
    tmp_path: Path,
) -> None:
    """RocksDB's threads are as nice, for good, as who opens the first store of the process."""
    usual, niceness = _niceness(), {"probed": -1, "published": -1}

    class Kept(LocalRepository):
        def add_file(self, *given: Any) -> Added:
            niceness["published"] = _niceness()
            return super().add_file(*given)

    def told_of(specs: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*given: Any) -> Any:  # right before the store is opened
            niceness["probed"] = _niceness()
            return specs(*given)

        return asked

    async def work(place: Place, shard: Shard) -> None:
        place.vault._repository = Kept(tmp_path / "kept")
        place.vault.probing.specs = told_of(place.vault.probing.specs)
        await take(place, shard)
        await published(place)

    told(tmp_path, work, Threaded())
    assert niceness == {"probed": usual, "published": min(usual + BEHIND_NICE, 19)}


class Held(LocalRepository):
    """A file stays on its way there until `stopped`; `begun`: those that were, or are."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun: list[Path] = []
        self.on_its_way, self.stopped = threading.Event(), threading.Event()

    def add_file(self, path: Path, *given: Any) -> Added:
        self.begun.append(path)
        self.on_its_way.set()
        assert self.stopped.wait(10)
        return super().add_file(path, *given)


async def cancelled_midway(work: Coroutine[Any, Any, None], kept: Held) -> None:
    """The first file is on its way when it is cancelled, and comes then."""
    task = asyncio.create_task(work)
    assert await asyncio.to_thread(kept.on_its_way.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    kept.stopped.set()
    await asyncio.gather(task, return_exceptions=True)
    await behind_others(lambda: None)  # behind what was at work there


def test_a_worker_that_stops_brings_no_further_file(tmp_path: Path) -> None:
    """A process ends when its threads have: with a large snapshot that could take minutes."""

    async def work(place: Place, shard: Shard) -> None:
        place.vault._repository = kept = Held(tmp_path / "kept")
        await take(place, shard)
        await cancelled_midway(place.vault.publish(place.shards.site.precedence), kept)
        assert len(kept.begun) == 1
        assert kept.snapshots() == []

    told(tmp_path, work, Threaded())


def test_nor_does_one_that_is_writing_a_snapshot_anew(tmp_path: Path) -> None:
    """What it has written by then goes with a collection."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        place.vault._repository = kept = Held(tmp_path / "kept")
        await cancelled_midway(place.vault.rewrite(vouched), kept)
        assert len(kept.begun) == 1
        assert kept.snapshots() == []
        assert place.vault.catalogue.stands(vouched)

    told(tmp_path, work, Threaded())


@pytest.mark.parametrize("times", [1, 3])
async def test_a_thread_is_waited_for_however_often_who_waits_is_cancelled(times: int) -> None:
    """A stop that takes too long is told once more; the files are the thread's until it ends."""
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()
    task = asyncio.create_task(_cleaned_up(begun, go_on, order))
    assert await asyncio.to_thread(begun.wait, 10)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert order == ["thread", "caller"]
    assert task.cancelled()


def test_a_thread_is_waited_for_where_all_that_is_left_is_cancelled() -> None:
    """At the end of a process every task is, whoever waits for it."""
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    async def whole() -> None:
        left.append(asyncio.create_task(_cleaned_up(begun, go_on, order)))
        assert await asyncio.to_thread(begun.wait, 10)
        threading.Timer(0.2, go_on.set).start()

    left: list[asyncio.Task[None]] = []
    asyncio.run(whole())
    assert order == ["thread", "caller"]


async def _cleaned_up(begun: threading.Event, go_on: threading.Event, order: list[str]) -> None:
    def work() -> None:
        begun.set()
        assert go_on.wait(10)
        order.append("thread")

    try:
        await in_a_thread(work)
    finally:
        order.append("caller")


@linux
def test_where_no_priority_may_be_set_the_work_is_done_all_the_same() -> None:
    """Some sandboxes forbid it; the log says so once."""
    ended = subprocess.run(
        [sys.executable, "-c", FORBIDDEN], capture_output=True, text=True, check=False
    )
    told = ["WARNING thread.not_behind", "[0, 1, 2]"]
    assert (ended.stdout.splitlines(), ended.returncode) == (told, 0), ended.stderr
