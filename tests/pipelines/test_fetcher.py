"""Files on their way in, and whoever asked for them goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import StateError
from headrace.pipelines import control, fetcher
from headrace.pipelines.shard import Shard
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import take, taken, told

SLOW_S = 0.2


class Threaded(asyncio.SelectorEventLoop):
    """One whose threads are threads; what is simulated beside them takes no time."""

    def delay(self, _: float) -> float:
        return 0.0


async def fetched(place: Place, shard: Shard) -> Path:
    vouched = place.vault.catalogue.shards("a.s1")[WHERE]
    return await place.vault.fetch(WHERE, "a.s1", vouched.digest)


async def based(place: Place, shard: Shard) -> Path:
    base = control.Base(partition=0, epoch=1, next_offset=50, digest="")
    return await place.vault.base(WHERE, "a.undo", base)


async def copied(place: Place, shard: Shard) -> Path:
    return await place.vault.copy(shard)


@pytest.mark.parametrize(
    ("ask", "step"), [(fetched, "restore"), (based, "link_or_copy"), (copied, "checkpoint")]
)
def test_nothing_stays_for_whom_nobody_waits_any_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Place, Shard], Awaitable[Path]],
    step: str,
) -> None:
    """A client that breaks off a comparison, say, while a thread is at the files."""
    begun, ended = threading.Event(), threading.Event()

    async def work(place: Place, shard: Shard) -> None:
        drafts = place.directory.path / "drafts"
        await taken(place, shard)
        await take(place, shard, "undo", "undo")
        owner: Any = shard.store if step == "checkpoint" else fetcher
        usual = getattr(owner, step)

        def slow(*arguments: Any) -> Any:
            begun.set()
            time.sleep(SLOW_S)
            try:
                return usual(*arguments)
            finally:
                ended.set()

        monkeypatch.setattr(owner, step, slow)
        asking = asyncio.ensure_future(ask(place, shard))
        while not begun.is_set():  # noqa: ASYNC110 - a thread tells it
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(ended.wait)
        await shard.flush()  # has the turn when nobody is at work on the shard any more
        assert list(drafts.iterdir()) == []

    told(tmp_path, work, Threaded())


def test_nothing_stays_of_what_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Say, if the keys that are to be forgotten cannot be taken out of it."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)

        async def refused(*_: object) -> None:
            raise StateError("it cannot be said what is forgotten")

        monkeypatch.setattr(place.vault, "_cleanse", refused)
        with pytest.raises(StateError, match="cannot be said"):
            await fetched(place, shard)
        assert list((place.directory.path / "drafts").iterdir()) == []

    told(tmp_path, work)
