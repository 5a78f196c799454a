"""Kafka clients as this service uses them: readers without a group, producers that wait for a
broker that is away, and an end that is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, KafkaTimeoutError

from headrace.logs import fields
from headrace.pipelines.readable import ReadableConsumer

log = logging.getLogger(__name__)

STOP_WAIT_S = 2.0
"""How long a client may take to stop; with the broker away it would try for ever."""
CANCEL_WAIT_S = 1.0
"""How long one that was cancelled may take to end."""
ABANDON_PAUSE_S = 0.1


def log_reader(bootstrap: str, **settings: Any) -> AIOKafkaConsumer:
    """A consumer that belongs to no group and sees no aborted record. Not started yet."""
    usual = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": 50,
        "isolation_level": "read_committed",
    }
    return ReadableConsumer(bootstrap_servers=bootstrap, **usual | settings)


def never_expire(producer: AIOKafkaProducer) -> None:
    """Let the producer send a batch again until the broker takes it or refuses it for good.

    An idempotent producer does so anyway. Another one gives a batch up after its request timeout
    and goes on with the next of the same partition: a hole in the order. While it does not, one
    batch of a partition is under way at a time, and the others wait behind it.
    """
    producer._message_accumulator._batch_ttl = math.inf


def waiting_cures(error: KafkaError) -> bool:
    """Whether the same request may succeed later: no connection, no leader, no answer in time.

    Kafka's protocol says so of each of its errors (`retriable`). The timeout is the client's own.
    """
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)


async def start(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    """Start a client. One that cannot be started leaves nothing open; where the caller is cancelled
    meanwhile, the start is let come to its end first, for a moment: aiokafka would leave its first
    connection open.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except BaseException:
        await asyncio.wait({starting}, timeout=STOP_WAIT_S)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=CANCEL_WAIT_S)
        if starting.done() and not starting.cancelled():
            starting.exception()  # what it raises is nobody's concern any more
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else stop(client))
        raise


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client that nothing depends on any more, in a bounded time; also where the caller is
    cancelled meanwhile.
    """
    stopping = asyncio.ensure_future(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=STOP_WAIT_S)
    except asyncio.CancelledError:
        await asyncio.wait({stopping}, timeout=STOP_WAIT_S)
        raise
    finally:
        if not stopping.done():
            await _give_up(client, stopping)
        if not _came_to_its_end(stopping):
            inner = client.client if isinstance(client, AIOKafkaProducer) else client._client
            closing = asyncio.ensure_future(inner.close())  # a stop closes the connections last
            # If that is what was given up, they are closing, and this one ends as it did.
            await asyncio.wait({closing}, timeout=CANCEL_WAIT_S)
            closing.cancel()


def _came_to_its_end(stopping: asyncio.Future[None]) -> bool:
    """Whether a stop did all that it had to. A client that was in the middle of a request may end
    by raising the cancellation of that.
    """
    if not stopping.done() or stopping.cancelled():
        return False
    if (error := stopping.exception()) is not None:
        log.warning("client.stop_failed", extra=fields(error=repr(error)))
    return error is None


async def _give_up(
    client: AIOKafkaConsumer | AIOKafkaProducer, stopping: asyncio.Future[None]
) -> None:
    """End what a client does that does not stop."""
    log.warning("client.not_stopped", extra=fields(kind=type(client).__name__))
    stopping.cancel()
    if isinstance(client, AIOKafkaProducer):
        # Its task would try for ever to send what the broker has not taken.
        task = client._sender.sender_task
        while task is not None and not task.done():
            # The first time it waits for requests under way, the next time no longer.
            task.cancel()
            await asyncio.wait({task}, timeout=ABANDON_PAUSE_S)
    await asyncio.wait({stopping}, timeout=CANCEL_WAIT_S)
