"""Shards that another build wrote: put aside, found again, and gone when others replace them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.errors import CorruptStateError
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import ShardMeta, ShardStore
from tests.state.cuts import rows
from tests.state.traced import run_under

OLD = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")
NEW = msgspec.structs.replace(OLD, river="99.0")
META = ShardMeta(next_offset=7, epoch=2, spec_digest="", control_offset=0, cluster_id="c")
SHARD = ("agent", 2, "t", 0)
EPOCHS = range(1, 4)

_UPGRADER = """
import sys
from pathlib import Path
import msgspec
from headrace.state.directory import Identity, StateDirectory
old = Identity.of_this_build(app="app", cluster_id="cluster-1", codec="1", hash_seed="0")
StateDirectory.open(Path(sys.argv[1]), msgspec.structs.replace(old, river="99.0"))
"""


def written(root: Path, build: Identity, weights: bytes) -> Path:
    """A shard that this build writes, or writes over; where it lies."""
    with StateDirectory.open(root, build) as directory:
        path = directory.shard_path(*SHARD)
        store = ShardStore.open(path, create=True)
        store.write([(b"k/ada", weights)], META)
        store.close()
    return path


def found(root: Path, build: Identity) -> bytes | None:
    """What that build finds where its shard should be."""
    with StateDirectory.open(root, build) as directory:
        path = directory.shard_path(*SHARD)
        return rows(path)[b"k/ada"] if path.exists() else None


@pytest.mark.parametrize("field", ["headrace", "river", "numpy", "codec", "python"])
def test_what_another_build_wrote_is_put_aside(tmp_path: Path, field: str) -> None:
    """Nothing lies where this build looks for its own, and it is told who wrote the rest."""
    path = written(tmp_path, OLD, b"old")
    with StateDirectory.open(tmp_path, msgspec.structs.replace(OLD, **{field: "99"})) as directory:
        assert directory.epochs("agent", "t", 0) == []
        assert not path.exists()
        assert directory.former("agent", EPOCHS, "t", 0) == [OLD.versions]


def test_a_build_is_told_of_no_other_shard(tmp_path: Path) -> None:
    """Of another partition, topic or agent, or of epochs that nobody asked about."""
    written(tmp_path, OLD, b"old")
    with StateDirectory.open(tmp_path, NEW) as directory:
        assert directory.former("agent", EPOCHS, "t", 1) == []
        assert directory.former("agent", EPOCHS, "u", 0) == []
        assert directory.former("other", EPOCHS, "t", 0) == []
        assert directory.former("agent", range(3, 9), "t", 0) == []


def test_each_build_finds_what_it_wrote(tmp_path: Path) -> None:
    """To and fro: neither sees the other's, and both are there."""
    written(tmp_path, OLD, b"old")
    assert found(tmp_path, NEW) is None
    written(tmp_path, NEW, b"new")
    for _ in range(2):
        assert found(tmp_path, OLD) == b"old"
        assert found(tmp_path, NEW) == b"new"


def test_what_was_replaced_is_gone_for_every_build(tmp_path: Path) -> None:
    """The shard that another took over is deleted, and no other."""
    written(tmp_path, OLD, b"old")
    with StateDirectory.open(tmp_path, NEW) as directory:
        directory.drop_former("agent", EPOCHS, "t", 1)
        assert directory.former("agent", EPOCHS, "t", 0) == [OLD.versions]
        directory.drop_former("agent", EPOCHS, "t", 0)
        assert directory.former("agent", EPOCHS, "t", 0) == []
    assert found(tmp_path, OLD) is None


def test_a_deleted_agent_is_deleted_there_too(tmp_path: Path) -> None:
    """Its epochs up to the one that was deleted, whoever wrote them."""
    written(tmp_path, OLD, b"old")
    with StateDirectory.open(tmp_path, NEW) as directory:
        directory.drop_agent("agent", through=1)
        assert directory.former("agent", EPOCHS, "t", 0) == [OLD.versions]
        directory.drop_agent("agent", through=2)
        assert directory.former("agent", EPOCHS, "t", 0) == []


def test_a_build_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    """Who wrote a shard is compared with its digest, as all that is remembered."""
    written(tmp_path, OLD, b"old")
    with StateDirectory.open(tmp_path, NEW) as directory:
        [says] = (tmp_path / "former").glob("*.json")
        says.write_bytes(says.read_bytes().replace(b"river", b"rover"))
        with pytest.raises(CorruptStateError, match="do not match their digest"):
            directory.former("agent", EPOCHS, "t", 0)


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("back", [OLD, NEW], ids=["back", "forth"])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_kill_at_any_call_loses_no_shard(
    tmp_path: Path, call: str, back: Identity, *, again: bool
) -> None:
    """Whichever build starts after it finds what it wrote, and never what the other one did.

    `again`: the new build has been there before.
    """
    news = b"new" if again else None
    for when in range(1, 40):
        root = tmp_path / f"{when}"
        if again:
            written(root, NEW, b"new")
        written(root, OLD, b"old")
        killed = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}"]
        ended = run_under(killed, _UPGRADER, str(root)).returncode == 0
        if back == NEW:
            assert found(root, NEW) == news
        assert found(root, OLD) == b"old"
        assert found(root, NEW) == news
        if ended:
            assert when > 2
            return
    raise AssertionError("it never ended")
