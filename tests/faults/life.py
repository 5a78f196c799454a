"""One life of a worker's parts over a directory.

<root>/
  state/          the state directory
  repository/     of snapshots
  journal         all logs
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import msgspec

from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.order import Chunk
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.site import Site
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import Topics
from headrace.pipelines.vault import Vault, undo_id
from headrace.pipelines.withdrawing import Withdrawing
from headrace.state.directory import StateDirectory
from headrace.state.store import StoreOptions
from headrace.views import Exclusion, Partition
from tests.faults.journal import JournalBroker
from tests.fold.events import log
from tests.fold.oracles import heating
from tests.simulation.broker import CLUSTER, QUARANTINE, WITHDRAWN, SimLogs, SimTopics
from tests.simulation.catalogue import SimCatalogueLog
from tests.simulation.controls import SimControlLog
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.sink import SimSink
from tests.simulation.worker import IDENTITY, SimClock

AGENT = "a"
WHERE = Partition("events", 0)
ORACLE = heating(agent=AGENT, topic=WHERE.topic)
ROWS = log(5, 80, keys=4)
BASE, LATER, ASKED = f"{AGENT}.base", f"{AGENT}.later", f"{AGENT}.asked"
_SEEN = {row.key for row in ROWS[:20]}
KEYS = tuple(key for key in ("1", "kéy 0") if key.encode() in _SEEN)
_LOOK_S = 0.05


class Life:
    """Order of calls: `start`, then `learn`, `flush`, `command`, `published` as often as you like,
    `stop`. A killed one has no end: the next one starts from what is there.
    """

    def __init__(self, root: Path) -> None:
        process = Process("w")
        self.broker = JournalBroker(root)
        self.directory = StateDirectory.open(root / "state", IDENTITY)
        self.controls = SimControlLog(self.broker, process, self._accept)
        self.catalogue = SimCatalogueLog(self.broker, process)
        self.vault = Vault(
            self.directory,
            self.broker.repository,
            cast(CatalogueLog, self.catalogue),
            IDENTITY.versions,
            clock=SimClock(),
        )
        self.site = Site(
            descriptors_max=10_000,
            worker="w",
            logs=SimLogs(self.broker),
            cluster_id=CLUSTER,
            quarantine_topic=QUARANTINE.topic,
            directory=self.directory,
            stores=StoreOptions(),
            sink=SimSink(self.broker, process, random.Random(1)),
            busy=lambda: False,
            precedence=Precedence(),
        )
        self.shards = Shards(self.site, self.controls, self.vault)
        self.shards.in_background = self._in_background
        self.shard: Shard
        self._publisher: asyncio.Task[None]
        self._background: list[asyncio.Task[None]] = []
        self._applied: set[str] = set()

    async def read(self) -> None:
        """Read the logs."""
        await self.catalogue.start()
        await self.controls.start()

    async def start(self) -> None:
        """Read the logs, open the shard as it was left, and publish what is owed."""
        await self.read()
        await self.open()

    async def open(self) -> None:
        """Open the shard, and publish from now on."""
        self._publisher = asyncio.create_task(self.vault.publish(self.site.precedence))
        self.shard = await self.shards.open(self.controls.registry.get(AGENT), WHERE)

    async def learn(self, upto: int) -> None:
        """The records below offset `upto` come, and are learned, without a flush."""
        log = self.broker.logs[WHERE]
        for row in ROWS[log.end : upto]:
            log.append(row.key, row.value, row.timestamp)
        rows = ROWS[self.shard.next_offset : upto]
        await self.shard.process(Chunk(*WHERE, rows, upto))

    async def command(self, command: control.Command) -> None:
        """Give a command, and wait until the shard has taken it. Raises StateError if it cannot."""
        await self.controls.append(command)
        while command.id not in self._applied:
            await self._looked()

    async def published(self) -> None:
        """Wait until no rewind is under way, and all that was taken is in the repository and in
        the catalogue.
        """
        await asyncio.gather(*self._background)
        while self.vault._checkpoints.owed():
            await self._looked()

    async def withdrawn(self) -> None:
        """Tell what rollbacks have withdrawn, all of it."""
        self.broker.partitions["decided"] = 1
        withdrawing = Withdrawing(WITHDRAWN.topic, self.controls, self.shards, _Host(self.broker))
        while self.controls.registry.owing():
            await withdrawing.look()
            await self._looked()

    async def stop(self) -> None:
        """A clean end."""
        await self.shards.close(self.shard, flush=True)
        self._publisher.cancel()
        await self.controls.stop()
        await self.catalogue.stop()
        self.directory.close()

    def rollback(
        self, keys: tuple[str, ...] = (), *, exclude: Exclusion | None = None
    ) -> control.Rollback:
        """The command that goes back to the base; with an exclusion by a rewind."""
        back = self._back_to(BASE, "back")
        mode = "revert" if exclude is None else "rewind"
        return msgspec.structs.replace(back, keys=keys, mode=mode, exclude=exclude)

    def undo(self) -> control.Rollback:
        """The command that takes that one back."""
        return msgspec.structs.replace(self._back_to(undo_id(AGENT, "back"), "undo"), undoes="back")

    def _back_to(self, snapshot_id: str, control_id: str) -> control.Rollback:
        shard = self.vault.catalogue.shards(snapshot_id)[WHERE]
        base = control.Base(
            partition=WHERE.partition,
            epoch=shard.epoch,
            next_offset=shard.next_offset,
            digest=shard.digest,
        )
        return control.Rollback(
            id=control_id, agent=AGENT, life=1, snapshot_id=snapshot_id, bases=(base,)
        )

    async def _looked(self) -> None:
        if self.controls.failed.done():
            self.controls.failed.result()
        await asyncio.sleep(_LOOK_S)

    async def _accept(self, accepted: control.Accepted) -> None:
        if accepted.kind != "deploy":
            for error in (await self.shards.apply(accepted)).values():
                raise error
            await asyncio.gather(*self._background)
        self._applied.add(accepted.control_id)

    def _in_background(self, _: Shard, work: Coroutine[Any, Any, None]) -> None:
        self._background.append(asyncio.create_task(work))


class _Host:
    """See `pipelines.withdrawing.Host`."""

    streams: Streams  # is not asked: the shard is here

    def __init__(self, broker: JournalBroker) -> None:
        self.topics = cast(Topics, SimTopics(broker))

    def over(self) -> bool:
        return False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)


def deploy() -> control.Deploy:
    """The command with which the agent begins."""
    spec = load_spec(ORACLE.spec)
    return control.Deploy(
        id="d", agent=AGENT, spec=spec.to_dict(), digest=spec.digest, emit_topic="decided"
    )


def snapshot(snapshot_id: str) -> control.Snapshot:
    """The command that makes a named snapshot."""
    return control.Snapshot(
        id=snapshot_id, agent=AGENT, life=1, snapshot_id=snapshot_id, partitions=1
    )


def run(work: Coroutine[Any, Any, None]) -> None:
    """In virtual time, and in one thread but for RocksDB's own."""
    loop = VirtualLoop(random.Random(7))
    asyncio.set_event_loop(loop)
    loop.run_until_complete(work)
