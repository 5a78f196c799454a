"""A replacement or a forget that is broken off while a thread is at its files."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from headrace.pipelines import control, forgetting
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import encode
from headrace.state.store import ShardStore
from headrace.state.tombstones import tombstone
from headrace.views import How
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import told
from tests.pipelines.test_fetcher import Threaded
from tests.pipelines.test_rewind_without_room import SECRET, drafts, rewind_to_fifty

SLOW_S = 0.1


class Slow:
    """The thread that does a thing takes its time, from the n-th time on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, nth: int) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        usual, left = getattr(owner, step), nth

        def slow(*given: Any) -> Any:
            nonlocal left
            left -= 1
            if left:
                return usual(*given)
            self.began.set()
            time.sleep(SLOW_S)
            try:
                return usual(*given)
            finally:
                self.ended.set()

        monkeypatch.setattr(owner, step, slow)


async def command(place: Place, shard: Shard, how: str, keys: tuple[str, ...]) -> control.Command:
    rollback = await rewind_to_fifty(place, shard)
    if how in ("revert", "rewind"):
        mode: control.Mode = "revert" if how == "revert" else "rewind"
        return control.Rollback(
            id="r",
            agent="a",
            life=1,
            snapshot_id="a.s1",
            bases=rollback.bases,
            mode=mode,
            keys=keys,
        )
    there = place.deployment.deploy
    migrations: dict[str, How] = {"reset": "reset", "keep": "keep", "from": "from"}
    return control.Migrate(
        id="m",
        agent="a",
        life=1,
        how=migrations[how],
        replaces=there.digest,
        spec=there.spec,
        digest=there.digest,
        emit_topic=there.emit_topic,
        partitions=1,
        snapshot_id="a.s1",
        bases=rollback.bases,
    )


def accepted(asked: control.Command) -> control.Accepted:
    return control.Accepted(command=asked, life=1, epoch=2, spec_version=1, offset=9)


async def broken_off(slow: Slow, work: Any) -> None:
    """Begin it, and break it off when the thread is at work."""
    working = asyncio.ensure_future(work)
    while not slow.began.is_set():  # noqa: ASYNC110 - a thread tells it
        await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


@pytest.mark.parametrize(
    ("how", "keys", "nth"),
    [
        ("revert", (), 1),
        ("revert", ("ada",), 1),
        ("reset", (), 1),
        ("keep", (), 1),
        ("from", (), 1),
        ("unchanged", (), 1),
        ("rewind", (), 1),  # the twin is flushed
        ("rewind", ("ada",), 3),  # what it has learned of the key is taken over
    ],
)
def test_a_replacement_that_is_broken_off_removes_its_drafts_when_the_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, keys: tuple[str, ...], nth: int
) -> None:
    """Files that are removed under a thread would be made again by it, or fail it."""

    async def work(place: Place, shard: Shard) -> None:
        asked = await command(place, shard, "revert" if how == "unchanged" else how, keys)
        works = place.shards.works
        doing = works.unchanged if how == "unchanged" else works.of
        replacement = doing(accepted(asked))
        assert isinstance(replacement, Replacement)
        await replacement.ready(shard)
        usual = ShardStore.write

        class Drafts:
            """The writes of stores that are drafts."""

            @staticmethod
            def write(store: ShardStore, *given: Any) -> None:
                usual(store, *given)

        slow = Slow(monkeypatch, Drafts, "write", nth)

        def write(store: ShardStore, *given: Any) -> None:
            (Drafts.write if "drafts" in store.path.parts else usual)(store, *given)

        monkeypatch.setattr(ShardStore, "write", write)
        await broken_off(slow, replacement.work(shard))
        assert slow.ended.is_set()
        assert drafts(place) == []

    told(tmp_path, work, Threaded())


def test_a_replacement_on_a_copy_that_is_broken_off_removes_its_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the copy is made."""

    async def work(place: Place, shard: Shard) -> None:
        replacement = place.shards.works.of(accepted(await command(place, shard, "revert", ())))
        assert isinstance(replacement, Replacement)
        slow = Slow(monkeypatch, ShardStore, "checkpoint", 1)
        await broken_off(slow, replacement.on_copy(shard))
        assert slow.ended.is_set()
        assert drafts(place) == []

    told(tmp_path, work, Threaded())


def test_a_base_that_is_closed_when_a_revert_ends_is_not_removed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a rollback may be broken off, too."""

    async def work(place: Place, shard: Shard) -> None:
        revert = place.shards.works.of(accepted(await command(place, shard, "revert", ())))
        assert isinstance(revert, Replacement)
        await revert.ready(shard)
        slow = Slow(monkeypatch, ShardStore, "close", 1)
        await broken_off(slow, revert.end())
        assert slow.ended.is_set()
        assert drafts(place) == []

    told(tmp_path, work, Threaded())


def test_a_forget_that_is_broken_off_leaves_no_thread_at_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever broke it off may close the shard."""

    async def work(place: Place, shard: Shard) -> None:
        await place.catalogue.append(SECRET.key, encode(SECRET))
        forget = control.Forget(
            id="f", agent="a", secret_id=SECRET.id, tombstone=tombstone(SECRET, "a", "nobody")
        )
        forgets = place.shards.works.of(accepted(forget))
        assert isinstance(forgets, forgetting.Forgetting)
        slow = Slow(monkeypatch, forgetting, "rows_of", 1)
        await broken_off(slow, forgets.work(shard))
        assert slow.ended.is_set()

    told(tmp_path, work, Threaded())
