"""Snapshots that are removed, or whose id an import takes, while somebody is about to use them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from headrace.errors import NotFoundError, RequestError, StateError
from headrace.pipelines import control
from headrace.pipelines.archives import Archives
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.shard import Shard
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.worker import Worker
from headrace.state.catalogue import Removed, Vouched, encode
from headrace.state.manifest import Manifest
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import (
    dropped,
    more,
    publish_all,
    published,
    reopened,
    take,
    taken,
    told,
    without_manifests,
)
from tests.pipelines.test_forgetting import HISTORY, forget
from tests.pipelines.test_rollback_laws import Two, lived


def _asked(control_id: str, snapshot_id: str, free_from: int = 0) -> control.Snapshot:
    """A user's command for a snapshot of agent `a`, in its first life."""
    return control.Snapshot(
        id=control_id,
        agent="a",
        life=1,
        snapshot_id=snapshot_id,
        partitions=1,
        free_from=free_from,
    )


async def _removed_elsewhere(place: Place, snapshot_id: str) -> None:
    """Another worker removes a snapshot; what lies on the disk of this one stays."""
    epoch, known = known_of(snapshot_id, place.controls.registry)
    removed = Removed(snapshot_id=snapshot_id, epoch=epoch, control_offset=known)
    await place.catalogue.append(removed.key, encode(removed))
    for vouched in list(place.vault.catalogue.shards(snapshot_id).values()):
        await place.catalogue.append(vouched.key, None)


async def _kept(place: Place, control_id: str = "s", free_from: int = 0) -> None:
    """The snapshot `a.keep` is asked for and taken, and not published yet."""
    place.command(_asked(control_id, "a.keep", free_from))
    async with asyncio.timeout(20):
        while not place.vault.owes("a.keep"):  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)


async def _rolled_back(place: Place, shard: Shard, vouched: Vouched) -> None:
    """To that snapshot, at the place where the shard stands."""
    base = control.Base(
        partition=0,
        epoch=vouched.epoch,
        next_offset=vouched.next_offset,
        digest=vouched.digest,
    )
    place.command(
        control.Rollback(id="r", agent="a", life=1, snapshot_id=vouched.snapshot_id, bases=(base,))
    )
    async with asyncio.timeout(20):
        while shard.origin.epoch == 1:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("rolled_back", [False, True])
def test_one_that_was_removed_is_not_taken_again_by_a_shard_that_stands_there_still(
    tmp_path: Path, *, rolled_back: bool
) -> None:
    """No event has come since, and the shard is opened anew: the command counts where it stands."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        vouched = await published(place, "keep")
        if rolled_back:
            await _rolled_back(place, shard, vouched)
        await place.vault.remove("a.keep", *known_of("a.keep", place.controls.registry))
        await reopened(place, shard)
        assert place.vault._checkpoints.cut("a.keep", *WHERE) is None
        await publish_all(place)
        assert place.vault.catalogue.get("a.keep") is None

    told(tmp_path, work)


def test_one_that_was_removed_is_not_taken_again_when_its_log_is_learned_again(
    tmp_path: Path,
) -> None:
    """The disk is lost, and an older snapshot restored."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await more(place, shard)
        await _kept(place)
        await published(place, "keep")
        await place.vault.remove("a.keep", *known_of("a.keep", place.controls.registry))
        await place.shards.close(shard, flush=True)
        site = place.shards.site
        site.directory.drop_shard(site.shard_path("a", 1, WHERE))
        again = await place.shards.open(place.deployment, WHERE)
        assert again.next_offset == 50
        await again.process(place.chunk())
        assert again.next_offset == 100
        assert place.vault._checkpoints.cut("a.keep", *WHERE) is None

    told(tmp_path, work)


def test_one_that_is_not_published_yet_stays_as_it_was_taken(tmp_path: Path) -> None:
    """Behind it a rollback counts at the same place, and the shard is opened anew: what is
    published is the state of before the rollback.
    """

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        await more(place, shard)
        await _kept(place)
        await _rolled_back(place, shard, vouched)
        assert (await reopened(place, shard)).origin.epoch == 2
        kept = await published(place, "keep")
        assert (kept.epoch, kept.next_offset) == (1, 100)

    told(tmp_path, work)


