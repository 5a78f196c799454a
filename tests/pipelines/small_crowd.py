"""Five agents on one log, some of them far behind; in virtual time, without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.errors import StateError, UnavailableError
from headrace.models.decisions import decode_decision
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.catchup import Bounds, CatchUp
from headrace.pipelines.holdings import Holdings
from headrace.pipelines.order import Chunk
from headrace.pipelines.replay import Replay
from headrace.pipelines.shard import Shard
from headrace.pipelines.topics import Topics
from headrace.ports import Record
from headrace.views import Partition
from tests.fold.events import log
from tests.fold.oracles import visits
from tests.pipelines.small_place import WHERE, Place, live
from tests.simulation.broker import SimLogs, SimReplay, SimTopics

RECORDS = 300
AGENTS = ("b", "c", "d", "e")


class Crowd(Place):
    """Five agents on a log of some length, and the worker that `CatchUp` needs around it."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        for row in log(2, RECORDS - 50):
            self.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
        for name in AGENTS:
            spec = load_spec(visits(agent=name, topic="events").spec)
            deploy = control.Deploy(
                id=f"deploy {name}",
                agent=name,
                spec=spec.to_dict(),
                digest=spec.digest,
                emit_topic=f"decided-{name}",
            )
            self.command(deploy)
        self.broker.partitions["events"] = 1
        self.gone_back: list[int] = []  # from where the stream was asked to be read again
        self.looked: list[Shard] = []
        self.stopping = False
        self.given_up: list[UnavailableError] = []
        self.cut: StateError | None = None  # what a close look at a log finds
        self.failed: list[BaseException] = []
        self.streams = SimpleNamespace(rewind=self._rewind)
        self.logwatch = SimpleNamespace(look_closely=self._look_closely)
        topics = cast(Topics, SimTopics(self.broker))
        self.holdings = Holdings(self.shards, self.controls.registry, topics, cast(Any, self))
        self.catchup = CatchUp(self.shards, self.holdings, cast(Any, self))
        self.catchup.bounds = Bounds(far=20, near=4, piece=5)

    async def opened(self, name: str, upto: int = 0) -> Shard:
        """The agent's shard, which has learned so much."""
        async with self.holdings.opening:
            shard = await self.holdings.open(self.controls.registry.get(name), WHERE)
        assert shard is not None
        if upto:
            await shard.process(Chunk("events", 0, self.rows(upto), upto))
        return shard

    def rows(self, upto: int) -> Sequence[Record]:
        return self.broker.logs[WHERE].rows()[:upto]

    # -- the worker --------------------------------------------------------------------------

    def over(self) -> bool:
        return self.stopping

    def end_without_flush(self, error: UnavailableError) -> None:
        self.given_up.append(error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def keep_memory(self) -> None:
        """There is room."""

    async def tell_waiting(self) -> None:
        """Nobody waits."""

    async def _rewind(self, partition: Partition, offset: int) -> None:
        assert partition == WHERE
        self.gone_back.append(offset)

    async def _look_closely(self, shards: Iterable[Shard]) -> None:
        for shard in shards:
            self.looked.append(shard)
            if self.cut is not None:
                await self.holdings.drop(shard, self.cut)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.append(error)


async def begun(place: Crowd) -> Shard:
    """Agent a has learned all that there is."""
    await place.controls.start()
    return await place.opened("a", RECORDS)


def decided(place: Crowd, name: str) -> set[int]:
    """The events on which an agent has decided."""
    rows = place.broker.logs[Partition(f"decided-{name}", 0)].rows()
    return {decode_decision(row.value or b"").offset for row in rows}


def in_a_crowd(tmp_path: Path, work: Callable[[Crowd], Awaitable[None]]) -> None:
    """Run it in virtual time."""
    live(tmp_path, cast(Any, work), Crowd)


class Watched(SimReplay):
    """Replays, how many there are at a time, and what goes wrong with them."""

    open_now = 0
    most = 0
    away = 0  # so many times the broker does not answer

    async def upto(self, offset: int) -> Chunk | None:
        if Watched.away:
            Watched.away -= 1
            raise UnavailableError("broker_away", "it does not answer")
        return await super().upto(offset)


def watching(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """Every replay is one of these."""
    Watched.open_now = Watched.most = Watched.away = 0

    @asynccontextmanager
    async def replay(logs: SimLogs, partition: Partition, begin: int) -> AsyncIterator[Replay]:
        Watched.open_now += 1
        Watched.most = max(Watched.most, Watched.open_now)
        try:
            yield Watched(logs._broker, partition, begin)
        finally:
            Watched.open_now -= 1

    monkeypatch.setattr(SimLogs, "replay", replay)
    return Watched
