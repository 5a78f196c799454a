"""Snapshots that are removed while something else is done with them, on a real broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from headrace.views import RollbackRequest
from tests.service.conftest import Start
from tests.service.test_rollback_answers import cut_at_30_of_60, to_half
from tests.serving.world import code_of


class Stopped:
    """A verb that waits, when it is called, until somebody lets it go on."""

    def __init__(self, verb: Callable[..., Awaitable[Any]]) -> None:
        self._verb = verb
        self.reached, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, *args: Any) -> Any:
        self.reached.set()
        await self.goes_on.wait()
        return await self._verb(*args)


async def test_a_snapshot_that_a_rollback_is_about_to_begin_from_is_not_removed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command is on its way into the log, so nothing there says yet that it is in use."""
    async with start() as running:
        await cut_at_30_of_60(running, "clung-to")
        controls = running.service.worker.controls
        stopped = Stopped(controls.append_in_time)
        with monkeypatch.context() as patched:
            patched.setattr(controls, "append_in_time", stopped)
            going_back = asyncio.create_task(running.client.rollback(to_half("clung-to")))
            await stopped.reached.wait()
            assert (
                await code_of(running.client.delete_snapshot("clung-to.half")) == "snapshot_in_use"
            )
            stopped.goes_on.set()
            assert (await going_back).done
        assert await code_of(running.client.delete_snapshot("clung-to.half")) == "snapshot_in_use"


async def test_no_rollback_begins_from_a_snapshot_that_is_being_removed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor from one that was removed since the rollback looked at its manifests."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "leaving")
        vault = running.service.worker.vault
        stopped = Stopped(vault._topic.append)
        with monkeypatch.context() as patched:
            patched.setattr(vault._topic, "append", stopped)
            removing = asyncio.create_task(client.delete_snapshot("leaving.half"))
            await stopped.reached.wait()
            assert await code_of(client.rollback(to_half("leaving"))) == "snapshot_in_use"
            stopped.goes_on.set()
            await removing
        await client.create_snapshot("leaving", "two")
        check = vault.check

        async def removed_behind(*args: Any) -> None:
            await check(*args)
            await client.delete_snapshot("leaving.two")

        monkeypatch.setattr(vault, "check", removed_behind)
        to = RollbackRequest(agent="leaving", snapshot_id="leaving.two")
        assert await code_of(client.rollback(to)) == "snapshot_expired"
        assert (await client.agent("leaving")).epoch == 1


async def test_nothing_takes_the_id_of_a_snapshot_that_is_being_removed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody vouches for it any more, and its manifests are about to go: with them would those of
    an import, or of a snapshot that is made.
    """
    file = tmp_path / "good.tar"
    async with start() as running:
        client, vault = running.client, running.service.worker.vault
        await cut_at_30_of_60(running, "taken")
        digest = await client.export_snapshot("taken.half", file)
        remove = vault._repository.remove
        reached, goes_on = threading.Event(), threading.Event()

        def slow(snapshot_id: str, digests: Iterable[str]) -> None:
            reached.set()
            goes_on.wait(20)
            remove(snapshot_id, digests)

        monkeypatch.setattr(vault._repository, "remove", slow)
        removing = asyncio.create_task(client.delete_snapshot("taken.half"))
        await asyncio.to_thread(reached.wait, 20)
        assert await code_of(client.import_snapshot(file, digest)) == "snapshot_exists"
        assert await code_of(client.create_snapshot("taken", "half")) == "snapshot_exists"
        goes_on.set()
        await removing
        assert (await client.import_snapshot(file, digest)).complete
        await vault.collect()
