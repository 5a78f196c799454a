"""A shard that takes its place: as a whole, in one step, durable before it is seen."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headrace.errors import DiskFullError, StateError
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import ShardMeta, ShardStore
from tests.state.traced import traced

MINE = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")
META = ShardMeta(next_offset=7, epoch=2, spec_digest="", control_offset=0, cluster_id="c")

_ADOPTER = """
import sys
from pathlib import Path
from headrace.state.directory import Identity, StateDirectory
mine = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")
directory = StateDirectory.open(Path(sys.argv[1]), mine)
draft = directory.draft()
draft.mkdir()
for name in ("CURRENT", "000012.sst"):
    (draft / name).write_bytes(b"x")
directory.adopt(draft, directory.shard_path("agent", 2, "t", 0))
"""
_ORDER = """
fsync state/drafts/ID/000012.sst
fsync state/drafts/ID/CURRENT
fsync state/drafts/ID
fsync state
fsync state/shards
fsync state/shards/agent
rename state/drafts/ID state/shards/agent/2/t@0
fsync state/shards/agent/2
"""


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """An open state directory."""
    return StateDirectory.open(tmp_path / "state", MINE)


def drafted(directory: StateDirectory, payload: bytes = b"weights") -> Path:
    """A closed store at a draft."""
    draft = directory.draft()
    store = ShardStore.open(draft, create=True)
    store.write([(b"k/ada", payload)], META)
    store.close()
    return draft


def test_an_adopted_draft_is_the_shard(directory: StateDirectory) -> None:
    """What was at the draft is at the shard's path, and no longer at the draft."""
    draft, path = drafted(directory), directory.shard_path("agent", 2, "t", 0)
    directory.adopt(draft, path)
    store = ShardStore.open(path, create=False)
    assert (store.meta, store.get(b"k/ada")) == (META, b"weights")
    store.close()
    assert not draft.exists()


def test_each_draft_has_a_path_of_its_own(directory: StateDirectory) -> None:
    """Two drafts are never at one path, and nothing is there before it is made."""
    drafts = [directory.draft() for _ in range(10)]
    assert len(set(drafts)) == 10
    assert not any(draft.exists() for draft in drafts)


@pytest.mark.parametrize("there", ["a shard", "an empty directory"])
def test_a_shard_that_is_there_is_not_replaced(directory: StateDirectory, there: str) -> None:
    """Where something is, nothing is adopted; what is there and the draft stay as they are."""
    path = directory.shard_path("agent", 2, "t", 0)
    if there == "a shard":
        directory.adopt(drafted(directory, b"older"), path)
    else:
        path.mkdir(parents=True)
    before = sorted(path.rglob("*"))
    draft = drafted(directory)
    with pytest.raises(StateError, match="it exists"):
        directory.adopt(draft, path)
    assert sorted(path.rglob("*")) == before
    assert (draft / "CURRENT").exists()


def test_all_is_durable_before_the_name_and_the_name_when_it_returns(tmp_path: Path) -> None:
    """The kernel sees: fsync of the files, of the draft, of the directories made above the place;
    then the rename, then fsync of the directory above.
    """
    seen = traced(tmp_path, _ADOPTER, str(tmp_path / "state"))
    first = next(n for n, call in enumerate(seen) if call.startswith("fsync state/drafts/ID/"))
    files, rest = seen[first : first + 2], seen[first + 2 :]
    assert sorted(files) + rest == _ORDER.split("\n")[1:-1]


@pytest.mark.parametrize("step", ["fsync", "mkdir", "rename"])
def test_a_step_that_fails_leaves_the_draft_and_no_shard(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Without room for a step nothing is at the shard's path; with room the draft is adopted."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    draft, path = drafted(directory), directory.shard_path("agent", 2, "t", 0)
    with monkeypatch.context() as full:
        full.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises(DiskFullError, match="Make room on that disk"):
            directory.adopt(draft, path)
    assert not path.exists()
    directory.adopt(draft, path)
    assert directory.epochs("agent", "t", 0) == [2]


def test_drafts_of_a_crash_are_taken_out(tmp_path: Path) -> None:
    """What a crash left half-made is deleted at the next start."""
    with StateDirectory.open(tmp_path, MINE) as directory:
        drafted(directory)
    with StateDirectory.open(tmp_path, MINE):
        assert list((tmp_path / "drafts").iterdir()) == []


def test_epochs_are_those_with_a_shard_of_that_partition(directory: StateDirectory) -> None:
    """Ascending by number; other agents, topics and partitions do not count, nor does a directory
    in which RocksDB never was; a damaged shard does.
    """
    for agent, epoch, topic, partition in [
        ("agent", 10, "t", 0),
        ("agent", 2, "t", 0),
        ("agent", 3, "t", 1),
        ("agent", 4, "T", 0),
        ("agent-2", 5, "t", 0),
    ]:
        path = directory.shard_path(agent, epoch, topic, partition)
        ShardStore.open(path, create=True).close()
    directory.shard_path("agent", 6, "t", 0).mkdir(parents=True)
    damaged = directory.shard_path("agent", 7, "t", 0)
    ShardStore.open(damaged, create=True).close()
    (damaged / "CURRENT").unlink()
    assert directory.epochs("agent", "t", 0) == [2, 7, 10]
    assert directory.epochs("agent", "t", 1) == [3]
    assert directory.epochs("never-there", "t", 0) == []


def test_a_dropped_shard_is_gone_and_others_stay(directory: StateDirectory) -> None:
    """Of one epoch and partition the shard goes, once or twice; its neighbours stay."""
    paths = [directory.shard_path("agent", 1, "t", partition) for partition in (0, 1)]
    for path in paths:
        ShardStore.open(path, create=True).close()
    directory.drop_shard(paths[0])
    directory.drop_shard(paths[0])
    assert [path.exists() for path in paths] == [False, True]
    assert list((directory.path / "trash").iterdir()) == []


def test_where_checkpoints_lie(directory: StateDirectory) -> None:
    """They lie in the state directory, so on the same disk: hard links need that."""
    assert directory.checkpoints == directory.path / "checkpoints"
