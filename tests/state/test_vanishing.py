"""RocksDB's own files that go while a checkpoint is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import rocksdict

from headrace.errors import StateError
from headrace.state import store as store_module
from headrace.state.checks import META
from headrace.state.store import ShardStore


class Vanishing:
    """RocksDB's checkpoints, of which the first ones miss a file that they were about to link."""

    real = rocksdict.Checkpoint
    misses = 0
    said = "IO error: No such file or directory: while link file to 000012.log: 000012.log"

    def __init__(self, database: rocksdict.Rdict) -> None:
        self._database = database

    def create_checkpoint(self, path: str) -> None:
        if Vanishing.misses:
            Vanishing.misses -= 1
            raise Exception(self.said)  # noqa: TRY002 - as rocksdict raises
        self.real(self._database).create_checkpoint(path)


def test_a_checkpoint_from_under_which_a_file_went_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB puts its own files away in threads of its own; but not for ever."""
    monkeypatch.setattr(rocksdict, "Checkpoint", Vanishing)
    store = ShardStore.open(tmp_path / "shard", create=True)
    store.write([(b"k/ada", b"weights")], META)
    monkeypatch.setattr(Vanishing, "misses", store_module.CHECKPOINT_TRIES_MAX - 1)
    store.checkpoint(tmp_path / "one")
    monkeypatch.setattr(Vanishing, "misses", store_module.CHECKPOINT_TRIES_MAX)
    with pytest.raises(StateError, match="No such file"):
        store.checkpoint(tmp_path / "two")
    monkeypatch.setattr(Vanishing, "misses", 1)
    monkeypatch.setattr(Vanishing, "said", "IO error: Input/output error")
    with pytest.raises(StateError, match="Input/output error"):
        store.checkpoint(tmp_path / "three")
    store.close()
    copy = ShardStore.open(tmp_path / "one", create=False)
    assert copy.get(b"k/ada") == b"weights"
    copy.close()
