"""One worker: a Faust consumer group member, the control log's follower, and the shards it holds.

Start-up in this order, because each step stands on the one before: topics, state directory,
emitter, control log (read to its end), then the streams, which open a shard for each live agent
of each partition that Kafka assigns. `ready` turns true only after that.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from headrace.config import Config, hash_seed
from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.models.codec import CODEC_VERSION
from headrace.pipelines import background, control, output_topics
from headrace.pipelines.broker import Broker
from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.catchup import CatchUp
from headrace.pipelines.controllog import ControlLog
from headrace.pipelines.emit import Emitter
from headrace.pipelines.holdings import Holdings
from headrace.pipelines.logwatch import ClusterId, LogWatch
from headrace.pipelines.memory import MemoryBudget
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.presence import Presence, patiently
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.site import Site, spec_named
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import NEWEST_OF_EACH, Topics
from headrace.pipelines.transport import Chunk
from headrace.pipelines.vault import Vault
from headrace.state.directory import Identity, StateDirectory
from headrace.state.owner import Owner
from headrace.state.repositories import open_repository
from headrace.state.store import StoreOptions
from headrace.views import Partition

log = logging.getLogger(__name__)
_T = TypeVar("_T")

STOP_DRAIN_S = 5.0
"""How long a stop waits for a broker that has not acknowledged the last decisions."""
CANCEL_AGAIN_S = 0.5
"""Before a task that should end, and has not, is cancelled once more."""


class Worker:
    """Order of calls: `start`, then wait for `failed` or a signal, then `stop`.

    Raises StateError from `start` if the state directory belongs to somebody or something else.
    """

    def __init__(
        self,
        config: Config,
        broker: Broker,
        state_dir: Path,
        *,
        worker_id: str,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self.broker = broker
        self.topics = Topics(broker)
        self.presence = Presence(broker)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready = False
        self.stopping = False
        self.controls: ControlLog  # these are made by `start`
        self.shards: Shards
        self.holdings: Holdings
        self.catchup: CatchUp
        self.vault: Vault
        self.logwatch: LogWatch
        self.streams: Streams
        self._memory: MemoryBudget
        self._worker_id = worker_id
        self._busy = busy
        self._state_dir = state_dir
        self._emitter = Emitter(broker.bootstrap, idempotent=broker.can_transactions)
        self._tasks: set[asyncio.Future[None]] = set()
        self._taken = AsyncExitStack()
        self._not_flushed: UnavailableError | None = None
        self._giving_up: list[Callable[[], None]] = []

    @property
    def control_topic(self) -> str:
        return f"{self.config.app}.control"

    @property
    def catalogue_topic(self) -> str:
        return f"{self.config.app}.snapshots"

    @property
    def snapshots_url(self) -> str:
        """Where snapshots are kept."""
        return self.config.snapshots_url(self._state_dir)

    @property
    def quarantine_topic(self) -> str:
        return f"{self.config.app}.quarantine"

    @property
    def withdrawn_topic(self) -> str:
        return f"{self.config.app}.withdrawn"

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop reading, flush every shard, commit, release the state directory.

        Raises UnavailableError if the broker was away, so that the state is that of the last flush.
        """
        self.ready, self.stopping = False, True
        for give_up in self._giving_up:
            give_up()
        await self._taken.aclose()
        if self._not_flushed is not None:
            raise self._not_flushed

    async def _start(self) -> None:
        await self.topics.start()
        self._taken.push_async_callback(self.topics.stop)
        self._run(self.presence.watch())
        cluster_id = await self.topics.cluster_id()
        identity = Identity.of_this_build(
            app=self.config.app,
            cluster_id=cluster_id,
            codec=str(CODEC_VERSION),
            hash_seed=hash_seed(),
        )
        directory = StateDirectory.open(self._state_dir, identity)
        self._taken.callback(directory.close)
        for topic in (self.control_topic, self.quarantine_topic, self.withdrawn_topic):
            await self.topics.ensure(topic, partitions=1, ours=True)
        await self._open_vault(directory, identity)
        await self._emitter.start()
        self._taken.push_async_callback(self._emitter.stop)
        self._giving_up.append(lambda: self._emitter.give_up_in(STOP_DRAIN_S))
        self.controls = ControlLog(
            self.broker.bootstrap,
            self.control_topic,
            worker=self._worker_id,
            on_accepted=self._on_accepted,
        )
        site = Site(
            worker=self._worker_id,
            logs=KafkaLogs(self.broker.bootstrap),
            cluster_id=cluster_id,
            quarantine_topic=self.quarantine_topic,
            directory=directory,
            stores=StoreOptions(),
            sink=self._emitter,
            busy=self._busy,
            descriptors_max=self.config.descriptors_max,
            precedence=Precedence(),
        )
        self.vault.probing.specs = functools.partial(spec_named, self.controls.registry)
        self._hold(Shards(site, self.controls, self.vault))
        await self.controls.start()
        self._taken.push_async_callback(self.controls.stop)
        self._giving_up.append(self.controls.give_up)
        self._taken.push_async_callback(self._close_shards)
        cluster = ClusterId(cluster_id, self.topics.cluster_id)
        self.logwatch = LogWatch(
            self.broker.bootstrap, site.logs, self.shards.all, self.holdings.drop, cluster
        )
        await self.logwatch.start()
        self._taken.push_async_callback(self.logwatch.stop)
        self._run(self.logwatch.watch())
        self.presence.on_back = self.logwatch.hurry
        self.streams = Streams(
            self.config,
            self.broker.bootstrap,
            self.shards,
            on_chunk=self._on_chunk,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            on_gone=self._on_gone,
            away=lambda: self.presence.away_s > 0,
        )
        for part in (self.controls.failed, self.streams.failed):
            part.add_done_callback(self._part_failed)
        await self.streams.start()
        self._taken.push_async_callback(self.streams.stop)
        await self._resume()
        self.ready = True

    async def _open_vault(self, directory: StateDirectory, identity: Identity) -> None:
        """What snapshots there are is known before any shard is opened."""
        await self.topics.ensure(
            self.catalogue_topic, partitions=1, ours=True, retention=NEWEST_OF_EACH
        )
        catalogue = CatalogueLog(self.broker.bootstrap, self.catalogue_topic)
        await catalogue.start()
        self._taken.push_async_callback(catalogue.stop)
        self._giving_up.append(catalogue.give_up)
        catalogue.failed.add_done_callback(self._part_failed)
        repository = await asyncio.to_thread(open_repository, self.snapshots_url)
        self.vault = Vault(directory, repository, catalogue, identity.versions)
        await self.vault.claim(Owner(app=identity.app, cluster_id=identity.cluster_id))

    async def _resume(self) -> None:
        """Finish the deletes that a crash cut short, and go on with the agents that live."""
        for deleted in self.controls.registry.deleted():
            count = self.topics.known_partition_count(deleted.source_topic)
            async with self.holdings.opening:  # nobody opens a new life of it meanwhile
                if self.controls.registry.last(deleted.agent) is deleted:
                    finish = functools.partial(self.shards.finish_delete, deleted, count)
                    await self._patiently(finish)
        for deployment in list(self.controls.registry.live()):
            await self.shards.drop_lives(deployment.agent, through=deployment.life - 1)
            await self.follow_source(deployment)
        self._run(output_topics.keep(self.topics, self.controls.registry, self._emitter.waits))
        for work in background.works(self):
            self._run(work)

    def _hold(self, shards: Shards) -> None:
        """Take these shards, with what decides which are opened, given up, kept in memory."""
        self.shards = shards
        self.holdings = Holdings(self.shards, self.controls.registry, self.topics, self)
        self.catchup = CatchUp(self.shards, self.holdings, self)
        self._memory = MemoryBudget(self.config.models_bytes_max, self.holdings.drop)

    def _run(self, watch: Coroutine[Any, Any, None]) -> None:
        """Run something that must not end, until the stop, which waits for what it has begun."""
        task = asyncio.create_task(watch)
        task.add_done_callback(self._part_failed)
        self._taken.push_async_callback(_ended, task)

    async def _close_shards(self) -> None:
        async with self.holdings.opening:
            await self._close(self.shards.all())
        while self._tasks:  # one that ends may have begun another
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close(self, shards: Collection[Shard]) -> None:
        try:
            await self.holdings.close(shards, flush=not self.failed.done())
        except UnavailableError as error:
            self.end_without_flush(error)

    def end_without_flush(self, error: UnavailableError) -> None:
        """The broker was waited for until the stop gave up: nothing durable is lost by that."""
        if not self.stopping:
            raise error
        if error.code == "broker_away":  # others only say that a stop came in between
            log.warning("worker.not_flushed", extra=fields(error=str(error)))
            self._not_flushed = error

    def check_ready(self) -> None:
        """Raises UnavailableError `not_ready`, or `stopping` when infrastructure has failed."""
        if self.failed.done():
            raise UnavailableError(
                "stopping", f"the worker is going down: {self.failed.exception() or 'stopped'}"
            )
        if self.stopping:
            raise UnavailableError("stopping", "the worker is going down")
        if not self.ready:
            raise UnavailableError("not_ready", "the worker is starting: ask again in a moment")

    async def _on_chunk(self, chunk: Chunk) -> None:
        for shard in self.shards.joined(Partition(chunk.topic, chunk.partition)):
            try:
                await shard.process(chunk, lambda: self.streams.flowing)
            except UnavailableError as error:  # the broker was waited for, until the stop
                self.end_without_flush(error)
            except StateError as error:  # this agent's rows are damaged; the others go on
                await self.holdings.drop(shard, error)
        await self.keep_memory()

    async def _on_assigned(self, partitions: Collection[Partition]) -> None:
        async with self.holdings.opening:
            self.catchup.place(await self.holdings.open_all(partitions))

    async def _on_revoked(self, partitions: Collection[Partition]) -> None:
        await self._close([s for p in partitions for s in self.shards.of_partition(p)])

    async def _on_gone(self, partition: Partition) -> None:
        """The log lacks what is to be read: give up whom that concerns; the others go on."""
        await self.logwatch.look_closely(self.shards.of_partition(partition))
        await self._patiently(lambda: self.streams.read_on(partition))

    async def _on_accepted(self, accepted: control.Accepted) -> None:
        """A command came back from the control log: apply it to what this worker holds."""
        deployment = self.controls.registry.last(accepted.agent)
        assert deployment is not None
        if accepted.kind == "deploy":
            if deployment.life == accepted.life and not deployment.deleted:
                await self.follow_source(deployment)
        elif accepted.kind == "delete":
            # In turn with openings: a shard that is being opened now must not outlive its agent.
            async with self.holdings.opening:
                await self._patiently(lambda: self._delete(accepted, deployment.source_topic))
            self.holdings.broken.pop(accepted.agent, None)
            await self._unfollow_sources()
        elif control.begins_anew(accepted.command) and self.holdings.forgiven(accepted.agent):
            await self.follow_source(deployment)
        else:
            for shard, error in (await self.shards.apply(accepted)).items():
                await self.holdings.drop(shard, error)

    async def follow_source(self, deployment: control.Deployment) -> None:
        """Open the agent's shards, subscribing to its topic if nobody reads it yet."""
        topic = deployment.source_topic
        partitions = await self._patiently(lambda: self.topics.partition_count(topic))
        if deployment.deleted or self.controls.registry.last(deployment.agent) is not deployment:
            return  # meanwhile; nobody is to read its topic for it
        if not partitions:
            log.warning("source.missing", extra=fields(agent=deployment.agent, topic=topic))
            return
        if topic not in self.streams.topics:
            await self.streams.subscribe(topic)
            return
        async with self.holdings.opening:
            for partition in sorted(self.streams.assigned(topic)):
                shard = await self.holdings.open(deployment, partition)
                if shard is None:
                    continue
                if partition in self.streams.assigned(topic):
                    self.catchup.place([shard])
                    if not shard.apart:
                        await self.streams.rewind(partition, shard.next_offset)
                else:  # a rebalance has taken it away meanwhile, and did not see this shard
                    await self._close([shard])

    async def _delete(self, accepted: control.Accepted, topic: str) -> None:
        count = await self.topics.partition_count(topic)  # it may have gone before its agent
        owned = sorted(p for p in self.streams.assigned(topic) if p.partition < count)
        await self.shards.delete(accepted, owned)

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await patiently(work, lambda: self.stopping)

    async def _unfollow_sources(self) -> None:
        wanted = {deployment.source_topic for deployment in self.controls.registry.live()}
        for topic in [topic for topic in self.streams.topics if topic not in wanted]:
            await self.streams.unsubscribe(topic)

    def over(self) -> bool:
        """Whether it is going down."""
        return self.stopping or self.failed.done()

    async def keep_memory(self) -> None:
        """Let go of models until all that live fit."""
        await self._memory.keep(self.shards.all())

    async def tell_waiting(self) -> None:
        """Let those who wait for a command see what has become of it."""
        await self.controls.wake()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something go on by itself; the stop waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._part_failed)
        return task

    def _part_failed(self, part: asyncio.Future[None]) -> None:
        if part.cancelled() or (error := part.exception()) is None:
            return
        if self.stopping and isinstance(error, UnavailableError):
            self.end_without_flush(error)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Whoever waits for `failed` stops the process; nothing is flushed any more."""
        if not self.failed.done():
            kind = "state" if isinstance(error, StateError) else "infrastructure"
            log.error("worker.failed", extra=fields(kind=kind, error=repr(error)))
            self.failed.set_exception(error)


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel it, and return when it has ended. `asyncio.wait_for` loses a cancellation that comes
    just as what it waits for is done: so it is told again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
