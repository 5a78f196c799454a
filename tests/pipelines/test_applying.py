"""Commands that come to a shard while an earlier one waits there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from headrace.errors import AwayStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.applying import LEAVE_S
from headrace.pipelines.changes import Change
from headrace.pipelines.replacement import LACK_WAIT_S
from headrace.pipelines.shard import Shard
from headrace.pipelines.undoing import way_back
from headrace.state.catalogue import encode
from headrace.state.tombstones import tombstone
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, published, told
from tests.pipelines.test_holdings import held
from tests.pipelines.test_repository_away import revert_waits
from tests.pipelines.test_rewind_without_room import SECRET, rewind_to_fifty


async def in_epoch(shard: Shard, epoch: int) -> None:
    async with asyncio.timeout(LACK_WAIT_S):
        while shard.origin.epoch < epoch:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)


def keeping(name: str) -> control.Snapshot:
    """A snapshot that is asked for by name."""
    return control.Snapshot(id=name, agent="a", life=1, snapshot_id=f"a.{name}", partitions=1)


async def all_counted(place: Place, *control_ids: str) -> None:
    async with asyncio.timeout(LACK_WAIT_S):
        while not all(map(place.deployment.positions, control_ids)):  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.01)


def test_a_snapshot_is_of_the_epoch_in_which_it_was_asked_for(tmp_path: Path) -> None:
    """It waits for the rollback that was asked for before it, so it is the same one when the log is
    learned again, where both count at one place in that order.
    """

    async def work(place: Place, shard: Shard) -> None:
        shelf = await revert_waits(place, shard)
        place.command(keeping("keep"))
        await asyncio.sleep(LACK_WAIT_S / 4)
        assert place.deployment.positions("keep") == {}
        shelf.away = False
        await in_epoch(shard, 2)
        await all_counted(place, "keep")
        assert (await published(place, "keep")).epoch == 2
        assert place.deployment.failed("r") == {}

    told(tmp_path, work)


def test_the_next_rollback_waits_for_a_snapshot_that_waits_for_the_last(tmp_path: Path) -> None:
    """Also where its turn would come first, as the last one's boundary is on its way for long."""

    async def work(place: Place, shard: Shard) -> None:
        place.command(await rewind_to_fifty(place, shard))
        place.command(keeping("keep"))
        while place.deployment.effect("r", WHERE) is None:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.001)
        place.sink.released.clear()
        asyncio.get_running_loop().call_later(0.5, place.sink.released.set)
        rewind = place.deployment.accepted("r")
        assert rewind is not None
        back = way_back(place.deployment, rewind, ())
        place.command(
            structs.replace(back, id="u", undoes="r", if_standing=True, where_standing=True)
        )
        await all_counted(place, "keep", "u")
        assert (await published(place, "keep")).epoch == 2
        await in_epoch(shard, 3)

    told(tmp_path, work)


def test_a_rollback_waits_for_the_snapshots_that_are_owed_at_an_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were asked for before it, and are taken one after the other."""

    async def work(place: Place, shard: Shard) -> None:
        command = structs.replace(await rewind_to_fifty(place, shard), mode="revert")
        await place.shards.close(shard, flush=True)
        place.command(keeping("first"))
        place.command(keeping("second"))
        await asyncio.sleep(1.0)
        take = place.vault.take

        async def slow(taken: Shard, snapshot_id: str, *rest: Any) -> Path:
            until = asyncio.get_running_loop().time() + 5.0
            while snapshot_id == "a.first" and asyncio.get_running_loop().time() < until:
                if taken._turn.wanted:  # whoever comes next is not the second one
                    break
                await asyncio.sleep(0.05)
            return await take(taken, snapshot_id, *rest)

        monkeypatch.setattr(place.vault, "take", slow)
        again = await place.shards.open(place.deployment, WHERE)
        place.command(command)
        await all_counted(place, "first", "second", "r")
        assert [(await published(place, each)).epoch for each in ("first", "second")] == [1, 1]
        await in_epoch(again, 2)
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_a_shard_is_opened_although_its_rollback_waits_for_a_repository(tmp_path: Path) -> None:
    """Others wait for the opening, and a stop does; it is done when the repository is back."""

    async def work(place: Place, shard: Shard) -> None:
        shelf = await revert_waits(place, shard)
        await place.shards.close(shard, flush=True)
        async with asyncio.timeout(2 * LEAVE_S):
            again = await place.shards.open(place.deployment, WHERE)
        assert again.origin.epoch == 1
        shelf.away = False
        await in_epoch(again, 2)
        assert place.deployment.failed("r") == {}
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_a_shard_that_breaks_takes_nobody_with_it(tmp_path: Path) -> None:
    """What is needed where a rollback counts is away, and a forget waits for the shard's turn: the
    agent is given up, and what was to be done beside the shard ends without a failure.
    """

    async def work(place: Place, shard: Shard) -> None:
        holdings, host = await held(place)
        await place.catalogue.append(SECRET.key, encode(SECRET))
        begun = asyncio.Event()

        async def away(_: Shard) -> bool:
            begun.set()
            await asyncio.sleep(0.5)
            raise AwayStateError("Connection refused")

        async def learn() -> None:
            try:
                await more(place, shard)
            except StateError as error:
                await holdings.drop(shard, error)

        await shard.schedule([Change(60, "rollback", 900, away)])
        learning = asyncio.create_task(learn())
        await begun.wait()
        key = tombstone(SECRET, "a", "nobody")
        place.command(control.Forget(id="f", agent="a", secret_id=SECRET.id, tombstone=key))
        await learning
        await asyncio.sleep(1.0)
        assert list(holdings.broken) == ["a"]
        assert [task.exception() for task in host._tasks if task.done()] == [None, None]

    told(tmp_path, work)


def test_nothing_counts_in_a_shard_that_has_broken(tmp_path: Path) -> None:
    """Who waited for its turn when it broke leaves the command to the shard's next worker."""

    async def work(place: Place, shard: Shard) -> None:
        async def breaks(_: Shard) -> bool:
            await asyncio.sleep(0.5)
            raise StateError("the disk cannot be trusted")

        await shard.schedule([Change(60, "rollback", 900, breaks)])
        learning = asyncio.create_task(more(place, shard))
        await asyncio.sleep(0.1)
        place.command(keeping("late"))
        with pytest.raises(StateError, match="trusted"):
            await learning
        await asyncio.sleep(1.0)
        assert place.deployment.positions("late") == {}
        await place.shards.close(shard, flush=False)

    told(tmp_path, work)
