"""What opening a shard does to the disk: beside all answers, and nothing stays open if it fails."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DiskFullError
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Site
from headrace.state.directory import StateDirectory
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, taken, told


def full(*_: Any) -> None:
    """A disk that takes nothing more."""
    raise DiskFullError("no space left on device")


@pytest.mark.parametrize("step", ["drop_shard", "drop_former", "adopt"])
def test_want_of_room_at_any_step_leaves_no_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It is tried again: it must not meet its own lock, nor the drafts of all tries before."""

    async def work(place: Place, shard: Shard) -> None:
        await place.shards.close(shard, flush=True)
        older = place.directory.shard_path("a", 1, *WHERE)
        kept = tmp_path / "older"
        older.rename(kept)
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await more(place, shard)
        await taken(place, shard, "s1")
        await place.shards.close(shard, flush=True)
        place.directory.drop_shard(older)
        kept.rename(older)  # so it is restored, and something is in its place
        with monkeypatch.context() as patched:
            patched.setattr(StateDirectory, step, full)
            errors = []  # they keep what was at work when they were raised
            for _ in range(3):
                with pytest.raises(DiskFullError) as error:
                    await place.shards.open(place.deployment, WHERE)
                errors.append(error)
        assert list((place.directory.path / "drafts").iterdir()) == []
        again = await place.shards.open(place.deployment, WHERE)
        assert again.next_offset == 100

    told(tmp_path, work)


def test_want_of_room_while_an_older_state_is_removed_leaves_no_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer one is open by then."""

    async def work(place: Place, shard: Shard) -> None:
        await place.shards.close(shard, flush=True)
        older, newer = (place.directory.shard_path("a", epoch, *WHERE) for epoch in (1, 2))
        await asyncio.to_thread(shutil.copytree, older, newer)
        with monkeypatch.context() as patched:
            patched.setattr(StateDirectory, "drop_shard", full)
            with pytest.raises(DiskFullError) as error:
                await place.shards.open(place.deployment, WHERE)
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.next_offset, older.exists()) == (50, False)
        assert error.value is not None

    told(tmp_path, work)


def restorable(place: Place) -> None:
    """Nothing is left of the shard on this disk but a checkpoint."""
    place.directory.drop_shard(place.directory.shard_path("a", 1, *WHERE))


def test_what_takes_long_is_done_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other agents answer while a large shard is restored. In virtual time what goes to a thread is
    a task of its own.
    """

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await place.shards.close(shard, flush=True)
        restorable(place)
        by: dict[str, asyncio.Task[Any] | None] = {}

        def watched(owner: type, name: str) -> None:
            real = getattr(owner, name)

            def call(*given: Any) -> Any:
                by[name] = asyncio.current_task()
                return real(*given)

            monkeypatch.setattr(owner, name, call)

        for owner, name in (
            (Site, "open_store"),
            (StateDirectory, "adopt"),
            (StateDirectory, "drop_shard"),
            (StateDirectory, "drop_former"),
        ):
            watched(owner, name)
        opening = asyncio.create_task(place.shards.open(place.deployment, WHERE))
        assert (await opening).next_offset == 50
        assert set(by) == {"open_store", "adopt", "drop_shard", "drop_former"}
        assert opening not in by.values()

    told(tmp_path, work)


def test_one_that_is_cancelled_at_any_moment_leaves_no_store_open(tmp_path: Path) -> None:
    """A rebalance may end while a shard is being opened; the next one opens it."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await place.shards.close(shard, flush=True)
        for number in range(60):
            if number % 2:
                restorable(place)
            opening = asyncio.create_task(place.shards.open(place.deployment, WHERE))
            await asyncio.sleep(0.01 * number)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            again = await place.shards.open(place.deployment, WHERE)
            assert again.next_offset == 50
            await place.shards.close(again, flush=False)

    told(tmp_path, work)
