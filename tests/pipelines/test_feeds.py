"""Events on their way into a topic, before a producer that takes some and loses others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from headrace.errors import RequestError, UnavailableError
from headrace.pipelines import feeds
from headrace.pipelines.feeds import EventProducer
from headrace.views import Position


class Losing:
    """Acknowledges what says `ok`; keeps silent on the others, refuses them, or takes no more."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def send(self, topic: str, *, key: bytes, value: bytes) -> asyncio.Future[Any]:
        if value == b"stop":
            raise KafkaTimeoutError
        if value == b"hang":
            await asyncio.Event().wait()
        future = asyncio.get_running_loop().create_future()
        if value == b"ok":
            future.set_result(SimpleNamespace(topic=topic, partition=0, offset=len(self.taken)))
        elif value == b"large":
            future.set_exception(MessageSizeTooLargeError("too many bytes"))
        elif value == b"lost":
            future.set_exception(KafkaTimeoutError())
        self.taken.append(value)
        return future


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> EventProducer:
    monkeypatch.setattr(feeds, "SEND_WAIT_S", 0.05)
    producer = EventProducer("nowhere:1")
    producer._producer = Losing()
    return producer


async def outcomes(producer: EventProducer, *values: bytes) -> list[object]:
    """A position, or code and whether the event may be there all the same."""
    found = await producer.send_each("t", [(b"k", value) for value in values])
    return [
        one.offset if isinstance(one, Position) else (one.code, "not sent" not in one.text)
        for one in found
    ]


async def test_each_event_has_its_outcome(producer: EventProducer) -> None:
    """One that is refused or lost says nothing of the others."""
    found = await outcomes(producer, b"ok", b"large", b"ok", b"lost", b"ok")
    assert found == [0, ("too_large", True), 2, ("broker_away", True), 4]
    assert await producer.send_each("t", []) == []


@pytest.mark.parametrize("end", [b"stop", b"hang"])
async def test_what_is_not_sent_is_said_to_be_so(producer: EventProducer, end: bytes) -> None:
    """Behind the first that the producer does not take, none is handed to it."""
    found = await outcomes(producer, b"ok", b"silent", end, b"ok")
    assert found == [0, ("broker_away", True), ("broker_away", False), ("broker_away", False)]
    found = await outcomes(producer, b"ok", b"silent")
    assert found[1] == ("broker_away", True)


async def test_errors_are_of_the_caller_or_pass(producer: EventProducer) -> None:
    """Too large is the caller's affair; the others may pass."""
    large, lost = await producer.send_each("t", [(b"k", b"large"), (b"k", b"lost")])
    assert type(large) is RequestError
    assert isinstance(lost, UnavailableError)
