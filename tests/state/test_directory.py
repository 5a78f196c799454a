"""The state directory: one holder, one log. `test_former` has what other builds leave there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CorruptStateError, ForeignStateError, LockedStateError
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import ShardStore

MINE = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")


def changed(**fields: str) -> Identity:
    return msgspec.structs.replace(MINE, **fields)


_HOLDER = """
import sys
from pathlib import Path
from headrace.state.directory import Identity, StateDirectory
mine = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")
held = StateDirectory.open(Path(sys.argv[1]), mine)
print("held", flush=True)
sys.stdin.read()
"""


def test_same_identity_opens_again(tmp_path: Path) -> None:
    """The same app, cluster and build open the directory again and find their shards."""
    with StateDirectory.open(tmp_path / "a" / "state", MINE) as directory:
        path = directory.shard_path("agent", 1, "topic", 0)
        ShardStore.open(path, create=True).close()
    with StateDirectory.open(tmp_path / "a" / "state", MINE) as directory:
        assert directory.shard_path("agent", 1, "topic", 0) == path
        ShardStore.open(path, create=False).close()


@pytest.mark.parametrize("field", ["app", "cluster_id"])
def test_another_log_is_refused_with_what_to_do(tmp_path: Path, field: str) -> None:
    """State of another cluster or app is refused, and the text names both and the way out."""
    StateDirectory.open(tmp_path, MINE).close()
    with pytest.raises(ForeignStateError) as refused:
        StateDirectory.open(tmp_path, changed(**{field: "another"}))
    text = str(refused.value)
    assert "belongs to the log of cluster cluster-1" in text
    assert "another" in text
    assert "start with --state-dir elsewhere, or delete it" in text


def test_another_hash_seed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The order of sets is part of what a model is; the text says how to have the same one."""
    StateDirectory.open(tmp_path, MINE).close()
    with pytest.raises(ForeignStateError) as refused:
        StateDirectory.open(tmp_path, changed(hash_seed="random"))
    text = str(refused.value)
    assert "hash_seed 0 (this is random)" in text
    assert "start the service with `headrace up`" in text


def test_refused_directory_is_unlocked_again(tmp_path: Path) -> None:
    """After a refusal the rightful owner can open the directory."""
    StateDirectory.open(tmp_path, MINE).close()
    with pytest.raises(ForeignStateError):
        StateDirectory.open(tmp_path, changed(app="another"))
    with StateDirectory.open(tmp_path, MINE) as directory:
        assert directory.path == tmp_path


def test_directory_of_a_running_worker_is_refused_by_pid(tmp_path: Path) -> None:
    """A directory that another process holds is refused with that process's pid."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedStateError) as refused:
            StateDirectory.open(tmp_path, MINE)
        assert f"in use by process {holder.pid}: stop that worker first" in str(refused.value)
        holder.kill()
        holder.wait()
    StateDirectory.open(tmp_path, MINE).close()


def test_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A directory with files that are not ours is refused, and nothing is written into it."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ForeignStateError, match="holds no Headrace state"):
        StateDirectory.open(tmp_path, MINE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A path that is a file is refused."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ForeignStateError, match="is a file"):
        StateDirectory.open(tmp_path / "file", MINE)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"app": 1}', b"\xff"])
def test_unreadable_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    """An identity that cannot be read is refused, never replaced."""
    StateDirectory.open(tmp_path, MINE).close()
    (tmp_path / "identity.json").write_bytes(content)
    with pytest.raises(CorruptStateError, match=r"identity\.json cannot be read"):
        StateDirectory.open(tmp_path, MINE)
    assert (tmp_path / "identity.json").read_bytes() == content


def test_shards_without_identity_are_refused(tmp_path: Path) -> None:
    """Shards whose identity is lost are not given to whoever comes next."""
    with StateDirectory.open(tmp_path, MINE) as directory:
        ShardStore.open(directory.shard_path("a", 1, "t", 0), create=True).close()
    (tmp_path / "identity.json").unlink()
    with pytest.raises(CorruptStateError, match="nobody knows whose they are"):
        StateDirectory.open(tmp_path, MINE)


def test_crash_before_the_identity_leaves_a_usable_directory(tmp_path: Path) -> None:
    """A directory with only the lock and a draft of the identity is taken as new."""
    (tmp_path / "lock").write_text("4711\n")
    (tmp_path / "identity.json.new").write_text('{"app"')
    with StateDirectory.open(tmp_path, MINE):
        pass
    stored = msgspec.json.decode((tmp_path / "identity.json").read_bytes(), type=Identity)
    assert stored == MINE


@given(
    st.sets(st.tuples(st.text(max_size=300), st.integers(0, 5)), min_size=2, max_size=8),
    st.text(max_size=300),
)
def test_shard_paths_are_safe_and_distinct(shards: set[tuple[str, int]], agent: str) -> None:
    """Any topic and agent name gives a path of its own below the state directory."""
    directory = StateDirectory(Path("/state"), lock=-1)
    paths = {directory.shard_path(agent, 1, topic, partition) for topic, partition in shards}
    assert len({str(path).lower() for path in paths}) == len(shards)
    for path in paths:
        assert os.path.normpath(path) == str(path)
        assert path.is_relative_to("/state/shards")
        assert len(path.relative_to("/state/shards").parts) == 3
        assert max(len(part) for part in path.parts) < 200


def test_dropped_agent_is_gone_and_others_stay(tmp_path: Path) -> None:
    """Dropping an agent deletes its shards up to an epoch and no others; absent ones are fine."""
    with StateDirectory.open(tmp_path, MINE) as directory:
        mine = [directory.shard_path("agent", epoch, "t", 0) for epoch in (1, 2, 10)]
        other = directory.shard_path("agent-2", 1, "t", 0)
        for path in [*mine, other]:
            ShardStore.open(path, create=True).close()
        directory.drop_agent("agent", through=2)
        directory.drop_agent("never-there", through=2)
        assert [path.exists() for path in [*mine, other]] == [False, False, True, True]
        assert not list((tmp_path / "trash").iterdir())


def test_an_agent_is_dropped_where_nothing_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make room is what somebody deletes for: it makes no directory, and what cannot be removed
    now is removed at the next start, with the agent's name free again.
    """

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with StateDirectory.open(tmp_path, MINE) as directory:
        for _ in range(2):
            path = directory.shard_path("agent", 1, "t", 0)
            path.mkdir(parents=True)
            with monkeypatch.context() as disk:
                disk.setattr(Path, "mkdir", full)
                disk.setattr(os, "rmdir", full)
                directory.drop_agent("agent", through=1)
            assert not path.exists()
    with StateDirectory.open(tmp_path, MINE):
        assert not list((tmp_path / "trash").iterdir())


def test_trash_of_a_crash_is_taken_out(tmp_path: Path) -> None:
    """Shards that a crash left on their way out are deleted at the next start."""
    with StateDirectory.open(tmp_path, MINE):
        (tmp_path / "trash" / "agent" / "1").mkdir(parents=True)
    with StateDirectory.open(tmp_path, MINE):
        assert not list((tmp_path / "trash").iterdir())
