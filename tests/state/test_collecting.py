"""Files that no snapshot needs: which ones go, when, and what can never be lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import CorruptStateError
from headrace.state.repository import ShelfRepository
from tests.state.snapshot import blobs, made

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
