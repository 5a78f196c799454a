"""Checkpoints: whole and durable or not there, told apart, owed until they are published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.errors import DiskFullError, StateError
from headrace.state import manifest as manifests
from headrace.state.checkpoints import Checkpoints, link_or_copy, shard_files
from headrace.state.cut import Cut
from headrace.state.manifest import FileEntry
from headrace.state.store import ShardStore
from headrace.state.sums import sum_file
from tests.small_disk import SmallDisk
from tests.state.cuts import META, ROWS, contents, cut, rows, stored
from tests.state.traced import traced


def publish(checkpoints: Checkpoints, made: Cut) -> tuple[str, tuple[FileEntry, ...]]:
    """Note a cut as published; the digest and files of its manifest."""
    path = checkpoints.find(made.snapshot_id, *made.shard)
    assert path is not None
    files = tuple(sum_file(file) for file in shard_files(path))
    digest = manifests.digest(manifests.encode(made.manifest(files)))
    checkpoints.published(made, digest, files)
    return digest, files


# -- taking ------------------------------------------------------------------------------------


def test_a_checkpoint_is_what_the_store_was(checkpoints: Checkpoints, store: ShardStore) -> None:
    """Rows and position stay as they were, whatever is written to the store later."""
    path = checkpoints.take(store, cut())
    store.write([(name, None) for name in ROWS], META)
    assert path == checkpoints.root / "card-fraud.s1" / "%50ay%2fments@3"
    assert checkpoints.find("card-fraud.s1", "Pay/ments", 3) == path
    assert rows(path) == ROWS


def test_the_same_cut_again_is_what_is_there(checkpoints: Checkpoints, store: ShardStore) -> None:
    """A second take, at whatever time, changes nothing, also after a restart."""
    first = cut(created_ms=1)
    path = checkpoints.take(store, first)
    before = contents(path)
    for again in (checkpoints, Checkpoints(checkpoints.root)):
        assert again.take(store, cut(created_ms=2)) == path
        assert again.owed() == [first]
    assert contents(path) == before


def test_another_cut_under_the_same_id_is_refused(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """A checkpoint is never replaced by one of another state."""
    before = contents(checkpoints.take(store, cut()))
    with pytest.raises(StateError, match="at offset 1000 of epoch 3 already"):
        checkpoints.take(store, cut(kind="named"))
    assert contents(checkpoints.take(store, cut())) == before


def test_a_cut_that_is_not_where_its_store_stands_is_a_bug(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """A manifest never gets a position that its files do not have."""
    for wrong in (cut(next_offset=7), cut(epoch=4), cut(control_offset=1), cut(applied=None)):
        with pytest.raises(AssertionError):
            checkpoints.take(store, wrong)
    assert checkpoints.ids() == []


def test_partitions_and_topics_do_not_share_a_checkpoint(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """In one snapshot each shard has its own, whatever its topic is called."""
    made = [cut(topic=t, partition=p) for t in ("t", "T", "t@1", "..") for p in (0, 1)]
    paths = {checkpoints.take(store, each) for each in made}
    assert len(paths) == len(made)
    assert Checkpoints(checkpoints.root).cuts() == checkpoints.cuts()
    assert checkpoints.ids() == ["card-fraud.s1"]


# -- what survives -----------------------------------------------------------------------------


def test_what_is_owed_is_owed_after_a_restart(checkpoints: Checkpoints, store: ShardStore) -> None:
    """Cuts that are not published are told oldest first, by this process and the next."""
    made = [cut(f"card-fraud.s{n}", created_ms=10 - n) for n in range(3)]
    for each in made:
        checkpoints.take(store, each)
    publish(checkpoints, made[1])
    for again in (checkpoints, Checkpoints(checkpoints.root)):
        assert again.owed() == [made[2], made[0]]
        assert again.ids() == ["card-fraud.s2", "card-fraud.s1", "card-fraud.s0"]


def test_files_hashed_here_are_not_hashed_again_by_this_process(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """Their entries are known for exactly their manifest, and to nobody after a restart."""
    checkpoints.take(store, cut())
    shard = ("card-fraud.s1", "Pay/ments", 3)
    assert checkpoints.entries(*shard, "ab" * 32) is None
    digest, files = publish(checkpoints, cut())
    assert checkpoints.entries(*shard, digest) == files
    assert checkpoints.entries(*shard, "ab" * 32) is None
    assert checkpoints.entries("card-fraud.s1", "Pay/ments", 4, digest) is None
    assert Checkpoints(checkpoints.root).entries(*shard, digest) is None


def test_a_manifest_can_be_made_again_without_the_repository(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """After a restart, too; but none for a digest that is not its own."""
    checkpoints.take(store, cut())
    shard = ("card-fraud.s1", "Pay/ments", 3)
    digest, files = publish(checkpoints, cut())
    for again in (checkpoints, Checkpoints(checkpoints.root)):
        assert again.manifest(*shard, digest) == cut().manifest(files)
        assert again.manifest(*shard, "ab" * 32) is None
    assert checkpoints.manifest("card-fraud.s2", "Pay/ments", 3, digest) is None


def test_a_dropped_snapshot_is_gone_and_others_stay(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """All of its shards go, once or twice, and its id is free; other snapshots stay."""
    made = [cut("card-fraud.s1"), cut("card-fraud.s1", partition=4), cut("card-fraud.s2")]
    for each in made:
        checkpoints.take(store, each)
    for _ in range(2):
        checkpoints.drop(*made[:2])
    for again in (checkpoints, Checkpoints(checkpoints.root)):
        assert again.cuts() == [made[2]]
        assert again.find("card-fraud.s1", "Pay/ments", 4) is None
    checkpoints.published(made[0], "ab" * 32, ())
    assert sorted(path.name for path in checkpoints.root.iterdir()) == [".passing", "card-fraud.s2"]
    checkpoints.take(store, cut("card-fraud.s1", kind="named"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / ".cut.json").unlink(),
        lambda path: (path / ".cut.json").write_bytes(b""),
        lambda path: (path / ".cut.json").write_bytes(
            (path / ".cut.json").read_bytes().replace(b'"next_offset":1000', b'"next_offset":1001')
        ),
        lambda path: (path / ".published.json").write_bytes(b"{}"),
        lambda path: path.rename(path.with_name("t@0")),
    ],
    ids=["missing", "emptied", "altered", "published", "moved"],
)
def test_a_checkpoint_that_nobody_can_tell_what_it_is_goes(
    checkpoints: Checkpoints,
    store: ShardStore,
    damage: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the next start it is logged and taken away, and others stay."""
    path = checkpoints.take(store, cut())
    checkpoints.take(store, cut("card-fraud.s2"))
    assert callable(damage)
    damage(path)
    again = Checkpoints(checkpoints.root)
    assert again.ids() == ["card-fraud.s2"]
    assert [record.getMessage() for record in caplog.records] == ["checkpoint.refused"]
    assert rows(again.take(store, cut())) == ROWS


