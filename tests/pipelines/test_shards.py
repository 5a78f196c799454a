"""How shards are opened, closed and deleted while commands and rebalances come in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec import structs

from headrace.errors import ForeignStateError, StateError
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.shards import Shards, Site
from headrace.state.directory import StateDirectory
from headrace.state.store import StoreOptions
from headrace.views import Partition
from tests.fold.events import log
from tests.fold.oracle import Origin
from tests.fold.oracles import visits
from tests.simulation.broker import CLUSTER, SimBroker, SimLogs
from tests.simulation.controls import CONTROL, SimControlLog
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.sink import SimSink
from tests.simulation.worker import IDENTITY

WHERE = Partition("events", 0)
ORIGIN = Origin("a", 1, 1, *WHERE)


class Crowded(SimControlLog):
    """Somebody else is always a little quicker: `ahead` comes before the effect of its command."""

    ahead: ClassVar[dict[str, control.ControlRecord]] = {"p": control.Resume(id="r", agent="a")}

    async def append(self, record: control.ControlRecord) -> int:
        if isinstance(record, control.ShardEffect) and record.control_id in self.ahead:
            self._log.append(None, control.encode(self.ahead[record.control_id]))
        return await super().append(record)


class HeldSink(SimSink):
    """Nothing reaches a log before it is `released`."""

    def __init__(self, broker: SimBroker, process: Process, chance: random.Random) -> None:
        super().__init__(broker, process, chance)
        self.released = asyncio.Event()
        self.released.set()

    async def _deliver(self, to: Partition, way: Any) -> None:
        await self.released.wait()
        await super()._deliver(to, way)


class Place:
    """Shards over logs in memory, with one agent deployed and fifty records in its topic."""

    def __init__(self, tmp_path: Path) -> None:
        self.broker = SimBroker()
        for row in log(1, 50):
            self.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
        process = Process("w")
        self.owned: list[Partition] = []  # what a delete is told that the worker holds
        self.deleted = asyncio.Event()
        self.directory = StateDirectory.open(tmp_path / "state", IDENTITY)
        self.controls = Crowded(self.broker, process, self._accept)
        self.sink = HeldSink(self.broker, process, random.Random(1))
        site = Site(
            descriptors_max=10_000,
            worker="w",
            logs=SimLogs(self.broker),
            cluster_id=CLUSTER,
            quarantine_topic="sim.quarantine",
            directory=self.directory,
            stores=StoreOptions(),
            sink=self.sink,
            busy=lambda: False,
        )
        self.shards = Shards(site, self.controls)
        spec = load_spec(visits(agent="a", topic="events").spec)
        self.command(
            control.Deploy(
                id="d", agent="a", spec=spec.to_dict(), digest=spec.digest, emit_topic="decided"
            )
        )

    def command(self, record: control.ControlRecord) -> None:
        """Somebody else appends to the control log."""
        self.broker.logs[CONTROL].append(None, control.encode(record))

    @property
    def deployment(self) -> control.Deployment:
        return self.controls.registry.get("a")

    def chunk(self) -> Chunk:
        """All records."""
        rows = self.broker.logs[WHERE].rows()
        return Chunk("events", 0, rows, len(rows))

    async def _accept(self, accepted: control.Accepted) -> None:
        if accepted.kind == "delete":
            await self.shards.delete(accepted, self.owned)
            self.deleted.set()
        elif accepted.kind != "deploy":
            await self.shards.apply(accepted)


def live(tmp_path: Path, work: Callable[[Place], Awaitable[None]]) -> None:
    """Run it in virtual time, the control log followed meanwhile."""

    async def whole() -> None:
        place = Place(tmp_path)
        try:
            await work(place)
        finally:
            await place.controls.stop()

    loop = VirtualLoop(random.Random(7))
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(whole())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_command_that_comes_while_a_shard_is_opened_takes_effect(tmp_path: Path) -> None:
    """A resume is accepted while the pause before it is applied: the shard learns again."""

    async def work(place: Place) -> None:
        place.command(control.Pause(id="p", agent="a"))
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        assert [c.kind for c in place.deployment.commands] == ["deploy", "pause", "resume"]
        assert place.deployment.effect("r", WHERE) == 0
        assert not shard.paused

    live(tmp_path, work)


def test_a_delete_waits_for_shards_that_a_rebalance_closes(tmp_path: Path) -> None:
    """The directory of an agent goes only when none of its stores is open any more."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        path = place.directory.shard_path("a", 1, *WHERE)
        closing = asyncio.create_task(place.shards.close(shard, flush=True))
        place.command(control.Delete(id="x", agent="a"))
        await place.deleted.wait()
        await closing
        assert not path.exists()

    live(tmp_path, work)


def test_a_delete_counts_behind_what_a_closed_shard_may_have_decided(tmp_path: Path) -> None:
    """Where no shard is open, the effect of a delete is at the end of the log."""

    async def work(place: Place) -> None:
        await place.controls.start()
        place.owned = [WHERE]
        place.command(control.Delete(id="x", agent="a"))
        await place.deleted.wait()
        last = place.controls.registry.last("a")
        assert last is not None
        assert last.effect("x", WHERE) == 50

    live(tmp_path, work)


def test_a_delete_counts_when_all_that_was_decided_is_in_the_log(tmp_path: Path) -> None:
    """Nobody would decide again what a crash lost behind the effect of a delete."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        place.sink.released.clear()
        await shard.process(place.chunk())
        place.command(control.Delete(id="x", agent="a"))
        await asyncio.sleep(60)
        last = place.controls.registry.last("a")
        assert last is not None
        assert last.deleted
        assert last.effect("x", WHERE) is None
        place.sink.released.set()
        await place.deleted.wait()
        assert last.effect("x", WHERE) == 50
        assert place.sink.unacknowledged(ORIGIN) == []

    live(tmp_path, work)


def test_a_closed_shard_is_not_swept(tmp_path: Path) -> None:
    """A shard may be closed between its flush by the timer and the sweep after it."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await place.shards.close(shard, flush=True)
        await shard.sweep()
        assert shard.durable_offset == shard.next_offset == 50

    live(tmp_path, work)


def test_a_state_that_another_control_log_began_is_refused(tmp_path: Path) -> None:
    """Where the control log was made anew, the same epoch of the same name is another agent."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await place.shards.close(shard, flush=True)
        again = await place.shards.open(place.deployment, WHERE)
        await place.shards.close(again, flush=True)
        place.deployment.effects.clear()
        with pytest.raises(ForeignStateError, match="the control log was made anew"):
            await place.shards.open(place.deployment, WHERE)

    live(tmp_path, work)


def test_a_spec_that_this_build_refuses_concerns_its_agent_alone(tmp_path: Path) -> None:
    """The log may hold what another build took: that is no bug, which would end the process."""

    async def work(place: Place) -> None:
        await place.controls.start()
        taken = place.deployment
        taken.deploy = structs.replace(taken.deploy, spec={"agent": "a", "features": 7})
        with pytest.raises(StateError, match="this build refuses the spec of agent 'a'"):
            await place.shards.open(taken, WHERE)

    live(tmp_path, work)
