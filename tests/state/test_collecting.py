"""What no snapshot needs: which files and manifests go, when, and what is never lost by it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from headrace.clock import ManualClock
from headrace.errors import CorruptStateError
from headrace.state.collecting import collect, needed_by
from headrace.state.manifest import ShardRef
from headrace.state.objectshelf import ObjectShelf
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Collected, ShelfRepository
from tests.state.snapshot import blobs, made, replaced

HOUR_MS = 3_600_000
NOTHING = Collected(set_aside=0, taken_back=0, deleted=0, deleted_bytes=0)


def test_what_a_manifest_names_and_what_is_young_stays(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """Files named in `keep` stay however old, others stay as long as they are young."""
    files = made(kept, checkpoint).files
    named = {files[0].sha256}
    assert kept.collect(named, HOUR_MS).set_aside == 0
    assert len(blobs(kept)) == 3
    assert kept.collect(named, 0).set_aside == 2
    assert blobs(kept) == named


def test_a_file_is_deleted_by_the_second_call(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """What is set aside can be fetched until it is deleted, a grace time later."""
    files = made(kept, checkpoint).files
    total = sum(file.size for file in files)
    assert kept.collect(set(), 0).set_aside == 3
    assert kept.collect(set(), HOUR_MS).deleted == 0
    kept.fetch(files, tmp_path / "restored")
    second = kept.collect(set(), 0)
    assert (second.deleted, second.deleted_bytes) == (3, total)
    with pytest.raises(CorruptStateError, match="is missing"):
        kept.fetch(files, tmp_path / "again")
    assert blobs(kept) | blobs(kept, "trash") == set()


def test_an_upload_that_finds_a_file_just_set_aside_loses_nothing(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """Its manifest names files that are aside: they can be fetched, and the next call takes them
    back.
    """
    manifest = made(kept, checkpoint)
    kept.collect(set(), 0)  # between the upload's look at its files and its manifest
    digest = kept.add_manifest(manifest)
    kept.fetch(manifest.files, tmp_path / "restored")
    named = {file.sha256 for file in manifest.files}
    assert kept.collect(named | {digest}, 0).taken_back == 3
    assert (blobs(kept), blobs(kept, "trash")) == (named, set())
    kept.fetch(manifest.files, tmp_path / "again")


def test_a_file_that_is_aside_is_put_there_anew(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """An upload does not lean on what is on its way out."""
    manifest = made(kept, checkpoint)
    kept.collect(set(), 0)
    assert made(kept, checkpoint) == manifest
    named = {file.sha256 for file in manifest.files}
    assert blobs(kept) == named
    kept.collect(named, 0)
    assert (blobs(kept), blobs(kept, "trash")) == (named, set())
    kept.fetch(manifest.files, tmp_path / "restored")


# -- several at once ---------------------------------------------------------------------------


def _interrupted(kept: ShelfRepository, verb: str, others: Callable[[], object]) -> ShelfRepository:
    """The same repository in another process; others act behind its first call of the shelf's
    `verb`.
    """
    shelf = copy.copy(kept._shelf)

    def first(*args: Any) -> object:
        delattr(shelf, verb)
        found = getattr(shelf, verb)(*args)
        found = list(found) if verb == "list" else found
        others()
        return found

    setattr(shelf, verb, first)
    return ShelfRepository(shelf)


def test_a_slow_call_deletes_nothing_that_was_set_aside_since_it_looked(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """A file is in its place and aside, both for longer than the grace time, and one call has seen
    that. Another one deletes what is aside and sets the other aside just when an upload finds it.
    """
    files = made(kept, checkpoint).files
    kept.collect(set(), 0)
    made(kept, checkpoint)

    def others() -> None:
        assert not any(kept.add_file(path).new for path in checkpoint)
        assert kept.collect(set(), 0).deleted == len(files)

    _interrupted(kept, "list", others).collect(set(), 0)
    kept.fetch(files, tmp_path / "restored")


def test_what_is_set_aside_while_another_takes_it_back_is_not_deleted(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """A call sees that a file is in its place, so that what is aside of it can go; just then one
    that knows of no need for it sets it aside, too.
    """
    files = made(kept, checkpoint[:1]).files
    kept.collect(set(), 0)
    made(kept, checkpoint[:1])
    knowing = _interrupted(kept, "refresh", lambda: kept.collect(set(), 0))
    assert knowing.collect({files[0].sha256}, 0).taken_back == 1
    kept.fetch(files, tmp_path / "restored")


# -- what is vouched for -----------------------------------------------------------------------


def _added(kept: ShelfRepository, checkpoint: list[Path], snapshot_id: str) -> ShardRef:
    """A snapshot of some of the files."""
    manifest = made(kept, checkpoint, snapshot_id)
    digest = kept.add_manifest(manifest)
    return ShardRef(snapshot_id, manifest.topic, manifest.partition, digest)


def test_what_is_vouched_for_stays_and_all_else_goes(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """Of two snapshots that share a file, the one nobody vouches for loses its own files only."""
    stays = _added(kept, checkpoint[:2], "s-1")
    _added(kept, checkpoint[1:], "s-2")
    assert collect(needed_by([stays], kept), kept).set_aside == 0  # all are young
    assert collect(needed_by([stays], kept), kept, 0).set_aside == 2  # with its manifest
    assert collect(needed_by([stays], kept), kept, 0).deleted == 2
    assert kept.snapshots() == ["s-1"]
    files = kept.manifest(*stays).files
    assert blobs(kept) == {file.sha256 for file in files}
    kept.fetch(files, tmp_path / "restored")


def test_nothing_goes_while_a_manifest_cannot_be_read(
    kept: ShelfRepository, checkpoint: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows what it names: the log says which snapshot, and nothing is removed until it is
    no longer vouched for. The others are looked at all the same.
    """
    stays = _added(kept, checkpoint[:1], "s-1")
    lost = _added(kept, checkpoint[1:], "s-2")
    (name,) = (object_.name for object_ in kept._shelf.list("manifests/s-2"))
    for damage in (b"{}", None):
        if damage is None:
            kept._shelf.delete(name)
        else:
            replaced(kept, name, damage)
        caplog.clear()
        assert collect(needed_by([lost, stays], kept), kept, 0) == NOTHING
        (told,) = caplog.records
        assert told.getMessage() == "snapshots.not_collected"
        assert "as long as snapshot s-2 is there" in str(vars(told))
        assert (len(blobs(kept)), blobs(kept, "trash")) == (len(checkpoint), set())
    left = len(checkpoint) - 1
    assert (
        collect(needed_by([stays], kept), kept, 0).set_aside == left
    )  # the manifest of the other is lost


