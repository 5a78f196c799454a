"""One agent's shards over logs in memory, in virtual time."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from headrace.errors import StateError
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.order import Chunk
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.site import Site, spec_named
from headrace.pipelines.vault import Vault
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import StoreOptions
from headrace.views import Partition
from tests.fold.events import log
from tests.fold.oracle import Origin
from tests.fold.oracles import visits
from tests.simulation.broker import CLUSTER, SimBroker, SimLogs
from tests.simulation.catalogue import SimCatalogueLog
from tests.simulation.controls import CONTROL, SimControlLog
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.sink import SimSink
from tests.simulation.worker import IDENTITY, SimClock

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
        self.unusable: dict[Shard, StateError] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.controls = Crowded(self.broker, process, self._accept)
        self.catalogue = SimCatalogueLog(self.broker, process)
        self.sink = HeldSink(self.broker, process, random.Random(1))
        self._path = tmp_path / "state"
        self.directory = self._held(IDENTITY)
        spec = load_spec(visits(agent="a", topic="events").spec)
        self.command(
            control.Deploy(
                id="d", agent="a", spec=spec.to_dict(), digest=spec.digest, emit_topic="decided"
            )
        )

    def become(self, **build: str) -> None:
        """Go on as another build, with the shards closed; a command opens none by itself."""
        self.directory.close()
        self.directory = self._held(msgspec.structs.replace(IDENTITY, **build))

    def _held(self, identity: Identity) -> StateDirectory:
        directory = StateDirectory.open(self._path, identity)
        self.vault = Vault(
            directory,
            self.broker.repository,
            cast(CatalogueLog, self.catalogue),
            identity.versions,
            clock=SimClock(),
        )
        site = Site(
            descriptors_max=10_000,
            worker="w",
            logs=SimLogs(self.broker),
            cluster_id=CLUSTER,
            quarantine_topic="sim.quarantine",
            directory=directory,
            stores=StoreOptions(),
            sink=self.sink,
            busy=lambda: False,
            precedence=Precedence(),
        )
        self.shards = Shards(site, self.controls, self.vault)
        self.shards.in_background = self.in_background
        self.vault.probing.specs = functools.partial(spec_named, self.controls.registry)
        return directory

    def in_background(self, _: Shard | None, work: Coroutine[Any, Any, None]) -> None:
        """Until it is done, or `live` ends."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

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
            self.unusable |= await self.shards.apply(accepted)


def live(
    tmp_path: Path,
    work: Callable[[Place], Awaitable[None]],
    made: Callable[[Path], Place] = Place,
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Run it, the control log followed meanwhile: in virtual time, unless a loop is given."""

    async def whole() -> None:
        place = made(tmp_path)
        try:
            await work(place)
        finally:
            for task in list(place.tasks):
                task.cancel()
            await asyncio.gather(*place.tasks, return_exceptions=True)
            await place.controls.stop()

    loop = loop or VirtualLoop(random.Random(7))
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(whole())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
