"""The Faust app that this service runs inside itself: one agent per source topic.

Faust brings the consumer group, its rebalances and the agents; the driver
(`headrace.pipelines.transport`) brings chunks. Deploying a model does not touch any of it: only a
topic that nobody has read yet does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypedDict, Unpack

from faust.types import TP

from headrace.config import Config
from headrace.errors import UnavailableError
from headrace.logs import fields
from headrace.pipelines.faustapp import FaustApp
from headrace.pipelines.transport import Chunk
from headrace.ports import ReadingPositions
from headrace.views import Heard, Partition

log = logging.getLogger(__name__)

START_WAIT_S = 5.0
"""How long a stop waits for a start that is under way."""
LEAVE_WAIT_S = 5.0
"""How long a stop waits for Faust to leave the group; with the broker away it would try on."""
SUBSCRIBE_WAIT_S = 60.0
"""How long a change of the subscription may take, with a broker that answers."""
NUDGE_S = 0.5
"""How often a change that Faust has forgotten is asked for again."""

OnChunk = Callable[[Chunk], Awaitable[None]]
OnPartitions = Callable[[Collection[Partition]], Awaitable[None]]


class Hooks(TypedDict):
    """What the streams call, always on the service's event loop; see `Streams`."""

    on_chunk: OnChunk
    on_assigned: OnPartitions
    on_revoked: OnPartitions
    on_gone: Callable[[Partition], Awaitable[None]]
    away: Callable[[], bool]


