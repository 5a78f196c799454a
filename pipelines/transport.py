"""A Faust driver that hands an agent whole fetched chunks instead of single messages.

Faust's own driver spends some 40 µs around each message. This one passes the records that one
fetch brought for one partition as a single `Message.value`, and replaces Faust's bookkeeping of
acknowledgements by two questions to `ReadingPositions`: where is each partition to be read from
(asked when partitions were assigned), and how far is it durable (asked at each commit).

What it promises to an agent, per partition: chunks come in offset order and none is missing
(`headrace.pipelines.order`). It never moves a position by itself: where the log does not have a
position (any more), the partition is passed over and `gone` is told, until `read_on`.

Faust runs aiokafka on an event loop in a thread of its own (`headrace.pipelines.fetchthread`);
everything here runs on the service's loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as stock
from faust.types import TP, AppT, ConsumerMessage
from yarl import URL

from headrace.config import Config
from headrace.errors import UnavailableError
from headrace.logs import fields
from headrace.pipelines.fetchthread import FetchThread, OffsetGoneError
from headrace.pipelines.order import Chunk, PartitionOrder
from headrace.ports import ReadingPositions
from headrace.views import Heard, Partition

__all__ = ["Chunk", "ChunkConsumer", "ChunkTransport"]

log = logging.getLogger(__name__)

POLL_WAIT_S = 0.5
"""How long one poll waits for records."""
BUSY_POLL_WAIT_S = 0.01
"""The same while some agents have all the chunks that they may have: soon they have room."""
CHUNKS_IN_FLIGHT_MAX = 2
"""Chunks of a partition handed to its agent and not finished: one being learned, one waiting."""
IDLE_TOLD_S = 30.0
"""After this a rebalance that waits for a chunk in work says so, and again."""


class ChunkConsumer(stock.Consumer):
    """Reads chunks, guards their order, and commits what is durable.

    The agent asks `begin(chunk)` before it uses a chunk, skips the chunk if the answer is false,
    and calls `end(chunk)` afterwards if it was true, `skip(chunk)` if not.
    """

    transport: ChunkTransport
    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._orders: dict[TP, PartitionOrder] = {}
        self._readings = itertools.count(1)
        self._behind: dict[TP, int] = {}  # the position to which `begin` has gone back already
        self._busy = 0  # chunks between `begin` and `end`
        self._ended = asyncio.Event()
        # Each answer to a question asks for these: the assignment that is active, and its state.
        self._states: dict[tuple[str, int], tuple[Any, Any]] = {}
        super().__init__(*args, **kwargs)

    # -- the agent's side --------------------------------------------------------------------

    async def begin(self, chunk: Chunk) -> bool:
        """Whether the chunk may be used: it is of the present reading, and nobody lacks earlier
        records.

        A shard that was opened between two chunks may need what the others have read; then the
        partition is read again from there, once for each such position.
        """
        tp = TP(chunk.topic, chunk.partition)
        order = self._orders.get(tp)
        if not self.flow_active or order is None or chunk.reading != order.reading:
            return False
        wanted = self.transport.positions.next_offset(Partition(*tp))
        if self._behind.get(tp) != wanted:
            self._behind.pop(tp, None)
            if wanted is not None and wanted < chunk.begins:
                self._behind[tp] = wanted
                await self.rewind(tp, wanted)
                return False
        self._busy += 1
        return True

    def end(self, chunk: Chunk) -> None:
        """The chunk was used, or failed; the next one may come."""
        self._busy -= 1
        self.skip(chunk)

    def skip(self, chunk: Chunk) -> None:
        """The chunk was not used."""
        order = self._orders.get(TP(chunk.topic, chunk.partition))
        if order is not None and order.reading == chunk.reading:
            order.in_flight -= 1
        self._ended.set()

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read the partition again from `offset`; without effect if it is not read beyond that.

        Chunks that were handed over and not begun are void from here on.
        """
        order = self._orders.get(tp)
        if order is None or order.next_offset <= offset:
            return
        what = fields(topic=tp.topic, partition=tp.partition, offset=offset)
        log.info("reader.rewound", extra=what)
        self._orders[tp] = PartitionOrder(offset, next(self._readings))
        self._ended.set()
        await self._thread.seek_to({tp: offset})

    @property
    def subscription(self) -> Any:
        """What aiokafka reads: `topics`, and `assignment`, None until the group has agreed."""
        consumer = self._thread._consumer
        return None if consumer is None else consumer._subscription.subscription

    def heard(self, tp: tuple[str, int]) -> Heard | None:
        """The high watermark of the last fetch that was answered without an error, and when.

        While records of the partition wait here to be learned, it is not fetched; so with much to
        catch up with, the last answer is some time old although the broker is there.
        """
        state = self._states.get(tp)
        if state is None or not state[0].active:
            subscription = self.subscription
            assignment = None if subscription is None else subscription.assignment
            if assignment is None or (of := assignment.state_value(TopicPartition(*tp))) is None:
                return None
            state = self._states[tp] = (assignment, of)
        at_ms: int | None = state[1].timestamp
        return None if at_ms is None else Heard(state[1].highwater, at_ms)

    # -- fetching ----------------------------------------------------------------------------

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until the fetcher is stopped; Faust runs it as the fetcher's task.

        A failure ends reading and is told to `ended`. Faust must not see it: it would tear down
        some of its services, and the others would log about that.
        """
        draining = asyncio.ensure_future(self._drain(fetcher))
        draining.add_done_callback(self.transport.ended)
        try:
            await asyncio.wait({draining})
        finally:
            draining.cancel()

    async def _drain(self, fetcher: Any) -> None:
        while not (self.should_stop or fetcher.should_stop):
            if not await self._room():
                continue
            try:
                chunks, _ = await self._wait_next_records(self._poll_wait_s())
            except self.consumer_stopped_errors:
                if self.app.should_stop:
                    return
                raise
            except OffsetGoneError as gone:
                await self._gone(gone)
                continue
            await asyncio.sleep(0)  # a poll that finds records ready need not have yielded
            for tp, chunk in (chunks or {}).items():
                await self._deliver(tp, chunk)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Any:
        """Of the partitions whose agents may have another chunk: so one that has much to catch up
        with keeps no other waiting.
        """
        wanted = set(filter(self._has_room, active_partitions or ()))
        return await super()._getmany(wanted, timeout) if wanted else {}

    def _has_room(self, tp: TP) -> bool:
        order = self._orders.get(tp)
        return order is None or order.in_flight < CHUNKS_IN_FLIGHT_MAX

    def _poll_wait_s(self) -> float:
        return POLL_WAIT_S if all(map(self._has_room, self._orders)) else BUSY_POLL_WAIT_S

    async def _room(self) -> bool:
        """Wait until some partition may have a chunk; False: look whether all has stopped."""
        active = self._get_active_partitions()
        if not self.flow_active or not active or any(map(self._has_room, active)):
            return True
        self._ended.clear()
        await self.wait_first(self._ended.wait(), self.suspend_flow.wait())
        return False

    async def _deliver(self, tp: TP, fetched: Any) -> None:
        # What is dropped in here without a word is read again: flow is stopped by a rebalance or
        # a stop only, and a new order stands for a seek. Both lead back to what was dropped.
        order = self._orders.get(tp)
        if order is None or not self.flow_active:
            return
        if order.missing(fetched):
            what = fields(
                topic=tp.topic,
                partition=tp.partition,
                expected=order.next_offset,
                got=fetched.records[0].offset,
            )
            log.info("records.missing", extra=what)
            await self._thread.seek_to({tp: order.next_offset})
            return
        chunk = order.fresh(fetched)
        if chunk is None:
            return
        order.in_flight += 1
        await self.wait_first(self.callback(self._message(chunk)), self.suspend_flow.wait())

    async def _gone(self, gone: OffsetGoneError) -> None:
        """Pass the partition over until `read_on`; whoever owns its positions must decide."""
        order = self._orders.get(gone.tp)
        if order is None:
            return
        log.warning("offset.gone", extra=fields(error=str(gone)))
        try:
            spans = await self._thread.spans([gone.tp])
        except KafkaError as error:  # it is away now: the next fetch comes back to this
            log.info("span.not_known", extra=fields(error=repr(error)))
            return
        if self._orders.get(gone.tp) is order:
            del self._orders[gone.tp]
            await self._thread.seek_to({gone.tp: spans[gone.tp][1]})
            self.transport.gone(Partition(*gone.tp))

    async def read_on(self, tp: TP) -> None:
        """Read a partition again that was passed over: from where it is wanted, else from its end
        as it was. Raises UnavailableError `broker_away`.
        """
        try:
            end = (await self._thread.spans([tp]))[tp][1]
        except KafkaError as error:
            raise UnavailableError(
                "broker_away", f"where {tp} ends is not known: {error}"
            ) from error
        if tp in self._orders or tp not in self.assignment():
            return
        at = self.transport.positions.next_offset(Partition(*tp))
        at = end if at is None else at
        self._orders[tp] = PartitionOrder(at, next(self._readings))
        await self._thread.seek_to({tp: at})

    def _message(self, chunk: Chunk) -> ConsumerMessage:
        first = chunk.records[0]
        return ConsumerMessage(
            chunk.topic,
            chunk.partition,
            first.offset,
            first.timestamp / 1000,
            timestamp_type=0,
            headers=None,
            key=None,
            value=chunk,  # type: ignore[arg-type]  # the topic's schema hands it on as it is
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=TP(chunk.topic, chunk.partition),
            generation_id=self.app.consumer_generation_id,
        )

    # -- positions ---------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Go to where each assigned partition is to be read from: as `positions` says, else as
        the group has committed, if the log still has that, else to the log's first record.

        Faust calls it after each rebalance, before records flow, when shards have been opened. A
        broker that is away is not waited for: what nobody's state says is of no weight.
        """
        assigned = self.assignment()
        group = await self._thread.committed(assigned)
        unwanted = [tp for tp in assigned if self._wanted(tp) is None]
        try:
            spans = await self._thread.spans(unwanted)
        except KafkaError as error:
            log.info("spans.not_known", extra=fields(error=repr(error)))
            spans = {}
        targets = {}
        for tp in assigned:
            at = self._wanted(tp)
            if at is None:
                at = group.get(tp) or 0
                if tp in spans:
                    at = min(max(at, spans[tp][0]), spans[tp][1])
            targets[tp] = at
        self._orders = {tp: PartitionOrder(at, next(self._readings)) for tp, at in targets.items()}
        self._committed_offset.clear()
        self._committed_offset.update(group)
        self._ended.set()
        await self._thread.seek_to({tp: order.next_offset for tp, order in self._orders.items()})

    def _wanted(self, tp: TP) -> int | None:
        return self.transport.positions.next_offset(Partition(*tp))

    def _new_offset(self, tp: TP) -> int | None:
        return self.transport.positions.durable_offset(Partition(*tp))

    async def force_commit(
        self,
        topics: Any = None,
        start_new_transaction: bool = True,
    ) -> bool:
        """Commit how far each assigned partition is durable. It is a hint only: see `positions`."""
        offsets = {}
        for tp in self.assignment():
            offset, committed = self._new_offset(tp), self._committed_offset[tp]
            if offset is not None and (committed is None or offset > committed):
                offsets[tp] = offset
        if not offsets or not await self._commit(offsets):
            return False
        self._committed_offset.update(offsets)
        return True

    async def wait_empty(self) -> None:
        """Return when no chunk is being used any more; then commit.

        Faust calls it with flow stopped: no other chunk begins, and what is in work ends with its
        slice, or when the broker has taken its decisions.
        """
        while self._busy:
            self._ended.clear()
            try:
                async with asyncio.timeout(IDLE_TOLD_S):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("chunk.in_work", extra=fields(waited_s=IDLE_TOLD_S))
        await self.commit()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Read other topics from now on.

        aiokafka forgets its assignment at once and Faust then neither waits for chunks nor
        commits. So partitions are given back before, in order.
        """
        if self.assignment():
            await self.give_back()
        await super().subscribe(topics)

    async def give_back(self) -> None:
        """Give all partitions back without being asked: as in a rebalance."""
        await self._halt()
        await self.app.on_partitions_revoked.send(self.assignment())

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let go of partitions: Faust's part sends the signal at which shards are flushed and the
        last commit is made. Only then are the positions forgotten.
        """
        if revoked:
            await self._halt()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._orders.pop(tp, None)
            self._behind.pop(tp, None)

    async def _halt(self) -> None:
        """No chunk begins any more, and those in work have ended."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.wait_empty()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's watch compares counters of single messages, which do not move here."""


class ChunkTransport(stock.Transport):
    """The driver: set it as `app.transport` before anything else touches the app."""

    Consumer = ChunkConsumer

    def __init__(
        self,
        config: Config,
        bootstrap: str,
        app: AppT,
        positions: ReadingPositions,
        ended: Callable[[asyncio.Future[Any]], None],
    ) -> None:
        super().__init__([URL(f"kafka://{server}") for server in bootstrap.split(",")], app)
        self.fetch_wait_ms = config.fetch_wait_ms
        self.positions = positions
        self.gone: Callable[[Partition], None] = lambda _: None  # is told what is passed over
        self.ended = ended  # is told what has come to its end, and looks for an error in it
