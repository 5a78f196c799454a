"""Files that no snapshot needs: which ones go, when, and what can never be lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import CorruptStateError
from headrace.state.collecting import collect
from headrace.state.manifest import ShardRef
from headrace.state.repository import ShelfRepository
from tests.state.snapshot import blobs, made, replaced

HOUR_MS = 3_600_000


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
    kept.add_manifest(manifest)
    kept.fetch(manifest.files, tmp_path / "restored")
    named = {file.sha256 for file in manifest.files}
    assert kept.collect(named, 0).taken_back == 3
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
    assert collect([stays], kept).set_aside == 0  # all are young
    assert collect([stays], kept, 0).set_aside == 1
    assert collect([stays], kept, 0).deleted == 1
    files = kept.manifest(*stays).files
    assert blobs(kept) == {file.sha256 for file in files}
    kept.fetch(files, tmp_path / "restored")


def test_nothing_goes_while_a_manifest_cannot_be_read(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """Nobody knows what it names: the text says which snapshot, and nothing is removed until it is
    no longer vouched for.
    """
    stays = _added(kept, checkpoint[:1], "s-1")
    lost = _added(kept, checkpoint[1:], "s-2")
    (name,) = (object_.name for object_ in kept._shelf.list("manifests/s-2"))
    for damage in (b"{}", None):
        if damage is None:
            kept._shelf.delete(name)
        else:
            replaced(kept, name, damage)
        with pytest.raises(CorruptStateError, match="as long as snapshot s-2 is there"):
            collect([stays, lost], kept, 0)
        assert (len(blobs(kept)), blobs(kept, "trash")) == (len(checkpoint), set())
    assert collect([stays], kept, 0).set_aside == len(checkpoint) - 1


def test_an_app_without_snapshots_keeps_nothing(
    kept: ShelfRepository, checkpoint: list[Path]
) -> None:
    """Where nothing is vouched for, everything old goes."""
    _added(kept, checkpoint, "s-1")
    collect([], kept, 0)
    assert collect([], kept, 0).deleted == len(checkpoint)