def test_what_a_crash_left_on_its_way_goes(checkpoints: Checkpoints, store: ShardStore) -> None:
    """Drafts and empty directories are deleted at the next start."""
    (checkpoints.root / "card-fraud.s9").mkdir()
    store.checkpoint(checkpoints.root / ".passing" / "draft")
    assert Checkpoints(checkpoints.root).ids() == []
    assert [path.name for path in checkpoints.root.rglob("*")] == [".passing"]


# -- durable -----------------------------------------------------------------------------------

_TAKER = """
import sys
from pathlib import Path
from headrace.state.checkpoints import Checkpoints
from tests.state.cuts import cut, stored
store = stored(Path(sys.argv[1]) / "shard")
Checkpoints(Path(sys.argv[1]) / "checkpoints").take(store, cut())
store.close()
"""
_ORDER = """
fsync checkpoints/.passing/ID/.cut.json.new
rename checkpoints/.passing/ID/.cut.json.new checkpoints/.passing/ID/.cut.json
fsync checkpoints/.passing/ID
FILES
fsync checkpoints/.passing/ID
fsync checkpoints
rename checkpoints/.passing/ID checkpoints/card-fraud.s1/%50ay%2fments@3
fsync checkpoints/card-fraud.s1
"""


def test_all_is_durable_before_the_name_and_the_name_when_it_returns(tmp_path: Path) -> None:
    """The kernel sees, after RocksDB's own calls: the cut; fsync of every file but the tables, then
    of their directory; of the directory made above; the rename; fsync of the directory above.
    """
    seen = traced(tmp_path, _TAKER, str(tmp_path))
    first = seen.index(_ORDER.split("\n")[1])
    last = seen.index(_ORDER.split("\n")[-2])
    files = {
        f"fsync checkpoints/.passing/ID/{name}"
        for name in contents(tmp_path / "checkpoints" / "card-fraud.s1" / "%50ay%2fments@3")
        if not name.endswith(".sst")
    }
    assert len(files) > 3
    calls = ["FILES" if call in files else call for call in seen[first : last + 1]]
    assert files <= set(seen[first:last])
    assert "\n".join(calls).replace("FILES\n" * len(files), "FILES\n") == _ORDER.strip()


