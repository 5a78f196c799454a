"""The real worker over the world's logs: only what speaks to Kafka is another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from headrace.config import Config
from headrace.pipelines import control
from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.catchup import CatchUp
from headrace.pipelines.controllog import ControlLog
from headrace.pipelines.emit import Emitter
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.site import Site
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import Topics
from headrace.pipelines.vault import Vault
from headrace.pipelines.worker import Worker
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import ShardMeta, ShardStore, Store, StoreOptions
from headrace.views import Partition
from tests.fold.oracle import Origin
from tests.simulation.broker import CLUSTER, SimBroker, SimLogs, SimTopics
from tests.simulation.catalogue import SimCatalogueLog
from tests.simulation.controls import SimControlLog
from tests.simulation.loop import Process
from tests.simulation.parts import Parts
from tests.simulation.violation import Violation

IDENTITY = Identity.of_this_build(app="sim", cluster_id=CLUSTER, codec="1", hash_seed="0")
CONFIG = Config(app="sim", descriptors_max=1 << 20)


class SimClock:
    """Virtual time, from a moment of the year 2023 on."""

    def time(self) -> float:
        return 1_700_000_000 + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class WatchedStore:
    """A shard's real store. At each write the law holds: what is durable has been acknowledged."""

    def __init__(
        self, store: ShardStore, origin: Origin, unacknowledged: Callable[[Origin], list[int]]
    ) -> None:
        self._store = store
        self._unacknowledged = unacknowledged
        self.origin = origin

    @property
    def meta(self) -> ShardMeta | None:
        return self._store.meta

    def get(self, row: bytes) -> bytes | None:
        return self._store.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan(prefix)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        early = [o for o in self._unacknowledged(self.origin) if o < meta.next_offset]
        if early:
            raise Violation(
                f"state up to {meta.next_offset} became durable before the decisions on "
                f"{early[:5]} were acknowledged"
            )
        self._store.write(rows, meta)

    def recover(self) -> None:
        self._store.recover()

    def names(self, prefix: bytes) -> Iterator[bytes]:
        return self._store.names(prefix)

    def compact(self, rows: Iterable[bytes]) -> None:
        self._store.compact(rows)

    def checkpoint(self, path: Path) -> None:
        self._store.checkpoint(path)

    def size_bytes(self) -> int:
        return self._store.size_bytes()

    def close(self) -> None:
        self._store.close()


class WatchedSite(Site, frozen=True, kw_only=True):
    """A site whose stores are watched; `stores_by_path` has all that were opened."""

    process: Process
    stores_by_path: dict[Path, WatchedStore] = msgspec.field(default_factory=dict)
    watched: type[WatchedStore] = WatchedStore

    def open_store(self, path: Path) -> Store:
        store = ShardStore.open(path, create=True, options=self.stores)
        self.process.held.callback(store.close)
        topic, _, partition = path.name.rpartition("@")
        agent, epoch = path.parent.parent.name, int(path.parent.name)
        origin = Origin(agent, 0, epoch, topic, int(partition))
        sink: Any = self.sink
        if self.watched is WatchedStore and sink.unacknowledged(origin, "boundary"):
            raise Violation(f"epoch {epoch} was durable before its boundary was acknowledged")
        watched = self.watched(store, origin, sink.unacknowledged)
        self.stores_by_path[path] = watched
        return watched


