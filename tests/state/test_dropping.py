"""Checkpoints that are dropped: while another shard is taken, and on a disk that fails."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from headrace.errors import StateError
from headrace.state.checkpoints import Checkpoints
from headrace.state.store import ShardStore
from tests.state.cuts import ROWS, cut, rows

HELD_S = 0.2
"""How long a take waits for another thread, which may have to wait for it."""


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_shard_that_is_taken_while_its_snapshot_is_dropped_is_there_as_a_whole_or_not(
    checkpoints: Checkpoints, store: ShardStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Another thread drops it right before or behind the rename: both succeed, and nothing is owed
    of which there are no files.
    """
    checkpoints.take(store, cut())
    dropping: list[Future[None]] = []
    real = Path.rename

    def drop() -> None:
        dropping.append(pool.submit(checkpoints.drop, "card-fraud.s1"))
        wait(dropping, timeout=HELD_S)

    def rename(path: Path, target: Path) -> Path:
        takes = target.parent.name == "card-fraud.s1"
        if takes and when == "before":
            drop()
        renamed = real(path, target)
        if takes and when == "behind":
            drop()
        return renamed

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as disk:
        disk.setattr(Path, "rename", rename)
        checkpoints.take(store, cut(partition=4))
    dropping[0].result()
    assert checkpoints.cuts() == Checkpoints(checkpoints.root).cuts()
    assert cut() not in checkpoints.cuts()
    assert rows(checkpoints.take(store, cut(partition=4))) == ROWS


def test_a_drop_that_may_not_be_durable_leaves_nothing_owed_without_its_files(
    checkpoints: Checkpoints, store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are gone for this process at least, and its id is free."""
    checkpoints.take(store, cut())

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        with pytest.raises(StateError, match="Input/output error"):
            checkpoints.drop("card-fraud.s1")
    assert checkpoints.owed() == []
    assert rows(checkpoints.take(store, cut(kind="named"))) == ROWS
