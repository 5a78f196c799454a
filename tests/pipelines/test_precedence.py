"""Who works in the background, and who goes first."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.pipelines import precedence as of_precedence
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.revert import Revert
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from tests.fold.oracles import visits
from tests.pipelines import small_place
from tests.pipelines.small_shard import SPEC, Sink, Store, chunk, event, open_shard
from tests.pipelines.test_rollback_laws import Two, lived
from tests.pipelines.test_withdrawing import HISTORY

TURNS = 20  # of the event loop, in which it might go on


async def test_who_gives_way_goes_on_when_the_last_one_has_done() -> None:
    """With two at work it waits for both."""
    precedence = Precedence()
    with precedence.held():
        with precedence.held():
            waiting = asyncio.ensure_future(precedence.free())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10)


async def test_who_gives_way_does_so_again_for_the_next_one() -> None:
    """Who takes it in the turn in which it was given back goes first, too."""
    precedence = Precedence()
    with precedence.held():
        waiting = asyncio.ensure_future(precedence.free())
        await asyncio.sleep(0)
    with precedence.held():
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10)


async def test_who_keeps_it_for_long_waits_for_something_himself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Say for room on a full disk, which publishing makes: else both would wait for ever."""
    monkeypatch.setattr(of_precedence, "PATIENCE_S", 0.05)
    precedence = Precedence()
    with precedence.held():
        await asyncio.wait_for(precedence.free(), 10)
        assert not precedence.is_held
        with precedence.held():  # the same stretch goes on
            assert not precedence.is_held
    with precedence.held():
        assert precedence.is_held


async def test_it_is_given_back_by_one_who_fails() -> None:
    """A replacement that cannot be done keeps nobody."""
    precedence = Precedence()
    with pytest.raises(OSError, match="disk"), precedence.held():
        raise OSError("disk")
    await asyncio.wait_for(precedence.free(), 10)


@pytest.mark.parametrize("mode", ["revert", "rewind"])
def test_a_rollback_goes_before_what_is_published(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """While a state is replaced neither it nor any other snapshot is published; what a revert has
    to prepare, for which the caller waits as well, goes before that, too.
    """
    seen: list[tuple[str, bool]] = []
    prepare, take = Revert.prepare, Vault.take
    probed, publish = Vault._probed, Vault._publish

    async def work(place: Two) -> None:
        precedence = place.shards.site.precedence

        async def preparing(self: Revert, shard: Shard) -> None:
            seen.append(("prepare", precedence.is_held))
            await prepare(self, shard)

        async def taking(self: Vault, *arguments: Any) -> Path:
            path = await take(self, *arguments)
            if "undo" in arguments:
                seen.append(("take", precedence.is_held))
                await asyncio.sleep(1.0)
            return path

        async def probing(self: Vault, *arguments: Any) -> Any:
            seen.append(("probe", precedence.is_held))
            return await probed(self, *arguments)

        async def publishing(self: Vault, *arguments: Any) -> bool:
            seen.append(("publish", precedence.is_held))
            return await publish(self, *arguments)

        await place.feed(10)
        base = await place.snapshot("a")
        await place.feed(30)
        monkeypatch.setattr(Revert, "prepare", preparing)
        monkeypatch.setattr(Vault, "take", taking)
        monkeypatch.setattr(Vault, "_probed", probing)
        monkeypatch.setattr(Vault, "_publish", publishing)
        await place.roll_back("a", base, mode=mode)
        await place.until(lambda: seen[-1][0] == "publish")

    lived(HISTORY, work)
    first = [("prepare", True)] if mode == "revert" else []
    assert seen == [*first, ("take", True), ("probe", False), ("publish", False)]


def test_what_is_probed_is_published_when_a_rollback_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that begins in between goes before it."""
    seen: list[bool] = []
    probed, publish = Vault._probed, Vault._publish

    async def work(place: Two) -> None:
        precedence, held = place.shards.site.precedence, ExitStack()

        async def probing(self: Vault, *arguments: Any) -> Any:
            held.enter_context(precedence.held())
            asyncio.get_running_loop().call_later(1.0, held.close)
            return await probed(self, *arguments)

        async def publishing(self: Vault, *arguments: Any) -> bool:
            seen.append(precedence.is_held)
            return await publish(self, *arguments)

        monkeypatch.setattr(Vault, "_probed", probing)
        monkeypatch.setattr(Vault, "_publish", publishing)
        await place.feed(10)
        await place.snapshot("a")

    lived(HISTORY, work)
    assert seen == [False]


async def test_the_timer_flushes_at_once_when_it_is_told_to() -> None:
    """And not only in an hour."""
    sink = Sink()
    shard = open_shard(sink, Store(sink), SPEC + "state: {flush_ms: 600000}\n")
    flushing = asyncio.ensure_future(shard.flush_by_timer())
    await shard.process(chunk(*map(event, range(5))))
    assert shard.durable_offset == 0
    shard.flush_soon()
    async with asyncio.timeout(10):
        while shard.durable_offset != 5:  # noqa: ASYNC110 - a timer tells nobody
            await asyncio.sleep(0.01)
    await shard.close(flush=False)
    await asyncio.wait_for(flushing, 10)


def test_what_was_learned_is_flushed_while_a_rollback_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nothing but what came meanwhile is left to flush while events wait. It is durable when
    the snapshot is still being fetched, and not because the timer was due.
    """
    monkeypatch.setattr(small_place, "visits", partial(visits, state="flush_ms: 600000"))
    seen: list[tuple[int, int]] = []

    async def work(place: Two) -> None:
        shard = place.shard("a")
        place.in_background(shard, shard.flush_by_timer())
        await place.feed(10)
        base = await place.snapshot("a")
        await place.feed(30)
        seen.append((shard.durable_offset, shard.next_offset))
        fetch = place.vault.fetch

        async def slow(*arguments: Any) -> Path:
            await asyncio.sleep(5.0)
            seen.append((shard.durable_offset, shard.next_offset))
            return await fetch(*arguments)

        monkeypatch.setattr(place.vault, "fetch", slow)
        await place.roll_back("a", base)

    lived(HISTORY, work)
    assert seen == [(10, 30), (30, 30)]
