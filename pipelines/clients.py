"""Kafka clients as this service uses them: readers without a group, and an end that is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from headrace.logs import fields
from headrace.pipelines.readable import ReadableConsumer

log = logging.getLogger(__name__)

STOP_WAIT_S = 5.0
"""How long a client may take to stop; with the broker away it would try for a minute."""


def log_reader(bootstrap: str) -> AIOKafkaConsumer:
    """A consumer that belongs to no group and sees no aborted record. Not started yet."""
    return ReadableConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        isolation_level="read_committed",
    )


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client that nothing depends on any more, in a bounded time."""
    stopping = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({stopping}, timeout=STOP_WAIT_S)
    if not done:
        log.warning("client.not_stopped", extra=fields(kind=type(client).__name__))
        stopping.cancel()
    # A client that was cancelled in the middle of a request ends by raising that cancellation.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({stopping}, timeout=1.0)
        if stopping.done() and not stopping.cancelled() and stopping.exception() is not None:
            log.warning("client.stop_failed", extra=fields(error=repr(stopping.exception())))
