"""A repository on a disk: the order of system calls, processes, failures, ages."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.errors import AwayStateError, CorruptStateError, DiskFullError, StateError
from headrace.state import localshelf
from headrace.state.disk import make_directory
from headrace.state.repositories import LocalRepository
from headrace.state.repository import GRACE_MS
from tests.small_disk import SmallDisk
from tests.state.snapshot import CONTENT, MANIFEST, blob, blobs, made
from tests.state.traced import traced
from tests.state.unlistable import unlistable

_ADDER = """
import sys
from pathlib import Path
import msgspec
from headrace.state.repositories import open_repository
from tests.state.snapshot import MANIFEST
kept = open_repository(sys.argv[1])
entry, _ = kept.add_file(Path(sys.argv[2]))
kept.add_manifest(msgspec.structs.replace(MANIFEST, files=(entry,)))
if len(sys.argv) > 3:
    kept.fetch([entry], Path(sys.argv[3]))
"""
_ORDER = """
fsync kept/drafts/ID
rename kept/drafts/ID kept/blobs/ab/SHA
fsync kept/blobs/ab
fsync kept/blobs
fsync kept
fsync kept/drafts/ID
link kept/drafts/ID kept/manifests/s-1/%50ay%2fments@3.DIGEST.json
fsync kept/manifests/s-1
fsync kept/manifests
fsync kept
fsync .fetching-ID/000012.sst
fsync .fetching-ID
rename .fetching-ID back
fsync .
"""
_ORDER_AGAIN = """
fsync kept/blobs/ab
fsync kept/blobs
fsync kept
fsync kept/drafts/ID
fsync kept/manifests/s-1
fsync kept/manifests
fsync kept
fsync kept/manifests/s-1
fsync kept/manifests
fsync kept
"""


def test_data_is_synced_before_its_name_and_its_name_before_what_is_built_on_it(
    tmp_path: Path,
) -> None:
    """The kernel sees, for the file and then the manifest: fsync of the data, the name, fsync of
    the directories; and for what is fetched: files, their directory, its name, the one above.
    """
    (tmp_path / "000012.sst").write_bytes(b"weights")
    kept = LocalRepository(tmp_path / "kept")
    kept.add_manifest(msgspec.structs.replace(MANIFEST, snapshot_id="earlier"))
    for sha256 in (f"{n:02x}" + "0" * 62 for n in range(256)):  # so that no directory is to be made
        (tmp_path / "kept" / "blobs" / sha256[:2]).mkdir(parents=True)
    (tmp_path / "kept" / "manifests" / "s-1").mkdir()
    back = tmp_path / "back"
    assert _traced(tmp_path, str(back)) == _ORDER.split("\n")[1:-1]
    assert (back / "000012.sst").read_bytes() == b"weights"
    # Who put it there first may have died before its names were synced.
    assert _traced(tmp_path) == _ORDER_AGAIN.split("\n")[1:-1]


def _traced(root: Path, *more: str) -> list[str]:
    """Keep the file below `root` in a process of its own; the calls that the kernel saw."""
    return traced(root, _ADDER, f"file://{root}/kept", str(root / "000012.sst"), *more)


def test_processes_add_the_same_file_at_once(tmp_path: Path) -> None:
    """Several processes that start with the same empty directory all succeed."""
    (tmp_path / "000012.sst").write_bytes(b"weights" * 100_000)
    command = [sys.executable, "-c", _ADDER, f"file://{tmp_path}/kept"]
    command.append(str(tmp_path / "000012.sst"))
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in running] == [b"", b"", b""]
    assert [process.returncode for process in running] == [0, 0, 0]
    kept = LocalRepository(tmp_path / "kept")
    assert (len(blobs(kept)), kept.snapshots()) == (1, ["s-1"])


@pytest.mark.parametrize("step", ["fsync", "replace", "hardlink_to"])
def test_a_write_that_fails_half_way_leaves_nothing(
    tmp_path: Path, checkpoint: list[Path], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step fails, no file and no manifest is there by halves, and no draft is left."""
    kept = LocalRepository(tmp_path / "kept")
    kept.add_manifest(msgspec.structs.replace(MANIFEST, snapshot_id="earlier"))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises(StateError, match="Input/output error"):
            kept.add_manifest(made(kept, checkpoint))
    assert kept.snapshots() == ["earlier"]
    assert list(kept._shelf.list("drafts")) == []
    assert blobs(kept) in (set(), {hashlib.sha256(each).hexdigest() for each in CONTENT.values()})
    kept.add_manifest(made(kept, checkpoint))
    assert kept.snapshots() == ["earlier", "s-1"]


