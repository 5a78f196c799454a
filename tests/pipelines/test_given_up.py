"""Snapshots that were taken and are never going to be published: nothing of them stays here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import CorruptStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Removed, encode
from headrace.state.cut import Kind
from headrace.state.manifest import FileEntry, Manifest
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Added
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import (
    publish_all,
    published,
    take,
    told,
    without_manifests,
)
from tests.pipelines.test_forgetting import GONE, HISTORY, forget, holding
from tests.pipelines.test_publishing_again import lines
from tests.pipelines.test_rollback_laws import Two, lived


class Bad(LocalRepository):
    """What is brought there changes on its way, as from a disk that alters bytes."""

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        raise CorruptStateError(f"{path} changed while it was read for a snapshot")


async def _taken_as_asked(place: Place, shard: Shard) -> None:
    """As a command at the beginning of the control log would have it taken."""

    async def work(shard: Shard) -> bool:
        await shard.settle()
        await place.vault.take(shard, "a.s1", "named", 1, 0)
        return True

    await shard.between_events(work)


def _left(place: Place) -> list[str]:
    """The snapshots of which something lies here; what is owed is told the same by both."""
    checkpoints = place.vault._checkpoints
    assert checkpoints.owed() == list(place.vault._owed) == []
    return checkpoints.ids()


@pytest.mark.parametrize("kind", ["named", "undo", "automatic"])
def test_one_that_its_disk_has_damaged_does_not_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Kind
) -> None:
    """Not an undo snapshot either: a process that has hashed none of its files would publish them
    as they are now, and nobody goes back to what is known to be damaged.
    """

    async def work(place: Place, shard: Shard) -> None:
        sound = place.vault._repository
        place.vault._repository = Bad(tmp_path / "bad")
        await take(place, shard, kind=kind)
        await publish_all(place)
        assert lines(caplog) == ["snapshot.lost"]
        assert _left(place) == []
        base = control.Base(partition=0, epoch=1, next_offset=50, digest="")
        with pytest.raises(StateError, match="neither on this disk nor published"):
            await place.vault.base(WHERE, "a.s1", base)
        place.vault._repository = sound
        await place.shards.close(shard, flush=True)
        place.become()
        await publish_all(place)
        assert place.vault.catalogue.get("a.s1") is None

    told(tmp_path, work)


def test_one_that_is_lost_keeps_no_forgotten_key() -> None:
    """A named one that is to be published yet would: it is not dropped for a key."""

    async def work(place: Two) -> None:
        await place.feed(9)
        place.vault._repository = Bad(place.directory.path / "bad")
        await take(place, place.shard("a"))
        await place.until(lambda: not place.vault._owed)
        await forget(place)
        assert await place.vault.forget_checkpoints(fresh=lambda _: True) == []
        assert holding(place.directory.checkpoints, GONE) == []

    lived(HISTORY, work)


def _removed_before(place: Place) -> None:
    """Another worker removes it while its files are brought to the repository."""
    adding = place.broker.repository.add_manifest

    def removed_first(manifest: Manifest) -> str:
        epoch, known = known_of("a.s1", place.controls.registry)
        removed = Removed(snapshot_id="a.s1", epoch=epoch, control_offset=known)
        folded = place.catalogue.catalogue
        folded.apply(removed.key, encode(removed), folded.next_offset)
        return adding(manifest)

    place.broker.repository.add_manifest = removed_first  # type: ignore[method-assign]


def _removed_behind(place: Place) -> None:
    """Another worker removes it just before the record that vouches for it."""
    append = place.catalogue.append

    async def removed_first(key: bytes, value: bytes | None) -> None:
        place.catalogue.append = append  # type: ignore[method-assign]
        epoch, known = known_of("a.s1", place.controls.registry)
        removed = Removed(snapshot_id="a.s1", epoch=epoch, control_offset=known)
        await append(removed.key, encode(removed))
        without_manifests(place.broker.repository, "a.s1")
        await append(key, value)

    place.catalogue.append = removed_first  # type: ignore[method-assign]


@pytest.mark.parametrize("removing", [_removed_before, _removed_behind])
def test_one_that_is_removed_while_it_is_published_does_not_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, removing: Callable[[Place], None]
) -> None:
    """It would be owed for ever on this disk, and hold what is to be forgotten."""

    async def work(place: Place, shard: Shard) -> None:
        await _taken_as_asked(place, shard)
        removing(place)
        await publish_all(place)
        assert place.vault.catalogue.get("a.s1") is None
        assert lines(caplog) == ["snapshot.not_published"]
        assert _left(place) == []

    told(tmp_path, work)


def test_an_automatic_one_whose_manifest_a_removal_has_taken_does_not_stay(tmp_path: Path) -> None:
    """No record says that it was removed, as for others: its missing manifest does."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard, "auto", "automatic")
        append = place.catalogue.append

        async def removed_first(key: bytes, value: bytes | None) -> None:
            without_manifests(place.broker.repository, "a.auto")
            await append(key, value)

        place.catalogue.append = removed_first  # type: ignore[method-assign]
        await publish_all(place)
        assert place.vault.catalogue.get("a.auto") is None
        assert _left(place) == []

    told(tmp_path, work)


def test_one_of_a_name_whose_former_one_is_still_being_removed_is_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The name was given again while another worker was deleting the former one's manifests: it
    takes the new one, too, which is no reason to give that up.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _taken_as_asked(place, shard)
        append = place.catalogue.append

        async def removed_first(key: bytes, value: bytes | None) -> None:
            place.catalogue.append = append  # type: ignore[method-assign]
            without_manifests(place.broker.repository, "a.s1")
            await append(key, value)

        place.catalogue.append = removed_first  # type: ignore[method-assign]
        vouched = await published(place)
        assert place.broker.repository.manifest(*vouched.ref).next_offset == 50
        assert _left(place) == ["a.s1"]
        assert lines(caplog) == ["snapshot.not_published", "snapshots.published_again"]

    told(tmp_path, work)
