"""The thread that fetches: aiokafka's consumer, on the event loop that Faust gives it.

Public methods are called from the service's loop and cross over by `call_thread`; methods with an
underscore run in the thread, and so do those that Faust calls there (`on_thread_stop`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as stock
from faust.types import TP
from mode.threads import WorkerThread

from headrace.clock import give_way
from headrace.errors import StateError
from headrace.logs import fields
from headrace.pipelines import clients
from headrace.pipelines.order import Chunk
from headrace.pipelines.readable import ReadableConsumer, as_used

log = logging.getLogger(__name__)

FETCH_BYTES_MAX = 16 << 20
"""Of one answer of a broker, all partitions together."""
ANSWER_WAIT_S = 10.0
"""How long the broker may take to say what the group has committed, or where logs begin and end."""
COMMIT_WAIT_S = 3.0
"""How long a commit is waited for."""
PARTITION_BYTES_MAX = 1 << 20
"""Of one partition in it; a single larger record still comes."""


class OffsetGoneError(Exception):
    """The log does not have (any more, or yet) the offset at which a partition is to be read."""

    def __init__(self, tp: TP, offset: int) -> None:
        super().__init__(f"{tp.topic}[{tp.partition}] has no offset {offset}")
        self.tp = tp
        self.offset = offset


class _Thread(WorkerThread):
    """A thread that the process does not wait for: nothing durable depends on how it ends."""

    def __init__(self, service: Any, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True


class FetchThread(stock.AIOKafkaConsumerThread):
    """Fetches chunks, sets positions, commits offsets."""

    Worker = _Thread
    _committing: asyncio.Task[None] | None = None

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer, as any other client is stopped: in a bounded time."""
        await super(stock.AIOKafkaConsumerThread, self).on_thread_stop()  # what it is asked to do
        if self._consumer is not None:
            await clients.stop(self._consumer)

    async def seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Set positions; a partition that is not assigned any more is left out."""
        await self.call_thread(self._seek_to, offsets)

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        """What the group has committed; None where it has not, nothing if the broker is away: it
        is a hint.
        """
        found: dict[TP, int | None] = await self.call_thread(self._committed, list(tps))
        return found

    async def spans(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """Where the logs begin and end. Raises KafkaError if the broker does not say in time."""
        wanted = [TopicPartition(*tp) for tp in tps]
        found: dict[TP, tuple[int, int]] = {}
        if wanted:
            found = await self.call_thread(self._spans, wanted)
        return found

    async def _seek_to(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if TopicPartition(*tp) in assigned:
                consumer.seek(TopicPartition(*tp), offset)

    async def _committed(self, tps: list[TP]) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                return {tp: await consumer.committed(TopicPartition(*tp)) for tp in tps}
        except (TimeoutError, KafkaError) as error:
            log.info("committed.not_known", extra=fields(error=repr(error)))
            return {}

    async def _spans(self, wanted: list[TopicPartition]) -> dict[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                begins = await consumer.beginning_offsets(wanted)
                ends = await consumer.end_offsets(wanted)
        except TimeoutError:
            raise KafkaTimeoutError(f"no answer in {ANSWER_WAIT_S:g} s") from None
        return {TP(*tp): (begins[tp], ends[tp]) for tp in wanted}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # The group's offset is a hint that nothing depends on, so a commit that fails stops
        # nothing: the next one says more. (Faust's own ends the process.)
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        known = {
            TopicPartition(*tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if TopicPartition(*tp) in assigned
        }
        if not known or not (self._committing is None or self._committing.done()):
            return False
        # With the broker away aiokafka tries for ever, and a rebalance or a stop must not wait for
        # that. One commit at a time tries on by itself.
        committing = self._committing = asyncio.ensure_future(consumer.commit(known))
        await asyncio.wait({committing}, timeout=COMMIT_WAIT_S)
        if not committing.done():
            committing.add_done_callback(lambda task: task.cancelled() or task.exception())
            return False
        if isinstance(error := committing.exception(), KafkaError):
            log.warning("commit.failed", extra=fields(partitions=len(known), error=repr(error)))
            return False
        committing.result()
        return True

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: Any = None,  # noqa: ASYNC109 - Faust's signature
        max_records: Any = None,
    ) -> Any:
        """One chunk per partition that has records, together at most `max_records` of them."""
        try:
            fetched = await super()._fetch_records(
                consumer, active_partitions, timeout=timeout, max_records=max_records
            )
        except NoOffsetForPartitionError:
            return {}  # aiokafka fetches as soon as it is assigned; `perform_seek` comes later
        except OffsetOutOfRangeError as error:
            return _out_of_range(consumer, error)
        except CorruptRecordException as error:
            raise StateError(
                f"a batch of records does not match its checksum ({error}): the broker's disk or "
                "the network has changed it. Nothing is passed over: mend the broker's log (or its "
                "replica), then start again"
            ) from error
        # No await since the records were taken, so the position is the one behind them.
        assignment = consumer._subscription.subscription.assignment
        return {
            TP(*tp): Chunk(
                tp.topic, tp.partition, records, int(assignment.state_value(tp).position)
            )
            for tp, records in fetched.items()
        }

    def _create_worker_consumer(self, transport: Any) -> ReadableConsumer:
        # Faust's own hard-codes a fetch wait of 1.5 s, during which a partition that has run dry
        # starves the others of its broker, and reads records of aborted transactions.
        conf = self.app.conf
        self._assignor = self.app.assignor
        consumer = ReadableConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=stock.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=transport.fetch_wait_ms,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=PARTITION_BYTES_MAX,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
        )
        consumer.make = as_used
        consumer.give_way = give_way
        return consumer


def _out_of_range(consumer: Any, error: OffsetOutOfRangeError) -> dict[TP, Chunk]:
    ((tp, offset),) = error.args[0].items()
    state = consumer._subscription.subscription.assignment.state_value(tp)
    if state is None or not state.has_valid_position or state.position != offset:
        return {}  # assigned anew or sought elsewhere since: the error is stale
    raise OffsetGoneError(TP(*tp), offset) from error
