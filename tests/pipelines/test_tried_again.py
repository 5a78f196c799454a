"""A replacement that finds what a former try at it has left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from headrace.pipelines import control
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