def test_one_that_was_lost_is_not_made_of_the_state_behind_a_rollback(tmp_path: Path) -> None:
    """The rollback counts at the same place, behind it: only its state is left to be opened."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        await more(place, shard)
        await _kept(place)
        await _rolled_back(place, shard, vouched)
        await dropped(place, "a.keep")  # as if with a disk
        await reopened(place, shard)
        await publish_all(place)
        assert place.vault.catalogue.get("a.keep") is None

    told(tmp_path, work)


def test_a_second_command_for_one_that_is_being_made_is_refused(tmp_path: Path) -> None:
    """Whoever repeats it would throw the first state away, or mix shards of both."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        await more(place, shard)
        place.command(_asked("again", "a.keep"))
        async with asyncio.timeout(20):
            while not place.controls.registry.has_seen("again"):  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        refusal = place.controls.registry.refusal("again")
        assert refusal is not None
        assert refusal.code == "snapshot_exists"
        assert (await published(place, "keep")).next_offset == 50

    told(tmp_path, work)


@pytest.mark.parametrize("when", ["before", "while it is published"])
def test_what_is_owed_here_of_one_that_another_worker_removed_is_not_published(
    tmp_path: Path, when: str
) -> None:
    """It would come back, without the shards that were published before; its name is free again."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        append = place.catalogue.append

        async def removed_first(key: bytes, value: bytes | None) -> None:
            place.catalogue.append = append  # type: ignore[method-assign]
            await _removed_elsewhere(place, "a.keep")
            await append(key, value)

        if when == "before":
            await _removed_elsewhere(place, "a.keep")
        else:
            place.catalogue.append = removed_first  # type: ignore[method-assign]
        await publish_all(place)
        assert place.vault.catalogue.get("a.keep") is None
        await more(place, shard)
        await dropped(place, "a.keep")
        await _kept(place, "again", place.vault.catalogue.free_from("a.keep", 1))
        assert (await published(place, "keep")).next_offset == 100

    told(tmp_path, work)


def test_one_that_was_removed_a_moment_ago_is_not_called_damaged(tmp_path: Path) -> None:
    """Its manifest goes after the record that vouches for it, which this worker may read later."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        without_manifests(place.broker.repository, "a.s1")
        await dropped(place, "a.s1")
        with pytest.raises(RequestError) as damaged:
            await place.vault.check(WHERE, "a.s1", vouched.digest)
        assert damaged.value.code == "snapshot_damaged"
        checking = asyncio.create_task(place.vault.check(WHERE, "a.s1", vouched.digest))
        await place.catalogue.append(vouched.key, None)
        with pytest.raises(NotFoundError) as expired:
            await checking
        assert expired.value.code == "snapshot_expired"

    told(tmp_path, work)


def test_nothing_is_published_in_the_place_of_an_import(tmp_path: Path) -> None:
    """Another worker let it in before it knew of the command to take one of that id."""

    async def work(place: Place, shard: Shard) -> None:
        other = await taken(place, shard, "other")
        imported = structs.replace(other, snapshot_id="a.s1", imported=True, kind="named")
        await take(place, shard)
        await place.catalogue.append(imported.key, encode(imported))
        await published(place)
        assert place.vault.catalogue.shards("a.s1") == {WHERE: imported}
        assert place.vault._checkpoints.find("a.s1", *WHERE) is None

    told(tmp_path, work)


@pytest.mark.parametrize("where", ["before", "between"])
def test_one_that_is_removed_while_it_is_written_anew_stays_removed(where: str) -> None:
    """The removal is known before the record that vouches for the new one is appended; or another
    worker's stands in the log just before that record, which is taken back then.
    """

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        vouched = place.vault.catalogue.shards(named)[WHERE]
        fetching, append = place.vault.fetch, place.catalogue.append

        async def removed_first(*args: Any) -> Path:
            draft = await fetching(*args)
            await append(vouched.key, None)  # its manifests are about to go
            return draft

        async def removed_elsewhere(key: bytes, value: bytes | None) -> None:
            place.catalogue._log.append(key, None)
            without_manifests(place.broker.repository, named)
            await append(key, value)

        with pytest.MonkeyPatch.context() as patched:
            if where == "before":
                patched.setattr(place.vault, "fetch", removed_first)
            else:
                patched.setattr(place.catalogue, "append", removed_elsewhere)
            await place.vault.rewrite(vouched)
        assert place.vault.catalogue.get(named) is None
        assert place.vault.catalogue.was_removed(named)
        await place.vault.collect()

    lived(HISTORY, work)


