"""Decisions and quarantined events on their way to Kafka, as record batches.

Appending to a batch costs a few microseconds; sending a record by itself costs ten times as much.
The emitter therefore fills one batch per (topic, partition) and hands over whole batches.
Order of calls: `start`, then any number of `append` and `drain`, then `stop`. What was appended is
durable only when a `drain` that began afterwards has returned.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from headrace.pipelines import clients
from headrace.views import Partition

IN_FLIGHT_BATCHES_MAX = 64
"""Batches handed over and not acknowledged; beyond it `flow` waits, and so does intake."""


class Emitter:
    """Appends records to topics in order per partition and knows when Kafka has them all.

    `idempotent`: ask the broker to drop repeats that its own retries cause. The embedded broker
    cannot; a repeated decision is byte-identical there, so consumers can drop it by its id.
    """

    def __init__(self, bootstrap: str, *, idempotent: bool, batch_bytes: int = 262_144) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "acks": "all",
            "enable_idempotence": idempotent,
            "max_batch_size": batch_bytes,
            "max_request_size": 4 * 1024 * 1024,
            "linger_ms": 0,
        }
        self._producer: AIOKafkaProducer
        self._open: dict[Partition, BatchBuilder] = {}
        self._full: list[tuple[Partition, BatchBuilder]] = []
        self._in_flight: set[asyncio.Future[object]] = set()
        self._handover = asyncio.Lock()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(**self._settings)
        await self._producer.start()

    async def stop(self) -> None:
        await clients.stop(self._producer)

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        """Put a record behind the others of its partition. Does not wait."""
        batch = self._open.get(to)
        if batch is None:
            batch = self._open[to] = self._producer.create_batch()
        if batch.append(key=key, value=value, timestamp=None) is None:
            self._full.append((to, batch))
            batch = self._open[to] = self._producer.create_batch()
            fits = batch.append(key=key, value=value, timestamp=None)
            assert fits is not None, f"a record of {len(value)} bytes exceeds an empty batch"

    async def flow(self) -> None:
        """Hand over the batches that are full; wait while too many are not acknowledged."""
        await self._hand_over()
        while len(self._in_flight) > IN_FLIGHT_BATCHES_MAX:
            await self._settle(asyncio.FIRST_COMPLETED)

    async def send(self) -> None:
        """Hand over everything appended so far, without waiting for acknowledgements."""
        self._full.extend((to, batch) for to, batch in self._open.items() if batch.record_count())
        self._open = {}
        await self.flow()

    async def drain(self) -> None:
        """Return when everything appended before this call is acknowledged by Kafka.

        Raises KafkaError if the broker refused or did not answer: then nothing may be flushed,
        now or later, because the records of a failed batch are gone from the emitter.
        """
        await self.send()
        await self._settle(asyncio.ALL_COMPLETED)

    async def _hand_over(self) -> None:
        # One at a time: batches of a partition must reach the producer in the order of the log.
        async with self._handover:
            while self._full:
                to, batch = self._full[0]
                batch.close()
                future = await self._producer.send_batch(batch, to.topic, partition=to.partition)
                self._full.pop(0)
                self._in_flight.add(future)

    async def _settle(self, until: str) -> None:
        pending = set(self._in_flight)
        if pending:
            done, _ = await asyncio.wait(pending, return_when=until)
            self._in_flight -= done
            for future in done:
                # Kept, not only raised: another shard's drain must fail too, although this
                # future is no longer in flight when it looks.
                self._failure = self._failure or future.exception()
        if self._failure is not None:
            raise self._failure
