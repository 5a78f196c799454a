"""Work in threads: who waits for it, and who goes first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import BEHIND_NICE, behind_others, in_a_thread
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Added
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import published, take, told
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


def test_a_worker_that_stops_brings_no_further_file(tmp_path: Path) -> None:
    """A process ends when its threads have: with a large snapshot that could take minutes."""
    begun: list[Path] = []
    on_its_way, stopped = threading.Event(), threading.Event()

    class Kept(LocalRepository):
        def add_file(self, path: Path, *given: Any) -> Added:
            begun.append(path)
            on_its_way.set()
            assert stopped.wait(10)
            return super().add_file(path, *given)

    async def work(place: Place, shard: Shard) -> None:
        place.vault._repository = kept = Kept(tmp_path / "kept")
        await take(place, shard)
        publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
        assert await asyncio.to_thread(on_its_way.wait, 10)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        stopped.set()
        await behind_others(lambda: None)  # behind what was at work there
        assert len(begun) == 1
        assert kept.snapshots() == []

    told(tmp_path, work, Threaded())


@linux
def test_where_no_priority_may_be_set_the_work_is_done_all_the_same() -> None:
    """Some sandboxes forbid it; the log says so once."""
    ended = subprocess.run(
        [sys.executable, "-c", FORBIDDEN], capture_output=True, text=True, check=False
    )
    told = ["WARNING thread.not_behind", "[0, 1, 2]"]
    assert (ended.stdout.splitlines(), ended.returncode) == (told, 0), ended.stderr