@pytest.mark.parametrize("of", [".cut.json.new", "CURRENT", "card-fraud.s1"])
def test_a_sync_that_fails_leaves_nothing_and_can_be_tried_again(
    checkpoints: Checkpoints, store: ShardStore, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """What may not be durable is not there: not the cut, not the files, not the name."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith(of):
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        with pytest.raises(StateError, match="Input/output error"):
            checkpoints.take(store, cut())
    # What could not be taken back durably is deleted by the next start, not before.
    left = [path for path in checkpoints.root.rglob("*") if path.suffix == ".sst"]
    assert not left or (of == "card-fraud.s1" and {path.parts[-3] for path in left} == {".passing"})
    for again in (checkpoints, Checkpoints(checkpoints.root)):
        assert again.cuts() == []
    assert rows(checkpoints.take(store, cut())) == ROWS


def test_a_full_disk_is_said_and_waited_for(disk: SmallDisk) -> None:
    """Without room no checkpoint is there by halves and the store loses nothing; with room the same
    call succeeds.
    """
    store = stored(disk.path / "shard")
    checkpoints = Checkpoints(disk.path / "checkpoints")
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        checkpoints.take(store, cut())
    assert dict(store.scan(b"")) == ROWS
    assert (checkpoints.ids(), list((checkpoints.root / ".passing").iterdir())) == ([], [])
    disk.empty()
    try:
        store.write([], META)
    except DiskFullError:  # a write may be the first to hear of it
        store.recover()
    assert rows(checkpoints.take(store, cut())) == ROWS
    store.write([(b"k/new", b"1")], META)
    store.close()


# -- using -------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
def test_a_store_made_from_a_checkpoint_leaves_it_alone(
    checkpoints: Checkpoints,
    store: ShardStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    links: bool,
) -> None:
    """It holds the rows, can be written to and compacted, and no byte of the checkpoint changes;
    its tables are links where those can be had.
    """

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = checkpoints.take(store, cut())
    before = contents(path)
    link_or_copy(path, tmp_path / "copy")
    linked = {
        file.name for file in (tmp_path / "copy").iterdir() if file.samefile(path / file.name)
    }
    assert linked == ({name for name in before if name.endswith(".sst")} if links else set())
    assert bool(linked) is links
    copy = ShardStore.open(tmp_path / "copy", create=False)
    assert (copy.meta, dict(copy.scan(b""))) == (META, ROWS)
    copy.write([(name, b"other") for name in ROWS], META)
    copy._database.flush()
    copy._database.compact_range(None, None)
    copy.close()
    assert contents(path) == before
    assert rows(path) == ROWS


def test_nothing_of_ours_is_among_the_files_of_a_shard(
    checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """What says what a checkpoint is of is not linked, copied or published with it."""
    path = checkpoints.take(store, cut())
    publish(checkpoints, cut())
    assert {".cut.json", ".published.json"} <= set(contents(path))
    link_or_copy(path, tmp_path / "copy")
    names = {file.name for file in shard_files(path)}
    assert names == set(contents(tmp_path / "copy"))
    assert {"CURRENT"} <= names <= {name for name in contents(path) if name[0] != "."}


def test_what_is_there_is_not_written_over(
    checkpoints: Checkpoints, store: ShardStore, tmp_path: Path
) -> None:
    """A directory that exists is refused and left as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(StateError, match="File exists"):
        link_or_copy(checkpoints.take(store, cut()), tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"file": b"kept"}


def test_copies_without_room_leave_nothing(
    checkpoints: Checkpoints, store: ShardStore, disk: SmallDisk
) -> None:
    """On another disk that is full the copy is refused, and nothing of it stays."""
    path = checkpoints.take(store, cut())
    disk.fill()
    with pytest.raises(DiskFullError, match="Make room on that disk"):
        link_or_copy(path, disk.path / "copy")
    assert not (disk.path / "copy").exists()
    disk.empty()
    link_or_copy(path, disk.path / "copy")
    assert rows(disk.path / "copy") == ROWS
