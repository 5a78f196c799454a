"""What has rotted in a repository is put anew by whoever has the bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.clock import ManualClock
from headrace.errors import CorruptStateError
from headrace.state.manifest import FileEntry
from headrace.state.repositories import LocalRepository
from headrace.state.repository import ShelfRepository
from headrace.state.soundness import READ_EVERY_S
from tests.state.snapshot import CONTENT, blob, made, replaced


def rotten(kept: ShelfRepository, entry: FileEntry, content: bytes) -> None:
    """One bit of it is another one."""
    replaced(kept, blob(entry), bytes([content[0] ^ 1]) + content[1:])


def test_what_a_reader_has_found_damaged_is_put_anew(
    kept: ShelfRepository, checkpoint: list[Path], tmp_path: Path
) -> None:
    """The next snapshot that names it mends it, and with it all that name it; the rest stays."""
    manifest = made(kept, checkpoint)
    (bad,) = [entry for entry in manifest.files if entry.name == "000012.sst"]
    rotten(kept, bad, CONTENT["000012.sst"])
    with pytest.raises(CorruptStateError):
        kept.fetch(manifest.files, tmp_path / "damaged")
    assert [added.entry for added in map(kept.add_file, checkpoint) if added.new] == [bad]
    kept.fetch(manifest.files, tmp_path / "restored")
    assert not any(kept.add_file(path).new for path in checkpoint), "it is not in doubt any more"


def test_on_a_disk_what_is_there_is_read_once_a_day(checkpoint: list[Path], tmp_path: Path) -> None:
    """So a file that has rotted is put anew though nobody has stumbled over it, also after a
    restart.
    """
    clock, place = ManualClock(), tmp_path / "kept"
    kept = LocalRepository(place, clock)
    manifest = made(kept, checkpoint)
    (bad,) = [entry for entry in manifest.files if entry.name == "000012.sst"]
    rotten(kept, bad, CONTENT["000012.sst"])
    clock.advance(READ_EVERY_S - 1)
    assert not any(kept.add_file(path).new for path in checkpoint)
    clock.advance(1)
    for repository in (kept, LocalRepository(place, clock)):
        assert [a.entry for a in map(repository.add_file, checkpoint) if a.new] == [bad]
        repository.fetch(manifest.files, tmp_path / "restored")
        shutil.rmtree(tmp_path / "restored")
        rotten(kept, bad, CONTENT["000012.sst"])


def test_a_disk_that_has_altered_one_file_may_have_altered_others(
    checkpoint: list[Path], tmp_path: Path
) -> None:
    """Who exports reads one file after the other, and ends at the first that is damaged."""
    kept = LocalRepository(tmp_path / "kept", ManualClock())
    manifest = made(kept, checkpoint)
    bad = [entry for entry in manifest.files if entry.size]
    for entry in bad:
        rotten(kept, entry, CONTENT[entry.name])
    with pytest.raises(CorruptStateError):
        kept.fetch(bad[:1], tmp_path / "damaged")
    assert [added.entry for added in map(kept.add_file, checkpoint) if added.new] == bad
    kept.fetch(manifest.files, tmp_path / "restored")
