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
from headrace.errors import DiskFullError, StateError, UnavailableError
from headrace.logs import fields
from headrace.models.codec import CODEC_VERSION
from headrace.pipelines import control, outlets
from headrace.pipelines.broker import Broker
from headrace.pipelines.controllog import ControlLog
from headrace.pipelines.emit import Emitter
from headrace.pipelines.logwatch import ClusterId, LogWatch
from headrace.pipelines.memory import MemoryBudget
from headrace.pipelines.presence import Presence, patiently
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards, Site, spec_of
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import Topics
from headrace.pipelines.transport import Chunk
from headrace.state.directory import Identity, StateDirectory
from headrace.state.store import StoreOptions
from headrace.views import Partition

log = logging.getLogger(__name__)
_T = TypeVar("_T")

ROOM_RETRY_S = 5.0
"""After this an agent that found no room when it was opened is tried again."""
GONE_PAUSE_S = 0.5
"""Before a log that lacked a position is read again: what it has may not be known at once."""
STOP_DRAIN_S = 5.0
"""How long a stop waits for a broker that has not acknowledged the last decisions."""


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
        self.broken_agents: dict[str, StateError] = {}  # live agents that cannot run, and why
        self._worker_id = worker_id
        self._busy = busy
        self._state_dir = state_dir
        self._emitter = Emitter(broker.bootstrap, idempotent=broker.can_transactions)
        self._tasks: set[asyncio.Future[None]] = set()
        self._opening = asyncio.Lock()
        self._memory = MemoryBudget(config.models_bytes_max, self._drop)
        self._taken = AsyncExitStack()
        self._not_flushed: UnavailableError | None = None
        self._giving_up: list[Callable[[], None]] = []

    @property
    def control_topic(self) -> str:
        return f"{self.config.app}.control"

    @property
    def quarantine_topic(self) -> str:
        return f"{self.config.app}.quarantine"

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
        for topic in (self.control_topic, self.quarantine_topic):
            await self.topics.ensure(topic, partitions=1, ours=True)
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
        )
        self.shards = Shards(site, self.controls)
        await self.controls.start()
        self._taken.push_async_callback(self.controls.stop)
        self._giving_up.append(self.controls.give_up)
        self._taken.push_async_callback(self._close_shards)
        cluster = ClusterId(cluster_id, self.topics.cluster_id)
        self.logwatch = LogWatch(
            self.broker.bootstrap, site.logs, self.shards.all, self._drop, cluster
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
        )
        for part in (self.controls.failed, self.streams.failed):
            part.add_done_callback(self._part_failed)
        await self.streams.start()
        self._taken.push_async_callback(self.streams.stop)
        for deleted in self.controls.registry.deleted():
            count = self.topics.known_partition_count(deleted.source_topic)
            async with self._opening:  # nobody opens a new life of it meanwhile
                if self.controls.registry.last(deleted.agent) is deleted:
                    finish = functools.partial(self.shards.finish_delete, deleted, count)
                    await self._patiently(finish)
        for deployment in list(self.controls.registry.live()):
            await self._follow_source(deployment)
        waits = self._emitter.waits
        self._run(outlets.keep(self.topics, self.controls.registry, self.quarantine_topic, waits))
        self.ready = True

    def _run(self, watch: Coroutine[Any, Any, None]) -> None:
        """Run something that must not end, until the stop."""
        task = asyncio.create_task(watch)
        task.add_done_callback(self._part_failed)
        self._taken.callback(task.cancel)

    async def _close_shards(self) -> None:
        await self._close(self.shards.all())
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close(self, shards: Collection[Shard]) -> None:
        for shard in shards:
            try:
                await self.shards.close([shard], flush=not self.failed.done())
            except UnavailableError as error:
                self._end_without_flush(error)
            except StateError as error:  # a disk that cannot be trusted: the others go on
                self._give_up(self._deployment(shard.origin.agent), error)

    def _end_without_flush(self, error: UnavailableError) -> None:
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
        for shard in self.shards.of_partition(Partition(chunk.topic, chunk.partition)):
            if not await shard.has_room(lambda: self.streams.flowing):
                return  # the chunk is read again by whoever gets the partition
            try:
                await shard.process(chunk)
            except UnavailableError as error:  # the broker was waited for, until the stop
                self._end_without_flush(error)
            except StateError as error:  # this agent's rows are damaged; the others go on
                await self._drop(shard, error)
        await self._memory.keep(self.shards.all())

    async def _on_assigned(self, partitions: Collection[Partition]) -> None:
        async with self._opening:
            await asyncio.gather(
                *(
                    self._open(deployment, partition)
                    for deployment in self.controls.registry.live()
                    for partition in sorted(partitions)
                    if partition.topic == deployment.source_topic
                )
            )

    async def _on_revoked(self, partitions: Collection[Partition]) -> None:
        await self._close([s for p in partitions for s in self.shards.of_partition(p)])

    async def _on_gone(self, partition: Partition) -> None:
        """The log lacks what is to be read: give up whom that concerns; the others go on."""
        await self.logwatch.look(self.shards.of_partition(partition), closely=True)
        await asyncio.sleep(GONE_PAUSE_S)
        await self.streams.read_on(partition)

    async def _on_accepted(self, accepted: control.Accepted) -> None:
        """A command came back from the control log: apply it to what this worker holds."""
        deployment = self._deployment(accepted.agent)
        if accepted.kind == "deploy":
            if deployment.epoch == accepted.epoch and not deployment.deleted:
                await self._follow_source(deployment)
        elif accepted.kind == "delete":
            # In turn with openings: a shard that is being opened now must not outlive its agent.
            async with self._opening:
                owned = sorted(self.streams.assigned(deployment.source_topic))
                await self._patiently(lambda: self.shards.delete(accepted, owned))
            self.broken_agents.pop(accepted.agent, None)
            await self._unfollow_sources()
        else:
            for shard, error in (await self.shards.apply(accepted)).items():
                await self._drop(shard, error)

    async def _follow_source(self, deployment: control.Deployment) -> None:
        """Open the agent's shards, subscribing to its topic if nobody reads it yet."""
        topic = deployment.source_topic
        partitions = await self._patiently(lambda: self.topics.partition_count(topic))
        if not partitions:
            log.warning("source.missing", extra=fields(agent=deployment.agent, topic=topic))
            return
        if topic not in self.streams.topics:
            await self._subscribe(topic)
            return
        async with self._opening:
            for partition in sorted(self.streams.assigned(topic)):
                shard = await self._open(deployment, partition)
                if shard is None:
                    continue
                if partition in self.streams.assigned(topic):
                    await self.streams.rewind(partition, shard.next_offset)
                else:  # a rebalance has taken it away meanwhile, and did not see this shard
                    await self._close([shard])

    async def _subscribe(self, topic: str) -> None:
        """Read one more topic, which opens shards through `_on_assigned`."""
        try:
            await self.streams.subscribe(topic)
        except UnavailableError as error:
            # Faust knows of the topic by now and joins when the broker lets it.
            if self.stopping or not self.presence.away_s:
                raise
            log.warning("source.waits", extra=fields(topic=topic, error=str(error)))

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await patiently(work, lambda: self.stopping)

    async def all_open(self) -> None:
        """Return when no shard is being opened: a new source topic makes all of them open anew."""
        async with self._opening:
            return

    async def _unfollow_sources(self) -> None:
        wanted = {deployment.source_topic for deployment in self.controls.registry.live()}
        for topic in [topic for topic in self.streams.topics if topic not in wanted]:
            await self.streams.unsubscribe(topic)

    async def _open(self, deployment: control.Deployment, partition: Partition) -> Shard | None:
        """The shard, opened if need be; None if the agent is gone or its state cannot be used.

        The caller holds `_opening`, so that an agent is not deleted meanwhile.
        """
        newest = self.controls.registry.last(deployment.agent)
        if deployment.deleted or newest is not deployment:
            return None
        if deployment.agent in self.broken_agents:
            return None  # what is not to be trusted is not opened again by a rebalance
        shard = self.shards.find(deployment.agent, partition)
        if shard is not None:
            return shard
        emit_topic = deployment.deploy.emit_topic
        try:
            await self._patiently(lambda: self.topics.match(partition, emit_topic))
            shard = await self._patiently(lambda: self.shards.open(deployment, partition))
        except StateError as error:
            self._give_up(deployment, error)
            return None
        every_s = spec_of(deployment).state.flush_ms / 1000
        ended = functools.partial(self._flusher_ended, shard)
        self._spawn(shard.flush_by_timer(every_s), ended)
        return shard

    def _give_up(self, deployment: control.Deployment, error: StateError) -> None:
        """This agent cannot run; the others go on, and whoever asks for it is told why."""
        log.error("agent.broken", extra=fields(agent=deployment.agent, error=str(error)))
        # Without its traceback, which would keep all that the shard held in memory.
        self.broken_agents[deployment.agent] = error.with_traceback(None)
        if isinstance(error, DiskFullError):
            asyncio.get_running_loop().call_later(ROOM_RETRY_S, self._open_again, deployment)

    def _open_again(self, deployment: control.Deployment) -> None:
        """Try an agent again that found no room on the disk, unless it has begun another life."""
        broken = self.broken_agents.get(deployment.agent)
        live = self._deployment(deployment.agent) is deployment
        if live and isinstance(broken, DiskFullError) and not (self.stopping or self.failed.done()):
            del self.broken_agents[deployment.agent]
            self._spawn(self._follow_source(deployment), self._part_failed)

    async def _drop(self, shard: Shard, error: StateError) -> None:
        """Close a shard whose state cannot be used any more, and give up its agent."""
        if self.shards.find(shard.origin.agent, shard.partition) is not shard:
            return  # closed meanwhile, and perhaps opened anew
        await self.shards.close([shard], flush=False)
        self._give_up(self._deployment(shard.origin.agent), error)

    def _deployment(self, agent: str) -> control.Deployment:
        deployment = self.controls.registry.last(agent)
        assert deployment is not None
        return deployment

    def _spawn(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> None:
        """Let something go on by itself; the stop waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(ended)

    def _flusher_ended(self, shard: Shard, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StateError):
            self._spawn(self._drop(shard, error), self._part_failed)
        else:
            self._part_failed(task)

    def _part_failed(self, part: asyncio.Future[None]) -> None:
        if part.cancelled() or (error := part.exception()) is None:
            return
        if self.stopping and isinstance(error, UnavailableError):
            self._end_without_flush(error)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Whoever waits for `failed` stops the process; nothing is flushed any more."""
        if not self.failed.done():
            kind = "state" if isinstance(error, StateError) else "infrastructure"
            log.error("worker.failed", extra=fields(kind=kind, error=repr(error)))
            self.failed.set_exception(error)
