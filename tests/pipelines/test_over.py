"""Snapshots that are over, wherever a shard of them still is; and clocks that are set back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import structs

from headrace.clock import ManualClock
from headrace.errors import ConflictError, GoneStateError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.shard import Shard
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.snapshotting import AutomaticSnapshots
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.state.catalogue import encode
from headrace.state.cut import Kind
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, publish_all, taken, told

DAY_S = 24 * 3_600


def test_one_of_a_former_life_is_not_published_over_that_of_a_later_one(tmp_path: Path) -> None:
    """It was taken while the repository was away; since then the agent was deployed anew, and a
    snapshot of the same name made elsewhere.
    """

    async def work(place: Place, shard: Shard) -> None:
        later = structs.replace(await taken(place, shard, "other"), snapshot_id="a.s1", epoch=2)
        await shard.between_events(lambda shard: _take(place, shard, "a.s1"))
        await place.catalogue.append(later.key, encode(later))
        await publish_all(place)
        assert place.vault.catalogue.shards("a.s1") == {WHERE: later}

    told(tmp_path, work)


def test_one_of_a_later_life_that_comes_right_behind_stays(tmp_path: Path) -> None:
    """Both are published at once, and its record is the last: it is not taken back with ours."""

    async def work(place: Place, shard: Shard) -> None:
        later = structs.replace(await taken(place, shard, "other"), snapshot_id="a.s1", epoch=2)
        await shard.between_events(lambda shard: _take(place, shard, "a.s1"))
        append = place.catalogue.append

        async def with_another_behind(key: bytes, value: bytes | None) -> None:
            await append(key, value)
            if value is not None:
                await append(later.key, encode(later))

        place.catalogue.append = with_another_behind  # type: ignore[method-assign]
        await publish_all(place)
        assert place.vault.catalogue.shards("a.s1") == {WHERE: later}
        assert not place.vault.owes("a.s1")

    told(tmp_path, work)


def test_what_a_rollback_replaced_stays_removed(tmp_path: Path) -> None:
    """One shard is not published yet when the others are removed: it would come back alone, and
    who goes back to it is told that it is gone.
    """

    async def work(place: Place, shard: Shard) -> None:
        await shard.between_events(lambda shard: _take(place, shard, "a.undo-1"))
        await place.vault.remove("a.undo-1", *known_of("a.undo-1", place.controls.registry))
        await shard.between_events(lambda shard: _take(place, shard, "a.undo-1"))
        await publish_all(place)
        assert place.vault.catalogue.get("a.undo-1") is None
        base = control.Base(partition=0, epoch=1, next_offset=50, digest="")
        with pytest.raises(GoneStateError):
            await place.vault.base(WHERE, "a.undo-1", base)

    told(tmp_path, work)


def test_what_a_rollback_is_putting_aside_is_not_removed(tmp_path: Path) -> None:
    """The other shards would be taken back alone."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        bases = tuple(
            control.Base(partition=number, epoch=1, next_offset=50, digest=vouched.digest)
            for number in (0, 1)
        )
        place.command(control.Rollback(id="r", agent="a", life=1, snapshot_id="a.s1", bases=bases))
        undo = undo_id("a", "r")
        async with asyncio.timeout(20):
            while shard.origin.epoch == 1:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        await publish_all(place)
        parts = {"vault": place.vault, "controls": place.controls}
        worker = cast(Worker, SimpleNamespace(check_ready=lambda: None, **parts))
        with pytest.raises(ConflictError, match="is putting into") as refused:
            await SnapshotCommands(worker).delete(undo)
        assert refused.value.code == "snapshot_in_use"
        assert place.vault.catalogue.get(undo) is not None

    told(tmp_path, work)


def test_a_clock_that_is_set_back_stops_no_snapshots(tmp_path: Path) -> None:
    """It was a day ahead for a moment; those of slots that it has been in stay as they are."""

    async def work(place: Place, shard: Shard) -> None:
        clock = ManualClock(1_764_000_000.0)
        place.vault._clock = clock
        automatic = AutomaticSnapshots(place.vault, place.shards.all, lambda _: 1)
        await automatic.look()
        for seconds in (60, DAY_S, 60 - DAY_S):
            clock.now += seconds
            await more(place, shard)
            await automatic.look()
        cuts = [cut for cut in place.vault._checkpoints.cuts() if cut.kind == "automatic"]
        assert [cut.next_offset for cut in cuts] == [100, 400, 200]
        clock.now -= 60
        await more(place, shard)
        await automatic.look()
        after = [cut for cut in place.vault._checkpoints.cuts() if cut.kind == "automatic"]
        assert after == cuts
        standing = shard.next_offset
        clock.now += 600
        await automatic.look()  # nothing was learned since, and nothing taken
        newest = [cut for cut in place.vault._checkpoints.cuts() if cut not in cuts]
        assert [cut.next_offset for cut in newest if cut.kind == "automatic"] == [standing]

    told(tmp_path, work)


async def _take(place: Place, shard: Shard, snapshot_id: str) -> bool:
    """As a command at the beginning of the control log would have it taken."""
    await shard.settle()
    kind: Kind = "undo" if ".undo-" in snapshot_id else "named"
    await place.vault.take(shard, snapshot_id, kind, 1, 0)
    return True