def test_an_app_without_snapshots_keeps_nothing(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """Where nothing is vouched for, everything old goes."""
    _added(kept, checkpoint, "s-1")
    collect(needed_by([], kept), kept, 0)
    assert collect(needed_by([], kept), kept, 0).deleted == len(checkpoint) + 1
    assert blobs(kept) | blobs(kept, "trash") | blobs(kept, "manifests") == set()


def test_a_manifest_is_set_aside_first_and_taken_back_if_it_is_vouched_for_by_then(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """What vouches for it may have been on its way: it can be read all the time."""
    ref = _added(kept, checkpoint, "s-1")
    assert collect(needed_by([], kept), kept, 0).set_aside == len(checkpoint) + 1
    assert blobs(kept, "manifests") == set()
    whole = kept.manifest(*ref)
    assert collect(needed_by([ref], kept), kept, 0).taken_back == len(checkpoint) + 1
    assert (kept.manifest(*ref), kept.snapshots()) == (whole, ["s-1"])
    assert blobs(kept, "trash") == set()


class Counting(ObjectShelf):
    """An object store; `puts`: how often something was put whatever was there."""

    puts = 0

    def put(self, name: str, content: Iterable[bytes], *, size: int, create: bool) -> bool:
        self.puts += not create
        return super().put(name, content, size=size, create=create)


def test_a_manifest_that_is_put_again_is_young_again(checkpoint: list[Path]) -> None:
    """It lay there for four days, as its worker had died before anything vouched for it. In an
    object store it is put anew then, as files are.
    """
    clock = ManualClock()
    shelf = Counting("memory://", clock)
    kept = ShelfRepository(shelf)
    _added(kept, checkpoint, "s-1")
    shelf.puts = 0
    clock.now = max(object_.modified_ms for object_ in shelf.list("")) / 1_000
    _added(kept, checkpoint, "s-1")
    assert shelf.puts == 0
    clock.advance(4 * 24 * 3600)
    _added(kept, checkpoint, "s-1")
    assert shelf.puts == len(checkpoint) + 1


def test_on_a_disk_a_manifest_that_is_put_again_is_young_again(
    tmp_path: Path, checkpoint: list[Path]
) -> None:
    """So a collection does not set it aside before anything vouches for it."""
    kept = LocalRepository(tmp_path / "kept")
    _added(kept, checkpoint, "s-1")
    (path,) = (tmp_path / "kept" / "manifests").rglob("*.json")
    past = path.stat().st_mtime - 4 * 24 * 3600
    os.utime(path, (past, past))
    _added(kept, checkpoint, "s-1")
    assert collect(needed_by([], kept), kept).set_aside == 0
    os.utime(path, (past, past))
    assert collect(needed_by([], kept), kept).set_aside == 1
