"""A state of the past is made on a disk without room: that waits for room, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.errors import DiskFullError
from headrace.pipelines.past import derivation
from headrace.pipelines.past.derivation import TIME_MAX_S, Derivation
from headrace.state.store import Store
from tests.pipelines.test_past import Lived
from tests.pipelines.test_rollback_laws import History, Two, lived


class Disk:
    """Has no room for the rows of one store, as long as it is full."""

    def __init__(self, store: Store, patched: pytest.MonkeyPatch) -> None:
        self.full = True
        write = store.write

        def written(*given: Any) -> None:
            self._check()
            write(*given)

        patched.setattr(store, "write", written)
        patched.setattr(store, "recover", self._check)

    def _check(self) -> None:
        if self.full:
            raise DiskFullError("no space left on device")


def filled(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Disk, asyncio.Task[None]], Awaitable[None]]
) -> None:
    """The state at 40 is being made, and its first flush finds no room; do something then."""
    monkeypatch.setattr(derivation, "MODELS_BYTES_MAX", 0)  # it is flushed after each chunk

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(len(place.rows))
        timeline = place.timeline("a")
        (start,) = timeline.starts(40)
        made = Derivation(place.shards.site, place.vault, timeline.course(start, 40))
        await made.begin()
        try:
            disk = Disk(made.shard.store, monkeypatch)
            learning = asyncio.create_task(made.learn(40))
            while not made.shard.waits_for:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
            await act(disk, learning)
        finally:
            await made.end()

    lived(History(1, tuple("1234" * 15), 0, 0), work, Lived)


def test_it_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told why."""

    async def act(_: Disk, learning: asyncio.Task[None]) -> None:
        async with asyncio.timeout(2 * TIME_MAX_S):
            with pytest.raises(DiskFullError, match="no space left"):
                await learning

    filled(monkeypatch, act)


def test_it_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time to be made in, and a flush finds the room."""

    async def act(disk: Disk, learning: asyncio.Task[None]) -> None:
        await asyncio.sleep(TIME_MAX_S / 2)
        assert not learning.done()
        disk.full = False
        async with asyncio.timeout(TIME_MAX_S / 4):
            await learning

    filled(monkeypatch, act)
