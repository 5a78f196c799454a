"""A record that the broker does not take is waited for where that may cure it, and else not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
)

from headrace.errors import RequestError, UnavailableError
from headrace.pipelines import presence
from headrace.pipelines.broker import Broker
from headrace.pipelines.ownlog import OwnLog
from headrace.pipelines.topics import Topics
from tests.pipelines.small_worker import name

LARGE = b"x" * 2_000_000  # more than a producer sends
SOON_S = 5.0


@asynccontextmanager
async def following(broker: Broker, topics: Topics) -> AsyncIterator[OwnLog]:
    """A log of this test's own."""
    topic = name("own")
    await topics.ensure(topic, partitions=1, ours=True)
    log = OwnLog(broker.bootstrap, topic, lambda _: None, called="the log of this test")
    try:
        await log.start(None, b"hello")
        yield log
    finally:
        await log.stop()


def refusing(log: OwnLog, errors: Iterator[KafkaError]) -> None:
    """The broker answers with these errors first."""
    usual = log._producer.send_and_wait

    async def send_and_wait(*given: Any, **more: Any) -> Any:
        for error in errors:
            raise error
        return await usual(*given, **more)

    log._producer.send_and_wait = send_and_wait


@pytest.mark.parametrize("error", [MessageSizeTooLargeError, TopicAuthorizationFailedError])
async def test_a_record_that_is_refused_for_good_ends_the_process(
    broker: Broker, topics: Topics, error: type[KafkaError]
) -> None:
    """It comes through by no waiting, whoever has appended it: the log tells the worker why."""
    async with following(broker, topics) as log:
        refusing(log, iter([error(log.topic)]))
        with pytest.raises(UnavailableError, match=error.__name__) as refused:
            async with asyncio.timeout(SOON_S):
                await log.append(None, b"1")
        assert refused.value.code == "stopping"
        assert isinstance(log.failed.exception(), error)
        with pytest.raises(UnavailableError, match="not followed any more"):
            await log.wait_for(lambda: False)


async def test_a_caller_is_told_why_its_record_was_refused(broker: Broker, topics: Topics) -> None:
    """It is one request that fails, so that is an error of requests, which names the cause."""
    async with following(broker, topics) as log:
        with pytest.raises(
            RequestError, match=r"cannot be written: .*MessageSizeTooLarge"
        ) as large:
            await log.append_in_time(None, LARGE)
        assert large.value.code == "too_large"
        refusing(log, iter([TopicAuthorizationFailedError(log.topic)]))
        with pytest.raises(UnavailableError, match="TopicAuthorizationFailed") as refused:
            await log.append_in_time(None, b"1")
        assert refused.value.code == "broker_away"


async def test_a_broker_that_is_away_is_waited_for(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is sent again until the broker takes it."""
    monkeypatch.setattr(presence, "ASK_AGAIN_S", 0.01)
    async with following(broker, topics) as log:
        end = log.next_offset
        left = iter([NodeNotReadyError(), NodeNotReadyError()])
        refusing(log, left)
        assert await log.append(None, b"1") == end
        assert next(left, None) is None


async def test_what_comes_after_a_stop_is_no_refusal(broker: Broker, topics: Topics) -> None:
    """Its own producer is closed by then, which ends no process that is going down anyway."""
    async with following(broker, topics) as log:
        log.give_up()
        await log.stop()
        with pytest.raises(UnavailableError):
            await log.append(None, b"1")
