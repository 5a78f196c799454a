"""How the preview of a rewind ends: whatever ends it, nothing of it is left at work."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.errors import CorruptStateError, UnavailableError
from headrace.pipelines import control, previewing
from headrace.pipelines.order import Chunk
from headrace.pipelines.previewing import Preview
from headrace.pipelines.rewind import Again
from headrace.pipelines.shard import Shard
from headrace.pipelines.worker import Worker
from headrace.state.store import ShardStore
from headrace.views import Partition
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, publish_all, told
from tests.pipelines.test_fetcher import Threaded
from tests.pipelines.test_rewind_without_room import drafts, rewind_to_fifty
from tests.simulation.broker import SimReplay

BESIDE = Partition("events", 1)
SLOW_S = 0.1
END_S = 5.0  # in which a preview ends that nobody waits for


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the newest events none have to be read besides those that the twin learns."""
    monkeypatch.setattr(previewing, "RECORDS", 20)


def worker(place: Place) -> Worker:
    """Of a worker, what a preview needs."""

    def spawn(work: Any) -> None:
        place.in_background(None, work)

    parts = SimpleNamespace(
        controls=place.controls,
        vault=place.vault,
        shards=place.shards,
        broker=place.broker,
        spawn=spawn,
    )
    return cast(Worker, parts)


async def ended(place: Place) -> None:
    """What a stop would wait for is over."""
    async with asyncio.timeout(END_S):
        await asyncio.gather(*place.tasks)


def test_a_preview_that_is_broken_off_lets_its_threads_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin's store is not closed, nor are its files removed, under a write."""
    began = threading.Event()
    written: list[bool] = []
    usual = ShardStore.write

    def slow(store: ShardStore, *given: Any) -> None:
        if "drafts" in store.path.parts:
            began.set()
            time.sleep(SLOW_S)
        usual(store, *given)
        written.append("drafts" in store.path.parts)

    async def work(place: Place, shard: Shard) -> None:
        command = await rewind_to_fifty(place, shard)
        monkeypatch.setattr(ShardStore, "write", slow)
        making = asyncio.create_task(Preview(worker(place), command).made())
        while not began.is_set():  # noqa: ASYNC110 - a thread tells it
            await asyncio.sleep(0)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        await ended(place)
        assert written[0]
        assert drafts(place) == []

    told(tmp_path, work, Threaded())


def test_a_preview_that_is_broken_off_learns_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have a hundred thousand events to learn, for nobody."""
    pieces = 0
    began = asyncio.Event()
    usual = SimReplay.upto

    async def counted(replay: SimReplay, offset: int) -> Chunk | None:
        nonlocal pieces
        pieces += 1
        began.set()
        return await usual(replay, offset)

    async def work(place: Place, shard: Shard) -> None:
        command = await rewind_to_fifty(place, shard)
        await more(place, shard)
        await more(place, shard)
        monkeypatch.setattr(SimReplay, "upto", counted)
        making = asyncio.create_task(Preview(worker(place), command).made())
        await began.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        await ended(place)
        assert (shard.next_offset, pieces) == (400, 1)
        assert drafts(place) == []

    told(tmp_path, work)


def test_a_preview_fails_when_all_its_partitions_have_come_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot of one is damaged; nobody goes on with that of the other."""
    seen: list[Partition] = []
    end = Again.end

    async def noted(again: Again) -> None:
        if again._twin is not None:
            seen.append(again._twin.shard.partition)
        await end(again)

    async def work(place: Place, shard: Shard) -> None:
        for row in place.broker.logs[WHERE].rows():
            place.broker.logs[BESIDE].append(row.key, row.value, row.timestamp)
        beside = await place.shards.open(place.deployment, BESIDE)
        rows = place.broker.logs[BESIDE].rows()
        await beside.process(Chunk(*BESIDE, rows, 50))

        async def take(shard: Shard) -> bool:
            await place.vault.take(shard, "a.s1", "named", 2)
            return True

        await beside.flush()
        await beside.between_events(take)
        await publish_all(place)
        vouched = place.vault.catalogue.shards("a.s1")[BESIDE]
        damaged = control.Base(partition=0, epoch=1, next_offset=50, digest="0" * 64)
        base = control.Base(partition=1, epoch=1, next_offset=50, digest=vouched.digest)
        for row in rows:
            place.broker.logs[BESIDE].append(row.key, row.value, row.timestamp)
        await beside.process(Chunk(*BESIDE, place.broker.logs[BESIDE].rows(), 100))
        monkeypatch.setattr(Again, "end", noted)
        command = control.Rollback(
            id="r", agent="a", life=1, snapshot_id="a.s1", bases=(damaged, base), mode="rewind"
        )
        with pytest.raises(CorruptStateError):
            await Preview(worker(place), command).made()
        assert seen == [BESIDE]
        assert drafts(place) == []
        await ended(place)
        await place.shards.close(beside, flush=True)

    told(tmp_path, work)


async def test_what_a_preview_raises_that_nobody_waits_for_is_no_error() -> None:
    """Its caller has gone: the log would tell of an exception that was never retrieved."""
    told_of: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told_of.append(context))

    async def made() -> Any:
        raise UnavailableError("stopping", "the shard is being closed")

    making = asyncio.create_task(made())
    await previewing._end_of(making)
    del making
    gc.collect()
    assert told_of == []
