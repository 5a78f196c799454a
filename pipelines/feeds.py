"""Events going into source topics, and decisions and quarantined events coming out of theirs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord

from headrace.errors import EventError, RequestError, UnavailableError
from headrace.models.decisions import is_boundary
from headrace.models.guard import Guard, Refusal
from headrace.models.spec import Spec
from headrace.pipelines import clients, fates, quarantine, reader
from headrace.pipelines.site import spec_of
from headrace.pipelines.worker import Worker
from headrace.views import Partition, Position

SEND_WAIT_S = 10.0
"""How long the broker may take to acknowledge one event that somebody waits for."""

UNACKNOWLEDGED = f"the broker has not acknowledged the event in {SEND_WAIT_S:g} s"

UNACKNOWLEDGED_MAX = 5_000
"""Events that `EventProducer.send_all` has under way at a time."""

SENT_PER_TURN = 50
"""Events handed to the producer between two turns of the event loop: about a millisecond."""


class Outgoing(NamedTuple):
    """An event on its way to a topic."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int


class EventProducer:
    """Appends events to topics, keyed as Kafka's own clients do it (murmur2).

    Order of calls: `start`, `send` at will, `stop`. `send` returns when Kafka has the event.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            max_request_size=4 * 1024 * 1024,
            linger_ms=1,
        )
        await clients.start(self._producer)

    async def stop(self) -> None:
        await clients.stop(self._producer)

    async def send(
        self, topic: str, key: bytes | None, value: bytes, *, timestamp_ms: int | None = None
    ) -> Position:
        """Raises RequestError `too_large`, UnavailableError `broker_away`: the event may then have
        been appended all the same.
        """
        try:
            async with asyncio.timeout(SEND_WAIT_S):
                sent = await self._producer.send_and_wait(
                    topic, key=key, value=value, timestamp_ms=timestamp_ms
                )
        except TimeoutError as error:
            raise UnavailableError("broker_away", UNACKNOWLEDGED) from error
        except MessageSizeTooLargeError as error:
            raise RequestError("too_large", f"the event has {len(value)} bytes: {error}") from error
        except KafkaError as error:
            raise UnavailableError("broker_away", f"the event was not appended: {error}") from error
        return Position(sent.topic, sent.partition, int(sent.offset))

    async def send_each(
        self, topic: str, events: Sequence[tuple[bytes, bytes]]
    ) -> list[Position | RequestError]:
        """Append keys and values in their order; where each is, or why it is not there.

        UnavailableError `broker_away`: it may be there all the same, unless it was not sent.
        """
        sent: list[asyncio.Future[Any]] = []
        error: Exception = TimeoutError()
        try:
            async with asyncio.timeout(SEND_WAIT_S):
                for number, (key, value) in enumerate(events, 1):
                    if number % SENT_PER_TURN == 0:
                        await asyncio.sleep(0)  # `send` need not have yielded
                    future = await self._producer.send(topic, key=key, value=value)
                    future.add_done_callback(_looked_at)
                    sent.append(future)
                if sent:
                    await asyncio.wait(sent)
        except (TimeoutError, KafkaError) as failure:
            error = failure
        why = str(error) or f"the broker takes no more events for {SEND_WAIT_S:g} s"
        unsent = UnavailableError("broker_away", f"the event was not sent: {why}")
        return [*map(_outcome, sent), *[unsent] * (len(events) - len(sent))]

    async def send_all(self, events: Iterable[Outgoing]) -> None:
        """Append events in their order, many at a time; return when Kafka has all of them.

        Raises UnavailableError `broker_away` if one of them was not taken.
        """
        waiting: deque[asyncio.Future[object]] = deque()
        try:
            for number, event in enumerate(events, 1):
                if number % SENT_PER_TURN == 0:
                    await asyncio.sleep(0)  # `send` need not have yielded
                waiting.append(
                    await self._producer.send(
                        event.topic,
                        key=event.key,
                        value=event.value,
                        timestamp_ms=event.timestamp_ms,
                    )
                )
                if len(waiting) >= UNACKNOWLEDGED_MAX:
                    await waiting.popleft()
            while waiting:
                await waiting.popleft()
        except KafkaError as error:
            raise UnavailableError("broker_away", f"events were not appended: {error}") from error


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Nobody may be there any more to take what it failed of."""
    if not future.cancelled():
        future.exception()


def _outcome(future: asyncio.Future[Any]) -> Position | RequestError:
    if not future.done():
        return UnavailableError("broker_away", UNACKNOWLEDGED)
    error = future.exception()
    if isinstance(error, MessageSizeTooLargeError):
        return RequestError("too_large", f"the event was not appended: {error}")
    if error is not None:
        return UnavailableError("broker_away", f"the event was not appended: {error}")
    at = future.result()
    return Position(at.topic, at.partition, int(at.offset))


class _Incoming:
    """An event as the guard sees it before it has a place in a log."""

    offset = -1
    timestamp = 0

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value


