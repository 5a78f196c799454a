"""A replacement that finds what a former try at it has left, or has lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.undoing import way_back
from headrace.pipelines.vault import undo_id
from tests.pipelines.small_place import WHERE
from tests.pipelines.snapshots_of_one import dropped, take, without_manifests
from tests.pipelines.test_forgetting import GONE, HISTORY, OTHER, forget, holding
from tests.pipelines.test_migrations import migrate
from tests.pipelines.test_rollback_laws import Two, lived

ID = "r1"
Command = Callable[[Two, str], Awaitable[control.Rollback | control.Migrate]]


async def reverting_a_key(place: Two, snapshot_id: str) -> control.Rollback:
    return place.back("a", snapshot_id, keys=(OTHER,))


async def rewinding_a_key(place: Two, snapshot_id: str) -> control.Rollback:
    return place.back("a", snapshot_id, keys=(OTHER,), mode="rewind")


async def finding_it_damaged(place: Two, snapshot_id: str) -> control.Rollback:
    command = place.back("a", snapshot_id)
    without_manifests(place.broker.repository, snapshot_id)
    await dropped(place, snapshot_id)
    return command


async def migrating(place: Two, _: str) -> control.Migrate:
    return migrate(place, ID, "keep")


@pytest.mark.parametrize(
    "command", [reverting_a_key, rewinding_a_key, finding_it_damaged, migrating]
)
def test_what_was_kept_by_a_former_try_brings_no_forgotten_key_back(command: Command) -> None:
    """It kept what the shard had and was given up; then a key was forgotten. The state is made of
    what was kept, and knows of the forget: nobody would look for the key again.
    """

    async def work(place: Two) -> None:
        await place.feed(6)
        snapshot_id = await place.snapshot("a")
        await place.feed(12)
        assert GONE in await place.digests("a")
        await take(place, place.shard("a"), undo_id("a", ID).removeprefix("a."), "undo")
        await forget(place)
        asked = await command(place, snapshot_id)
        assert asked.id == ID
        place.command(asked)
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        assert set(await place.digests("a")) == {OTHER}
        assert holding(place.directory.shard_path("a", 2, *WHERE)) == []

    lived(HISTORY, work)


def test_an_undo_waits_for_what_is_learned_again() -> None:
    """The disk is lost with the only copy of what the rollback had replaced. Whoever has the shard
    next takes it again where the rollback counts, before the undo goes back to it.
    """

    async def work(place: Two) -> None:
        await place.feed(6)
        snapshot_id = await place.snapshot("a")
        await place.feed(12)
        before = await place.digests("a")
        for task in list(place.tasks):  # nothing is published from here on
            task.cancel()
        await asyncio.gather(*place.tasks, return_exceptions=True)
        await place.roll_back("a", snapshot_id)
        await place.feed(18)
        done = place.deployment.rollbacks()[-1]
        await place.shards.close(place.shard("a"), flush=True)
        shutil.rmtree(place.directory.path / "shards" / "a")
        await dropped(place, undo_id("a", done.control_id))
        back = way_back(place.deployment, done, ())
        undo = structs.replace(back, undoes=done.control_id, if_standing=True, where_standing=True)
        place.command(undo)
        await place.until(lambda: place.deployment.accepted(undo.id) is not None)
        shard = await place.shards.open(place.deployment, WHERE)
        assert shard.next_offset == 6
        await asyncio.sleep(60)
        while shard.next_offset < 18:
            rest = place.rows[shard.next_offset : 18]
            await shard.process(Chunk("events", shard.next_offset, rest, 18))
        await place.until(lambda: shard.origin.epoch == 3)
        assert place.deployment.failed(undo.id) == {}
        assert await place.digests("a") == before

    lived(HISTORY, work)
