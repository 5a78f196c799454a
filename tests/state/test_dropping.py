"""Checkpoints that are dropped: while another shard is taken, and on a disk that fails."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from headrace.errors import StateError
from headrace.state.checkpoints import Checkpoints
from headrace.state.store import ShardStore
from tests.state.cuts import ROWS, contents, cut, rows

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
        dropping.append(pool.submit(checkpoints.drop, cut()))
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
            checkpoints.drop(cut())
    assert checkpoints.owed() == []
    assert rows(checkpoints.take(store, cut(kind="named"))) == ROWS


def test_another_cut_that_has_taken_the_place_of_a_dropped_one_is_left_as_it_is(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """Its name was given anew: whoever still has the former one drops and notes nothing of it."""
    former, anew = cut(created_ms=1), cut(created_ms=2)
    checkpoints.take(store, former)
    checkpoints.drop(former)
    path = checkpoints.take(store, anew)
    before = contents(path)
    checkpoints.drop(former)
    checkpoints.probed(former, b"its own")
    checkpoints.published(former, "ab" * 32, ())
    assert (checkpoints.path_of(former), checkpoints.path_of(anew)) == (None, path)
    assert checkpoints.owed() == [anew]
    assert contents(path) == before


def test_a_cut_is_dropped_whether_it_has_its_probes_by_then_or_not(
    checkpoints: Checkpoints, store: ShardStore
) -> None:
    """They come a while after it was taken, and it is the same cut; nothing is left of its name."""
    checkpoints.take(store, cut())
    probed = checkpoints.probed(cut(), b"what it says")
    assert checkpoints.path_of(cut()) == checkpoints.path_of(probed)
    checkpoints.drop(cut())
    assert checkpoints.cuts() == []
    assert [path.name for path in checkpoints.root.iterdir()] == [".passing"]