class Feedback:
    """Appends whole events to an agent's input log. Implements `ports.EventSink`."""

    def __init__(self, worker: Worker, producer: EventProducer) -> None:
        self._worker = worker
        self._producer = producer
        self._guards: dict[str, tuple[Spec, Guard]] = {}

    async def append(self, agent: str, key: str, event: bytes) -> Position:
        """Raises EventError for an event that the agent would quarantine."""
        spec = self._spec(agent)
        refusal = self._refusal(spec, key.encode(), event)
        if refusal is not None:
            raise refusal
        return await self._producer.send(spec.source.topic, key.encode(), event)

    async def append_all(
        self, agent: str, events: Sequence[tuple[str, bytes]]
    ) -> list[Position | EventError | RequestError]:
        """Where each is, in their order, or why it is not there: those that the agent would
        quarantine are not sent, the others are.
        """
        spec = self._spec(agent)
        refusals: list[EventError | None] = []
        admitted = []
        for number, (key, event) in enumerate(events, 1):
            if number % SENT_PER_TURN == 0:
                await asyncio.sleep(0)
            refusals.append(self._refusal(spec, key.encode(), event))
            if refusals[-1] is None:
                admitted.append((key.encode(), event))
        sent = iter(await self._producer.send_each(spec.source.topic, admitted))
        return [next(sent) if refusal is None else refusal for refusal in refusals]

    def _spec(self, agent: str) -> Spec:
        """Of an agent that events can be sent to. Raises RequestError."""
        self._worker.check_ready()
        self._worker.presence.check()
        return spec_of(self._worker.controls.registry.get(agent))

    def _refusal(self, spec: Spec, key: bytes, event: bytes) -> EventError | None:
        admitted = self._guard(spec).admit(_Incoming(key, event))
        if isinstance(admitted, Refusal):
            return EventError(admitted.code, admitted.text, path=admitted.path)
        return None

    def _guard(self, spec: Spec) -> Guard:
        """The agent's guard; one is kept per agent, as making one takes a millisecond."""
        known, guard = self._guards.get(spec.agent, (None, None))
        if guard is None or known is not spec:
            guard = Guard(spec)
            self._guards[spec.agent] = spec, guard
        return guard


class Decisions:
    """Follows topics of decisions, and of the service. Implements `ports.DecisionFeed`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def watch(self, agent: str, *, from_start: bool, follow: bool) -> AsyncIterator[bytes]:
        """The agent's decision records, of this and earlier epochs, as they were written; not the
        boundaries between them: who follows decisions as they come has no use for these.
        """
        self._worker.check_ready()
        self._worker.presence.check()
        topic = self._worker.controls.registry.get(agent).deploy.emit_topic
        partitions = await self._worker.topics.partition_count(topic)
        if not partitions:
            raise RequestError(
                "topic_missing",
                f"topic {topic!r} does not exist: somebody has deleted it; it is made again with "
                "the next decision",
                topic=topic,
            )
        where = [Partition(topic, number) for number in range(partitions)]
        async with aclosing(self._read(where, from_start=from_start, follow=follow)) as records:
            async for record in records:
                if not is_boundary(record.value):
                    yield record.value

    async def watch_quarantine(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]:
        """Quarantined events, of one agent or of all."""
        topic = self._worker.quarantine_topic
        there = self._of(topic, agent, _agent_of, from_start=from_start, follow=follow)
        async with aclosing(there) as records:
            async for record in records:
                yield record

    async def watch_withdrawn(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]:
        """What became of decisions in rollbacks, of one agent or of all."""
        topic = self._worker.withdrawn_topic
        there = self._of(topic, agent, fates.agent_of, from_start=from_start, follow=follow)
        async with aclosing(there) as records:
            async for record in records:
                yield record

    async def _of(
        self,
        topic: str,
        agent: str | None,
        agent_of: Callable[[bytes], str | None],
        *,
        from_start: bool,
        follow: bool,
    ) -> AsyncGenerator[bytes, None]:
        """The records of a topic of the service's own, of one agent or of all."""
        self._worker.check_ready()
        self._worker.presence.check()
        where = [Partition(topic, 0)]
        async with aclosing(self._read(where, from_start=from_start, follow=follow)) as records:
            async for record in records:
                if agent is None or agent_of(record.value) == agent:
                    yield record.value

    def _read(
        self, where: list[Partition], *, from_start: bool, follow: bool
    ) -> AsyncGenerator[ConsumerRecord, None]:
        bootstrap = self._worker.broker.bootstrap
        if follow:
            return reader.follow(bootstrap, where, from_start=from_start)
        return reader.stored(bootstrap, where)


def _agent_of(value: bytes) -> str | None:
    """Whose quarantined event it is; None for what somebody else has written there."""
    try:
        return quarantine.decode(value).agent
    except msgspec.DecodeError:
        return None
