"""Commands that come to a shard while an earlier one waits there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headrace.errors import AwayStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.applying import LEAVE_S
from headrace.pipelines.changes import Change
from headrace.pipelines.replacement import AWAY_WAIT_S
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import encode
from headrace.state.tombstones import tombstone
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, published, told
from tests.pipelines.test_holdings import held
from tests.pipelines.test_repository_away import revert_waits
from tests.pipelines.test_rewind_without_room import SECRET


async def in_epoch(shard: Shard, epoch: int) -> None:
    async with asyncio.timeout(AWAY_WAIT_S):
        while shard.origin.epoch < epoch:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)


def test_a_snapshot_is_of_the_epoch_in_which_it_was_asked_for(tmp_path: Path) -> None:
    """It waits for the rollback that was asked for before it, so it is the same one when the log is
    learned again, where both count at one place in that order.
    """

    async def work(place: Place, shard: Shard) -> None:
        shelf = await revert_waits(place, shard)
        keep = control.Snapshot(id="k", agent="a", life=1, snapshot_id="a.keep", partitions=1)
        place.command(keep)
        await asyncio.sleep(AWAY_WAIT_S / 4)
        assert place.deployment.positions("k") == {}
        shelf.away = False
        await in_epoch(shard, 2)
        while not place.deployment.positions("k"):  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        assert (await published(place, "keep")).epoch == 2
        assert place.deployment.failed("r") == {}

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
