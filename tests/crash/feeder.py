"""What fills the source topics while workers come and go."""

from __future__ import annotations

import asyncio
import random

from aiokafka import AIOKafkaProducer

from headrace.pipelines.broker import Broker
from tests.crash.agents import Stream, bad

BURSTS_PER_S = 8
BAD_SHARE = 0.03
PLANTED = "planted"
"""The header that tells why a planted event is bad; no worker looks at headers."""


class Feeder:
    """Sends bursts of events, some of them bad, until it is stopped.

    Where the broker can, the producer is idempotent; else a retry may double an event. What
    counts in the end is what is in the log. Order of calls: `start`, `stop`.
    """

    def __init__(
        self, broker: Broker, streams: tuple[Stream, ...], *, seed: int, events_per_s: int
    ) -> None:
        self._streams = streams
        self._chance = random.Random(seed)
        self._burst = max(events_per_s // BURSTS_PER_S // len(streams), 1)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap,
            acks="all",
            enable_idempotence=broker.can_transactions,
        )
        self._stopped = asyncio.Event()
        self._feeding: asyncio.Task[None]
        self.sent = 0

    async def start(self) -> None:
        await self._producer.start()
        self._feeding = asyncio.create_task(self._feed())

    async def stop(self) -> None:
        """Return when Kafka has all that was sent. Raises what feeding has failed of."""
        self._stopped.set()
        try:
            await self._feeding
        finally:
            await self._producer.stop()

    async def _feed(self) -> None:
        number = 0
        while not self._stopped.is_set():
            for _ in range(self._burst):
                number += 1
                for stream in self._streams:
                    await self._send(stream, number)
            await self._producer.flush()
            try:
                await asyncio.wait_for(self._stopped.wait(), 1 / BURSTS_PER_S)
            except TimeoutError:
                continue

    async def _send(self, stream: Stream, number: int) -> None:
        event = stream.event(number, self._chance)
        if self._chance.random() < BAD_SHARE:
            event = bad(event, self._chance)
        await self._producer.send(
            stream.topic,
            key=event.key,
            value=event.value,
            timestamp_ms=event.timestamp_ms,
            headers=[(PLANTED, event.planted.encode())] if event.planted else None,
        )
        self.sent += 1
