"""Decisions on their way out: kept until Kafka has them, in order, whatever the broker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, NodeNotReadyError

from headrace.errors import UnavailableError
from headrace.pipelines import clients, reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.emit import IN_FLIGHT_BATCHES_MAX, Emitter
from headrace.pipelines.topics import Topics
from headrace.views import Partition
from tests.pipelines.outage import silent
from tests.pipelines.small_worker import name, texts

TIMEOUT_S = 0.5


@asynccontextmanager
async def emitting(broker: Broker, *, batch_bytes: int = 1_000) -> AsyncIterator[Emitter]:
    emitter = Emitter(
        broker.bootstrap,
        idempotent=broker.can_transactions,
        batch_bytes=batch_bytes,
        request_timeout_s=TIMEOUT_S,
    )
    await emitter.start()
    try:
        yield emitter
    finally:
        emitter.give_up_in(0.0)
        await emitter.stop()


@pytest.fixture
async def to(topics: Topics) -> Partition:
    topic = name("emitted")
    await topics.ensure(topic, partitions=1, ours=False)
    return Partition(topic, 0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - nobody tells that a request has timed out
            await asyncio.sleep(0.02)


async def test_what_a_silent_broker_has_not_taken_is_sent_again(
    broker: Broker, to: Partition
) -> None:
    """An outage longer than the request timeout fails nothing: when the broker answers again, all
    records are there, in their order; what came twice came whole and is the same.
    """
    async with emitting(broker) as emitter:
        emitter.append(to, None, b"0")
        await emitter.drain()
        with silent(broker):
            for value in texts(range(1, 400)):
                emitter.append(to, None, value)
            drained = asyncio.ensure_future(emitter.drain())
            await asyncio.wait({drained}, timeout=4 * TIMEOUT_S)
            assert not drained.done()
        await asyncio.wait_for(drained, 20)
        emitter.append(to, None, b"last")
        await emitter.drain()
    found = [r.value async for r in reader.stored(broker.bootstrap, [to])]
    assert list(dict.fromkeys(found)) == [*texts(range(400)), b"last"]
    if broker.can_transactions:
        assert len(found) == 401


async def test_intake_waits_when_too_much_is_not_acknowledged(
    topics: Topics, broker: Broker
) -> None:
    """What the emitter keeps for a silent broker is bounded by batches: `flow` waits beyond it."""
    topic = name("emitted")
    count = IN_FLIGHT_BATCHES_MAX + 20
    await topics.ensure(topic, partitions=count, ours=False)
    async with emitting(broker) as emitter:
        for number in range(count):
            emitter.append(Partition(topic, number), None, b"0")
        await emitter.drain()
        with silent(broker):
            for number in range(count):
                emitter.append(Partition(topic, number), None, b"1")
            flowing = asyncio.ensure_future(emitter.send())
            await until(lambda: emitter.unacknowledged > IN_FLIGHT_BATCHES_MAX)
            await asyncio.wait({flowing}, timeout=TIMEOUT_S)
            assert not flowing.done()
        await asyncio.wait_for(flowing, 20)
        await emitter.drain()


async def test_a_stop_waits_for_a_silent_broker_for_a_bounded_time(
    broker: Broker, to: Partition
) -> None:
    """After `give_up_in` a drain ends with `broker_away`, and the emitter stops at once."""
    async with emitting(broker) as emitter:
        with silent(broker):
            emitter.append(to, None, b"0")
            emitter.give_up_in(0.2)
            with pytest.raises(UnavailableError, match="has not taken the last decisions"):
                await asyncio.wait_for(emitter.drain(), 5)
            await asyncio.wait_for(emitter.stop(), 2 * clients.STOP_WAIT_S)


async def test_a_topic_made_anew_with_fewer_partitions_is_told(
    broker: Broker, to: Partition
) -> None:
    """It is no bug of ours, and the text says what to do."""
    async with emitting(broker) as emitter:
        emitter.append(Partition(to.topic, 1), None, b"0")
        with pytest.raises(UnavailableError, match="has no partition 1 any more"):
            await emitter.drain()


def test_which_errors_waiting_cures() -> None:
    """No connection and no answer in time: wait. A message that is too large stays too large."""
    assert clients.waiting_cures(NodeNotReadyError())
    assert clients.waiting_cures(KafkaTimeoutError())
    assert not clients.waiting_cures(MessageSizeTooLargeError())