class WatchedShards(Shards):
    """The real shards over watched stores."""

    site_class: ClassVar[type[WatchedSite]] = WatchedSite
    whole: set[tuple[str, int, Partition, int]]  # the world's

    def _durable(self, shard: Shard) -> ShardMeta | None:
        """What is on disk of it."""
        origin = shard.origin
        path = self._site.shard_path(origin.agent, origin.epoch, shard.partition)
        return cast(WatchedSite, self._site).stores_by_path[path].meta

    async def log_effect(
        self, accepted: control.Accepted, partition: Partition, offset: int, failed: str = ""
    ) -> int:
        """A delete behind nothing but what this shard has handled leaves no decision out."""
        shard = self.find(accepted.agent, partition)
        if accepted.kind == "delete" and shard is not None and shard.next_offset == offset:
            self.whole.add((accepted.agent, accepted.life, partition, offset))
        return await super().log_effect(accepted, partition, offset, failed)

    def on_disk(self, partition: Partition) -> int:
        """How far all agents are durable, those included whose delete has not counted yet; 0 while
        one that lives is not open or not on disk.
        """
        for deployment in self._controls.registry.live():
            shard = self.find(deployment.agent, partition)
            if shard is None or shard.origin.epoch != deployment.epoch:
                return 0
        metas = [self._durable(shard) for shard in self.of_partition(partition)]
        return min((0 if meta is None else meta.next_offset for meta in metas), default=0)

    def removed(self, deployment: control.Deployment) -> bool:
        """Whether nothing is left of a deleted agent on disk."""
        path = self._site.directory.shard_path(deployment.agent, deployment.epoch, "", 0)
        agent = path.parent.parent
        epochs = agent.iterdir() if agent.exists() else ()
        return all(int(epoch.name) < deployment.life for epoch in epochs)

    def check_commit(self, partition: Partition, offset: int) -> None:
        """The law of commits: never ahead of what is on disk in every shard of the partition."""
        for shard in self.of_partition(partition):
            origin = shard.origin
            meta = self._durable(shard)
            deployment = self._controls.registry.last(origin.agent)
            assert deployment is not None
            began = deployment.effect(deployment.commands[0].control_id, partition)
            durable = meta.next_offset if meta is not None else began
            if durable is not None and offset > durable:
                raise Violation(
                    f"offset {offset} of {partition} was committed, but {origin.agent} is durable "
                    f"only up to {durable}"
                )


class WatchedCatchUp(CatchUp):
    """The real one; it counts."""

    async def _learn_apart(self, shard: Shard) -> None:
        self._count("shards that learned apart")
        await super()._learn_apart(shard)

    async def _join(self, shard: Shard) -> None:
        self._count("shards that joined")
        await super()._join(shard)

    def _count(self, what: str) -> None:
        cast(SimBroker, cast(SimWorker, self._host).broker).counts[what] += 1


class SimWorker(Worker):
    """`pipelines.worker.Worker`, started over the world's parts."""

    def __init__(
        self,
        broker: SimBroker,
        state_dir: Path,
        process: Process,
        stores: StoreOptions,
        parts: Parts,
    ) -> None:
        super().__init__(CONFIG, broker, state_dir, worker_id=process.name)
        self.process = process
        self._stores = stores
        self._parts = parts
        self._sim = broker
        self.topics = cast(Topics, SimTopics(broker))

    async def _start(self) -> None:
        process, parts = self.process, self._parts
        directory = StateDirectory.open(self._state_dir, IDENTITY)
        process.held.callback(directory.close)
        self._taken.callback(directory.close)
        sink = parts.sink(self._sim, process, parts.chance)
        self._emitter = cast(Emitter, sink)
        self._taken.push_async_callback(sink.drain)
        controls: SimControlLog = parts.controls(self._sim, process, self._on_accepted)
        self.controls = cast(ControlLog, controls)
        catalogue = SimCatalogueLog(self._sim, process)
        self.vault = Vault(
            directory,
            self._sim.repository,
            cast(CatalogueLog, catalogue),
            IDENTITY.versions,
            clock=SimClock(),
        )
        site = parts.shards.site_class(
            process=process,
            worker=process.name,
            logs=SimLogs(self._sim),
            cluster_id=CLUSTER,
            quarantine_topic=self.quarantine_topic,
            directory=directory,
            stores=self._stores,
            sink=sink,
            busy=lambda: parts.chance.random() < 0.2,
            descriptors_max=self.config.descriptors_max,
            precedence=Precedence(),
        )
        shards = parts.shards(site, self.controls, self.vault)
        shards.whole = self._sim.whole
        self._hold(shards)
        self.catchup = parts.catch_up(self.shards, self.holdings, self)
        self.catchup.bounds = parts.bounds
        await catalogue.start()
        self._taken.push_async_callback(catalogue.stop)
        await self.controls.start()
        self._taken.push_async_callback(self.controls.stop)
        self._taken.push_async_callback(self._close_shards)
        streams = parts.streams(self._sim, process, shards, parts.chance, parts.order)
        streams.hook(self._on_chunk, self._on_assigned, self._on_revoked)
        self.streams = cast(Streams, streams)
        for part in (self.controls.failed, self.streams.failed):
            part.add_done_callback(self._part_failed)
        await self.streams.start()
        self._taken.push_async_callback(self.streams.stop)
        await self._resume()
        self.ready = True