def test_a_full_disk_is_said_and_waited_for(disk: SmallDisk, tmp_path: Path) -> None:
    """Without room nothing is kept or restored by halves; with room the same call succeeds."""
    (tmp_path / "000012.sst").write_bytes(os.urandom(2 << 20))
    kept = LocalRepository(disk.path / "kept")
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        kept.add_file(tmp_path / "000012.sst")
    assert blobs(kept) == set()
    disk.empty()
    entry, _ = kept.add_file(tmp_path / "000012.sst")
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        kept.fetch([entry], disk.path / "restored")
    disk.empty()
    kept.fetch([entry], disk.path / "restored")
    assert {path.name for path in disk.path.iterdir()} >= {"kept", "restored"}
    assert not list(disk.path.glob(".fetching-*"))


def test_drafts_of_a_crash_go_when_they_are_old(tmp_path: Path) -> None:
    """A young draft may be an upload under way; an old one is of a crash."""
    kept = LocalRepository(tmp_path)
    (tmp_path / "drafts").mkdir()
    for name, age_s in (("young", 0), ("old", GRACE_MS / 1_000 + 60)):
        (tmp_path / "drafts" / name).write_bytes(b"half a f")
        past = (tmp_path / "drafts" / name).stat().st_mtime - age_s
        os.utime(tmp_path / "drafts" / name, (past, past))
    kept.collect(set(), 0)
    assert [path.name for path in (tmp_path / "drafts").iterdir()] == ["young"]


def test_adding_a_file_again_makes_it_young(tmp_path: Path, checkpoint: list[Path]) -> None:
    """On a disk: two days old, added again, and a grace time of a day spares it."""
    kept = LocalRepository(tmp_path / "kept")
    entries = [kept.add_file(path).entry for path in checkpoint]
    for entry in entries:
        path = tmp_path / "kept" / blob(entry)
        past = path.stat().st_mtime - 48 * 3_600
        os.utime(path, (past, past))
    kept.add_file(checkpoint[0])
    assert kept.collect(set(), 24 * 3_600_000).set_aside == 2
    assert blobs(kept) == {entries[0].sha256}
    # The grace time that is left to what was set aside begins with that, however old it was.
    assert kept.collect(set(), 24 * 3_600_000).deleted == 0
    assert len(blobs(kept, "trash")) == 2


