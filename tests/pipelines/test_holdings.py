"""An agent is given up as a whole, for the weightiest reason, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from headrace.errors import AwayStateError, DiskFullError, StateError
from headrace.pipelines import control
from headrace.pipelines.holdings import RETRY_S, Holdings
from headrace.pipelines.site import Site
from headrace.pipelines.topics import Topics
from headrace.state.store import Store
from headrace.views import Partition
from tests.pipelines.small_place import WHERE, Place, live
from tests.simulation.broker import SimTopics

BESIDE = Partition("events", 1)
UNTRUSTED = StateError("the disk cannot be trusted")
FULL = DiskFullError("no space left on device")
AWAY = AwayStateError("the object store does not answer")


class Host:
    """A worker that only remembers what it is told."""

    def __init__(self) -> None:
        self.tried_again: list[str] = []
        self.told = 0
        self._tasks: list[asyncio.Task[None]] = []

    def over(self) -> bool:
        return False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def follow_source(self, deployment: control.Deployment) -> None:
        self.tried_again.append(deployment.agent)

    async def tell_waiting(self) -> None:
        self.told += 1


async def held(place: Place) -> tuple[Holdings, Host]:
    """The holdings of a place, its agent not opened yet."""
    await place.controls.start()
    place.broker.partitions["events"] = 2
    host = Host()
    topics = cast(Topics, SimTopics(place.broker))
    return Holdings(place.shards, place.controls.registry, topics, host), host


def test_all_shards_of_an_agent_that_is_given_up_are_closed(tmp_path: Path) -> None:
    """Those that are sound are flushed; nothing of it is opened again, or kept from others."""

    async def work(place: Place) -> None:
        holdings, host = await held(place)
        async with holdings.opening:
            bad = await holdings.open(place.deployment, WHERE)
            sound = await holdings.open(place.deployment, BESIDE)
        assert bad is not None
        assert sound is not None
        for shard in (bad, sound):
            await shard.process(place.chunk())
        await holdings.drop(bad, UNTRUSTED)
        assert place.shards.all() == []
        assert (bad.durable_offset, sound.durable_offset) == (0, 50)
        assert (str(holdings.broken["a"]), host.told) == (str(UNTRUSTED), 1)
        assert await holdings.open(place.deployment, WHERE) is None
        await asyncio.sleep(10 * RETRY_S)
        assert host.tried_again == []

    live(tmp_path, work)


@pytest.mark.parametrize(
    "errors",
    [(UNTRUSTED, FULL), (FULL, UNTRUSTED), (FULL, FULL), (AWAY, UNTRUSTED), (AWAY, FULL)],
)
def test_what_may_pass_hides_no_other_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: tuple[StateError, StateError]
) -> None:
    """An agent is tried again only if all its shards lack is room or the repository, and once for
    all of them.
    """

    async def work(place: Place) -> None:
        holdings, host = await held(place)
        failing = iter(errors)

        def cannot(_site: Site, _path: Path) -> Store:
            raise next(failing)

        monkeypatch.setattr(Site, "open_store", cannot)
        async with holdings.opening:
            opened = [holdings.open(place.deployment, where) for where in (WHERE, BESIDE)]
            assert await asyncio.gather(*opened) == [None, None]
        await asyncio.sleep(10 * RETRY_S)
        if UNTRUSTED in errors:
            assert (holdings.broken, host.tried_again) == ({"a": UNTRUSTED}, [])
        else:
            assert (holdings.broken, host.tried_again) == ({}, ["a"])

    live(tmp_path, work)


def test_what_fails_beside_a_shard_that_is_closed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is nobody's trouble any more, but it is not swallowed."""

    async def work(place: Place) -> None:
        holdings, _ = await held(place)
        async with holdings.opening:
            shard = await holdings.open(place.deployment, WHERE)
        assert shard is not None
        await holdings.close([shard], flush=True)
        await holdings.drop(shard, UNTRUSTED)
        assert holdings.broken == {}
        assert [record.message for record in caplog.records] == ["shard.unusable"]

    live(tmp_path, work)
