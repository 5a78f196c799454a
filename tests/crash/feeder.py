"""What fills the source topic while workers come and go."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from aiokafka import AIOKafkaProducer

from headrace.pipelines.broker import Broker
from tests.crash.agents import Sent, bad, payment

BURSTS_PER_S = 8
BAD_SHARE = 0.03
MORE_WAIT_S = 60.0
"""How long the next few bursts may take."""
PLANTED = "planted"
"""The header that tells why a planted event is bad; no worker looks at headers."""


class Feeder:
    """Sends bursts of events, some of them bad, until it is stopped.

    Where the broker can, the producer is idempotent; else a retry may double an event. What
    counts in the end is what is in the log. Order of calls: `start`, `stop`.
    """

    def __init__(self, broker: Broker, topic: str, *, seed: int, events_per_s: int) -> None:
        self._topic = topic
        self._chance = random.Random(seed)
        self._burst = max(events_per_s // BURSTS_PER_S, 1)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap,
            acks="all",
            enable_idempotence=broker.can_transactions,
        )
        self._stopped = asyncio.Event()
        self._burst_over = asyncio.Event()
        self._feeding: asyncio.Task[None]
        self.sent = 0

    async def start(self) -> None:
        await self._producer.start()
        self._feeding = asyncio.create_task(self._feed())

    async def more(self, count: int) -> None:
        """Return when so many more events have been sent."""
        wanted = self.sent + count
        async with asyncio.timeout(MORE_WAIT_S):
            while self.sent < wanted:
                self._burst_over.clear()
                await self._burst_over.wait()

    async def stop(self) -> None:
        """Return when Kafka has all that was sent. Raises what feeding has failed of."""
        self._stopped.set()
        try:
            await self._feeding
        finally:
            await self._producer.stop()

    async def _feed(self) -> None:
        while not self._stopped.is_set():
            for _ in range(self._burst):
                await self._send(payment(self.sent, self._chance))
            await self._producer.flush()
            self._burst_over.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 1 / BURSTS_PER_S)

    async def _send(self, event: Sent) -> None:
        if self._chance.random() < BAD_SHARE:
            event = bad(event, self._chance)
        await self._producer.send(
            self._topic,
            key=event.key,
            value=event.value,
            timestamp_ms=event.timestamp_ms,
            headers=[(PLANTED, event.planted.encode())] if event.planted else None,
        )
        self.sent += 1