def test_a_directory_that_goes_before_its_file_comes_is_made_again(
    tmp_path: Path, checkpoint: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty directory that somebody removes just then costs an upload another try."""
    kept = LocalRepository(tmp_path / "kept")
    gone: list[Path] = []

    def make_and_lose(path: Path) -> None:
        make_directory(path)
        if path.parent.name == "blobs" and path not in gone:
            gone.append(path)
            path.rmdir()

    monkeypatch.setattr(localshelf, "make_directory", make_and_lose)
    entries = [kept.add_file(path).entry for path in checkpoint]
    assert len(gone) == 3
    kept.fetch(entries, tmp_path / "restored")


@pytest.mark.parametrize(("code", "is_away"), [("EIO", False), ("ESTALE", True), ("EACCES", True)])
def test_a_file_that_cannot_be_read_is_no_repository_that_is_away(code: str, is_away: bool) -> None:
    """A bad block is of one file, and another snapshot may be sound; what else the system says is
    of the whole place.
    """
    with pytest.raises(StateError) as told, localshelf.explained(Path("kept")):
        raise OSError(getattr(errno, code), "what the system says")
    assert isinstance(told.value, AwayStateError) == is_away


def a_directory(path: Path) -> None:
    """It cannot be read."""
    path.mkdir()


def a_loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path)


def below_a_file(path: Path) -> None:
    """What should be the directory above it is none."""
    path.parent.rmdir()
    path.parent.write_bytes(b"")


@pytest.mark.parametrize("damage", [a_directory, a_loop, below_a_file])
def test_a_name_that_cannot_be_opened_is_no_repository_that_is_away(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Others in its place can be; if those cannot either, or it is not there, it is away."""
    path = tmp_path / "manifests" / "a.s" / "one"
    path.parent.mkdir(parents=True)
    damage(path)
    with pytest.raises(StateError) as told:
        list(localshelf.LocalShelf(tmp_path).read("manifests/a.s/one"))
    assert not isinstance(told.value, AwayStateError)
    (tmp_path / "manifests").rename(tmp_path / "elsewhere")
    (tmp_path / "manifests").write_bytes(b"")
    with pytest.raises(AwayStateError):
        list(localshelf.LocalShelf(tmp_path).read("manifests/a.s/one"))


def a_file_above(path: Path) -> None:
    """What should be the directory above it is a file."""
    path.parent.write_bytes(b"")


def a_full_directory(path: Path) -> None:
    """Nothing can be renamed to it."""
    (path / "more").mkdir(parents=True)


@pytest.mark.parametrize("damage", [a_full_directory, a_file_above])
def test_a_name_that_cannot_be_put_is_no_repository_that_is_away(
    tmp_path: Path, checkpoint: list[Path], damage: Callable[[Path], None]
) -> None:
    """It is named, and others can be put; if nothing can be in that place, it is away."""
    kept = LocalRepository(tmp_path / "kept")
    bad, good = (path for path in checkpoint if path.stat().st_size)
    lies_at = tmp_path / "kept" / "blobs" / (sha256 := _sum(bad))[:2] / sha256
    lies_at.parent.parent.mkdir(parents=True)
    damage(lies_at)
    with pytest.raises(StateError, match=str(lies_at.parent)) as told:
        kept.add_file(bad)
    assert type(told.value) is StateError
    assert kept.add_file(good).new
    (tmp_path / "kept" / "blobs").rename(tmp_path / "elsewhere")
    (tmp_path / "kept" / "blobs").write_bytes(b"")
    with pytest.raises(AwayStateError):
        kept.add_file(bad)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def a_pipe(path: Path) -> None:
    """To open it waits for who writes to it."""
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    """It cannot be opened."""
    here = os.open(path.parent, os.O_RDONLY)  # as the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def a_device(path: Path) -> None:
    """It has no end, and no size either."""
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [a_pipe, a_socket, a_device, a_directory])
def test_what_is_no_file_is_not_read(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """It is named at once, and put in order by whoever has the file, also one without bytes."""
    kept = LocalRepository(tmp_path / "kept")
    (tmp_path / "000012.log").write_bytes(b"")
    entry, _ = kept.add_file(tmp_path / "000012.log")
    lies_at = tmp_path / "kept" / blob(entry)
    lies_at.unlink()
    damage(lies_at)
    told: list[StateError] = []

    def fetch() -> None:
        try:
            kept.fetch([entry], tmp_path / "back")
        except StateError as error:
            told.append(error)

    fetching = threading.Thread(target=fetch, daemon=True)
    fetching.start()
    fetching.join(10)
    assert [str(lies_at) in str(error) for error in told] == [True]
    assert not isinstance(told[0], AwayStateError)
    if damage is not a_directory:
        assert kept.add_file(tmp_path / "000012.log").new
        assert lies_at.is_file()
        kept.fetch([entry], tmp_path / "back")


# -- what cannot be listed ---------------------------------------------------------------------


@pytest.mark.parametrize(("code", "is_away"), [("EIO", False), ("ESTALE", True), ("EACCES", True)])
def test_a_repository_that_cannot_be_listed_is_not_told_as_empty(
    tmp_path: Path,
    checkpoint: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    is_away: bool,
) -> None:
    """Nobody hears that there are no snapshots, that they are removed, or that what is set aside is
    missing, as if it were damaged; and nothing is removed.
    """
    kept = LocalRepository(tmp_path / "kept")
    manifest = made(kept, checkpoint)
    kept.collect(set(), 0)  # the files are aside
    digest = kept.add_manifest(manifest)
    back = tmp_path / "back"
    verbs: list[Callable[[], object]] = [
        kept.snapshots,
        lambda: kept.remove("s-1", [digest]),
        lambda: kept.collect(set(), 0),
        lambda: kept.fetch(manifest.files, back),
        lambda: kept.manifest("s-2", manifest.topic, manifest.partition, digest),
    ]
    with monkeypatch.context() as disk:
        unlistable(disk, tmp_path / "kept", code)
        for verb in verbs:
            with pytest.raises(StateError, match=os.strerror(getattr(errno, code))) as told:
                verb()
            assert isinstance(told.value, AwayStateError) == is_away
            assert not isinstance(told.value, CorruptStateError)
    assert kept.snapshots() == ["s-1"]
    kept.fetch(manifest.files, back)


def test_one_snapshot_that_cannot_be_listed_is_no_repository_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal fails by itself, whether nobody may look into it or it is no directory any more;
    that of others does not.
    """
    kept = LocalRepository(tmp_path)
    added = [
        kept.add_manifest(msgspec.structs.replace(MANIFEST, snapshot_id=snapshot_id))
        for snapshot_id in ("s-1", "s-2", "s-3")
    ]
    lost = tmp_path / "manifests" / "s-2"
    lost.rename(tmp_path / "elsewhere")
    lost.write_bytes(b"")
    with monkeypatch.context() as disk:
        unlistable(disk, tmp_path / "manifests" / "s-1", "EACCES")
        for snapshot_id in ("s-1", "s-2"):
            with pytest.raises(StateError) as told:
                kept.remove(snapshot_id, added)
            assert not isinstance(told.value, AwayStateError)
        kept.remove("s-3", added)
    assert kept.snapshots() == ["s-1", "s-2"]


def test_a_directory_that_goes_while_it_is_listed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker removes a snapshot while this one looks what there is."""
    kept = LocalRepository(tmp_path)
    for snapshot_id in ("s-1", "s-2", "s-3"):
        kept.add_manifest(msgspec.structs.replace(MANIFEST, snapshot_id=snapshot_id))
    real = os.scandir

    def scandir(path: str | Path) -> Any:
        if Path(path).name == "s-2":
            Path(path).rename(tmp_path / "elsewhere")
        return real(path)

    with monkeypatch.context() as disk:
        disk.setattr(os, "scandir", scandir)
        assert kept.snapshots() == ["s-1", "s-3"]
        assert LocalRepository(tmp_path / "none").snapshots() == []