def test_one_that_is_removed_while_it_is_published_is_not_vouched_for(tmp_path: Path) -> None:
    """Its files are on their way when it is removed."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        adding = place.broker.repository.add_manifest

        def removed_first(manifest: Manifest) -> str:
            digest = adding(manifest)
            place.vault._checkpoints.drop(*place.vault._checkpoints.of("a.s1"))
            return digest

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.broker.repository, "add_manifest", removed_first)
            await publish_all(place)
        assert place.vault.catalogue.get("a.s1") is None

    told(tmp_path, work)


def test_one_that_is_removed_as_soon_as_it_is_published_has_not_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its files go while it is still being noted beside them that they are kept."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        checkpoints = place.vault._checkpoints

        def removed_first(*_: object) -> None:
            checkpoints.drop(*checkpoints.of("a.s1"))
            assert not place.vault.owes("a.s1")
            raise StateError("there is no such directory")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(checkpoints, "published", removed_first)
            await publish_all(place)

    told(tmp_path, work)
    assert "snapshot.not_published" not in caplog.messages


@pytest.mark.parametrize("fed", [9, 12])
def test_what_lies_here_of_one_that_another_worker_removed_is_not_taken_for_a_new_one(
    fed: int,
) -> None:
    """A removal drops what lies on the disk of the worker that does it; the others keep theirs. So
    it is also where nothing has been learned since.
    """

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await place.until(lambda: not place.vault.owes(named))
        await _removed_elsewhere(place, named)
        without_manifests(place.broker.repository, named)
        await place.feed(fed)
        place.command(_asked("s-2", named, place.vault.catalogue.free_from(named, 1)))
        await place.until(lambda: bool(place.vault.catalogue.shards(named)))
        assert place.vault.catalogue.shards(named)[WHERE].next_offset == fed
        await place.until(lambda: not place.vault.owes(named))

    lived(HISTORY, work)


def test_what_another_worker_removes_meanwhile_is_vouched_for_no_longer(tmp_path: Path) -> None:
    """Its manifest goes between the moment in which it is written and that of the record: nothing
    vouches for what is not there, and collecting goes on.
    """

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        append = place.catalogue.append

        async def removed_elsewhere(key: bytes, value: bytes | None) -> None:
            without_manifests(place.broker.repository, "a.s1")
            await append(key, value)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.catalogue, "append", removed_elsewhere)
            await publish_all(place)
        assert not place.vault.catalogue.shards("a.s1")
        await place.vault.collect()

    told(tmp_path, work)


def test_one_that_is_removed_while_it_is_compared_is_compared_or_told_as_removed(
    tmp_path: Path,
) -> None:
    """With what is at hand if it was fetched before; else it has expired, and nobody is told of a
    bug.
    """

    async def work(place: Place, shard: Shard) -> None:
        for name in ("s1", "s2", "s3"):
            await taken(place, shard, name)
            await more(place, shard)
        parts = {"vault": place.vault, "shards": place.shards, "controls": place.controls}
        worker = cast(Worker, SimpleNamespace(check_ready=lambda: None, **parts))
        archives = Archives(worker, SnapshotCommands(worker))
        fetch = place.vault.fetch

        async def removed_then(*args: Any) -> Path:
            draft = await fetch(*args)
            await place.vault.remove(removed, *known_of(removed, place.controls.registry))
            return draft

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.vault, "fetch", removed_then)
            removed = "a.s1"
            found = await archives.diff("a.s1", None)
            assert (found.partitions, found.counts[0].kind) == (1, "key")
            removed = "a.s3"
            with pytest.raises(NotFoundError) as expired:
                await archives.diff("a.s2", "a.s3")
        assert expired.value.code == "snapshot_expired"

    told(tmp_path, work)
