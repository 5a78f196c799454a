"""A disk without room, and one that fails: what is durable stays, and nothing false becomes so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from headrace.errors import BadDiskError, DiskFullError, StateError
from headrace.state.directory import Identity, StateDirectory
from headrace.state.disk import check_room
from headrace.state.store import ShardMeta, ShardStore
from tests.small_disk import SmallDisk
from tests.state.traced import run_under


def meta(next_offset: int) -> ShardMeta:
    return ShardMeta(
        next_offset=next_offset, epoch=1, spec_digest="", control_offset=0, cluster_id="c"
    )


def filled(store: ShardStore, disk: SmallDisk) -> int:
    """Write until there is no room; the last next offset that is durable."""
    store.write([(b"k/ada", b"weights")], meta(1))
    disk.fill()
    for number in range(2, 100):
        try:
            store.write([(b"k/%d" % number, os.urandom(50_000))], meta(number))
        except DiskFullError:
            return number - 1
    raise AssertionError("there was room all the time")


def test_a_full_disk_keeps_what_is_durable_and_takes_more_when_there_is_room(
    disk: SmallDisk,
) -> None:
    """A write without room is no write; reads go on; with room again the same write succeeds, and
    another process finds all of it.
    """
    store = ShardStore.open(disk.path / "shard", create=True)
    last = filled(store, disk)
    lost = b"k/%d" % (last + 1)
    assert store.meta == meta(last)
    for _ in range(2):
        with pytest.raises(DiskFullError, match="Make room on that disk"):
            store.recover()
        assert (store.get(b"k/ada"), store.get(lost)) == (b"weights", None)
    disk.empty()
    store.recover()
    assert (store.meta, store.get(b"k/ada"), store.get(lost)) == (meta(last), b"weights", None)
    store.write([(lost, b"at last")], meta(last + 1))
    store.close()
    store = ShardStore.open(disk.path / "shard", create=False)
    assert (store.meta, store.get(lost)) == (meta(last + 1), b"at last")
    store.close()


def test_room_that_somebody_takes_while_the_database_is_opened_anew_is_waited_for(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads say that there is no room, as the next try does; then everything is there again."""
    store = ShardStore.open(disk.path / "shard", create=True)
    last = filled(store, disk)
    disk.empty()
    close = store._close

    def close_and_fill() -> None:
        close()
        disk.fill()

    monkeypatch.setattr(store, "_close", close_and_fill)
    for _ in range(2):
        with pytest.raises(DiskFullError):
            store.recover()
        with pytest.raises(DiskFullError, match="Make room on that disk"):
            store.get(b"k/ada")
    disk.empty()
    store.recover()
    assert (store.meta, store.get(b"k/ada")) == (meta(last), b"weights")
    monkeypatch.undo()
    store.close()


def test_a_store_without_room_can_be_closed(disk: SmallDisk) -> None:
    """A stop while the disk is full loses nothing that was durable and leaves no lock."""
    store = ShardStore.open(disk.path / "shard", create=True)
    last = filled(store, disk)
    store.close()
    disk.empty()
    store = ShardStore.open(disk.path / "shard", create=False)
    assert (store.meta, store.get(b"k/ada")) == (meta(last), b"weights")
    store.close()


def test_a_sound_store_can_be_closed_on_a_full_disk(disk: SmallDisk) -> None:
    """RocksDB would make a table of what it has in memory; its log holds all of that."""
    store = ShardStore.open(disk.path / "shard", create=True)
    rows = {b"k/%d" % n: b"weights %d" % n for n in range(1000)}
    store.write(rows.items(), meta(1000))
    disk.fill()
    store.close()
    disk.empty()
    store = ShardStore.open(disk.path / "shard", create=False)
    assert (store.meta, dict(store.scan(b"k/"))) == (meta(1000), rows)
    store.close()


def test_a_shard_cannot_be_made_on_a_full_disk(disk: SmallDisk) -> None:
    """It says that there is no room, and can be made when there is."""
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        ShardStore.open(disk.path / "shard", create=True)
    disk.empty()
    ShardStore.open(disk.path / "shard", create=True).close()


def test_room_is_tried_and_given_back(disk: SmallDisk) -> None:
    """What is asked for is reserved for a moment: no file is left, with room or without."""
    check_room(disk.path, 1 << 20)
    with pytest.raises(DiskFullError):
        check_room(disk.path, 1 << 30)
    assert list(disk.path.iterdir()) == []


_WRITER = """
import sys
from pathlib import Path
from headrace.errors import DiskFullError, StateError
from headrace.state.store import ShardMeta, ShardStore
store = ShardStore.open(Path(sys.argv[1]), create=True)
for number in range(1, 100):
    meta = ShardMeta(
        next_offset=number, epoch=1, spec_digest="", control_offset=0, cluster_id="c"
    )
    try:
        store.write([(b"k/ada", b"%d" % number)], meta)
    except StateError as error:
        print(store.meta.next_offset, type(error).__name__, error)
        break
store.close()
"""


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_failed_to_sync_is_not_trusted_again(tmp_path: Path, error: str) -> None:
    """What a failed sync left on the disk nobody knows, for whatever reason it failed: that is no
    want of room, and the error says what to do.
    """
    strace = ["strace", "-f", "-o", "/dev/null", "-e", f"inject=fdatasync:error={error}:when=12"]
    done = run_under(strace, _WRITER, str(tmp_path / "shard"))
    assert done.returncode == 0, done.stderr
    durable, kind, said = done.stdout.split(" ", 2)
    assert (int(durable) > 0, kind) == (True, BadDiskError.__name__)
    assert "The disk cannot be trusted: look at it, then start again" in said
    store = ShardStore.open(tmp_path / "shard", create=False)
    assert store.meta is not None
    assert store.get(b"k/ada") == b"%d" % store.meta.next_offset
    store.close()


def test_a_state_directory_that_cannot_be_written_says_so(disk: SmallDisk) -> None:
    """On a read-only file system a start is refused with the system's words and what to do."""
    mine = Identity.of_this_build(app="a", cluster_id="c", codec="1", hash_seed="0")
    StateDirectory.open(disk.path / "state", mine).close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    for path in (disk.path / "state", disk.path / "another"):
        with pytest.raises(StateError, match=r"Read-only file system.*name another --state-dir"):
            StateDirectory.open(path, mine)