class Streams:
    """Order of calls: `start`, then `subscribe`, `unsubscribe` and `rewind` at will, then `stop`.

    `on_assigned(partitions)` is awaited before the first chunk of them comes, and positions are
    asked for after it. `on_chunk(chunk)` is awaited in offset order per partition, one chunk of a
    topic at a time. `on_revoked(partitions)` is awaited when no chunk of them is being used any
    more; what `positions` then still knows to be durable is committed. A rebalance revokes all
    partitions and assigns them again; the two calls never overlap.

    `away()` says whether the broker is away: then a change of the subscription is waited for.

    `on_gone(partition)` is called when its log does not have the position that is to be read: it is
    passed over until `read_on`.

    What these four raise is a failure of the infrastructure: it goes into `failed`, nothing more
    is read, and whoever waits for `failed` stops the process.
    """

    def __init__(
        self,
        config: Config,
        bootstrap: str,
        positions: ReadingPositions,
        **hooks: Unpack[Hooks],
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._config = config
        self._bootstrap = bootstrap
        self._positions = positions
        self._hooks = hooks
        self._app: FaustApp | None = None
        self._hear: Callable[[Partition], Heard | None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._agents: dict[str, Any] = {}
        self._owned: set[Partition] = set()
        self._changing = asyncio.Lock()  # one change of the subscription at a time
        self._handing_over = asyncio.Lock()  # on_assigned and on_revoked never overlap
        self._settled = asyncio.Event()
        self._stopping = False

    @property
    def topics(self) -> Collection[str]:
        """The source topics that are read, or about to be."""
        return self._agents.keys()

    def assigned(self, topic: str) -> set[Partition]:
        """The topic's partitions that this worker owns now."""
        return {p for p in self._owned if p.topic == topic}

    @property
    def flowing(self) -> bool:
        """Whether chunks come: no rebalance and no stop is under way."""
        return self._app is not None and self._app.chunks.flow_active and not self._stopping

    def heard(self, partition: Partition) -> Heard | None:
        """One past the newest record, as of the last fetch, and when that was; None: not known."""
        if self._app is None or partition not in self._owned:
            return None
        if self._hear is None:
            self._hear = self._app.chunks.heard  # the way to it takes longer than the question
        return self._hear(partition)

    async def start(self) -> None:
        """Nothing yet: the app joins its group with the first topic, as a group needs one."""

    async def subscribe(self, topic: str) -> None:
        """Read one more topic, which must exist; returns when its partitions flow.

        It is a rebalance of the group and takes a few seconds, in which nothing flows. Raises
        UnavailableError `not_ready` if it does not come about.
        """
        async with self._changing:
            if topic in self._agents:
                return
            app = self._app or self._new_app()
            self._agents[topic] = agent = app.agent(app.chunk_topic(topic), name=topic)(self._read)
            if self._app is None:
                self._app = app
                self._starting = asyncio.create_task(app.start(), name="faust start")
                self._starting.add_done_callback(self._ended)
            else:
                await agent.start()
            await self._wait_until(lambda: topic in app.flowing, f"topic {topic} does not flow")

    async def unsubscribe(self, topic: str) -> None:
        """Read the topic no more; returns when its partitions have been given back."""
        async with self._changing:
            agent = self._agents.pop(topic, None)
            app = self._app
            if agent is None or app is None:
                return
            if not self._agents:
                await self._close(app)
                return
            for channel in [c for c in app.topics if topic in c.topics]:
                app.topics.discard(channel)
            await self._wait_until(lambda: topic not in app.flowing, f"topic {topic} still flows")
            await agent.stop()
            app.agents.pop(topic)

    async def rewind(self, partition: Partition, offset: int) -> None:
        """Read an owned partition again from `offset`, without a rebalance.

        Without effect if it is not read beyond that yet. A chunk that is being used is finished;
        the next one begins at `offset`.
        """
        if self._app is not None and partition in self._owned:
            await self._app.chunks.rewind(TP(*partition), offset)

    async def read_on(self, partition: Partition) -> None:
        """Read a partition again that is passed over, from where it is wanted now."""
        if self._app is not None and partition in self._owned:
            await self._app.chunks.read_on(TP(*partition))

    async def stop(self) -> None:
        """Finish the chunk that is being used, give all partitions back, leave the group.

        A `subscribe` that is under way ends with UnavailableError.
        """
        self._stopping = True
        self._settled.set()
        async with self._changing:
            if self._app is not None:
                await self._close(self._app)

    # -- what Faust calls --------------------------------------------------------------------

    async def _read(self, stream: Any) -> None:
        """The agent: one per topic, and one instance of it, so that chunks stay in order."""
        async for chunk in stream:
            await self._take(chunk)

    async def _take(self, chunk: Chunk) -> None:
        assert self._app is not None
        consumer = self._app.chunks
        owned = Partition(chunk.topic, chunk.partition) in self._owned and not self.failed.done()
        if not owned or not await consumer.begin(chunk):
            consumer.skip(chunk)
            return
        # A task of its own: Faust cancels agents when it pleases, and a chunk must not be learned
        # by half.
        work = asyncio.ensure_future(self._hooks["on_chunk"](chunk))
        work.add_done_callback(self._ended)
        work.add_done_callback(lambda _: consumer.end(chunk))
        await asyncio.wait({work})

    async def _assign(self, app: FaustApp, **_: Any) -> None:
        async with self._handing_over:
            self._owned = {
                Partition(tp.topic, tp.partition)
                for tp in app.consumer.assignment()
                if tp.topic in self._agents
            }
            await self._call(self._hooks["on_assigned"], self._owned)

    async def _revoke(self, app: FaustApp, revoked: Collection[TP] = (), **_: Any) -> None:
        async with self._handing_over:
            gone = self._owned & {Partition(tp.topic, tp.partition) for tp in revoked}
            self._owned = self._owned - gone
            await self._call(self._hooks["on_revoked"], gone)
            await app.consumer.commit()

    def _gone(self, partition: Partition) -> None:
        asyncio.ensure_future(self._hooks["on_gone"](partition)).add_done_callback(self._ended)

    async def _call(self, hook: OnPartitions, partitions: Collection[Partition]) -> None:
        if not partitions:
            return
        called = asyncio.ensure_future(hook(frozenset(partitions)))
        called.add_done_callback(self._ended)
        await called

    # -- the app's life ----------------------------------------------------------------------

    def _new_app(self) -> FaustApp:
        app = FaustApp(self._config, self._bootstrap, self._positions, self._settled, self._ended)
        app.driver.gone = self._gone
        signals: Any = app  # mode's types of signal handlers fit no function that names a parameter
        signals.on_rebalance_complete.connect(self._assign)
        signals.on_partitions_revoked.connect(self._revoke)
        self._watching = asyncio.create_task(self._watch(app), name="faust watch")
        self._watching.add_done_callback(self._ended)
        return app

    async def _watch(self, app: FaustApp) -> None:
        await app.wait_until_stopped()
        if app.crash_reason is not None:
            raise app.crash_reason

    async def _close(self, app: FaustApp) -> None:
        if self._starting is not None and not self._starting.done():
            # Faust leaves its fetching thread behind when its start is cancelled half-way.
            await asyncio.wait({self._starting}, timeout=START_WAIT_S)
            self._starting.cancel()
        if app.consumer_started and not self.failed.done():
            await app.chunks.give_back()
        self._app, self._hear, self._owned = None, None, set()
        self._agents.clear()
        stopping = asyncio.ensure_future(app.stop())
        # At the end of the process nobody needs the group to know: its session will run out.
        await asyncio.wait({stopping}, timeout=LEAVE_WAIT_S if self._stopping else None)
        if stopping.done():
            stopping.result()
        else:
            stopping.cancel()
            log.warning("streams.not_stopped", extra=fields(seconds=LEAVE_WAIT_S))

    async def _wait_until(self, done: Callable[[], bool], otherwise: str) -> None:
        """Wait for the subscription to be as wanted; asks Faust again in between.

        Faust forgets a change that it sees during a rebalance.
        """
        deadline = asyncio.get_running_loop().time() + SUBSCRIBE_WAIT_S
        while not done():
            if self.failed.done():
                self.failed.result()
            if self._stopping:
                raise UnavailableError("not_ready", f"{otherwise}: the service is stopping")
            if self._hooks["away"]():
                deadline = asyncio.get_running_loop().time() + SUBSCRIBE_WAIT_S
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError("not_ready", f"{otherwise} after {SUBSCRIBE_WAIT_S:g} s")
            self._settled.clear()
            either: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self._settled.wait()),
                self.failed,
            ]
            await asyncio.wait(either, timeout=NUDGE_S, return_when=asyncio.FIRST_COMPLETED)
            either[0].cancel()
            if self._app is not None:
                self._app.nudge(set(self._agents))

    def _ended(self, part: asyncio.Future[Any]) -> None:
        """Something that must not fail has ended."""
        if part.cancelled() or (error := part.exception()) is None or self.failed.done():
            return
        log.error("streams.failed", extra=fields(error=repr(error)))
        if self._app is not None:
            self._app.chunks.stop_flow()
        self.failed.set_exception(error)
