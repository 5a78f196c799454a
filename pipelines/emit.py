"""Decisions and quarantined events on their way to Kafka, as record batches.

Appending to a batch costs a few microseconds; sending a record by itself costs ten times as much.
The emitter therefore fills one batch per (topic, partition) and hands over whole batches.
Order of calls: `start`, then any number of `append` and `drain`, then `stop`. What was appended is
durable only when a `drain` that began afterwards has returned.

A broker that is away is waited for. Batches that it has not acknowledged stay here, at most
`IN_FLIGHT_BATCHES_MAX` of `BATCH_BYTES` each; beyond that `flow` waits, and so does intake. They
are sent again in their order, byte for byte, for as long as it takes: waiting ends by the broker's
answer, by an error that waiting cannot cure (`clients.waiting_cures`), or by `give_up_in`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from headrace.errors import UnavailableError
from headrace.pipelines import clients
from headrace.views import Partition

IN_FLIGHT_BATCHES_MAX = 64
"""Batches handed over and not acknowledged; beyond it `flow` waits, and so does intake."""
BATCH_BYTES = 262_144
"""Of one batch; a single larger record still makes one. With the bound above: 16 MiB."""
REQUEST_TIMEOUT_S = 40.0
"""Until a request that the broker does not answer is sent again, on another connection."""


class Emitter:
    """Appends records to topics in order per partition and knows when Kafka has them all.

    `idempotent`: ask the broker to drop repeats that its own retries cause. The embedded broker
    cannot; a repeated decision is byte-identical there, so consumers can drop it by its id.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        idempotent: bool,
        batch_bytes: int = BATCH_BYTES,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "acks": "all",
            "enable_idempotence": idempotent,
            "max_batch_size": batch_bytes,
            "max_request_size": 4 * 1024 * 1024,
            "linger_ms": 0,
            "request_timeout_ms": int(request_timeout_s * 1000),
        }
        self._producer: AIOKafkaProducer
        self._open: dict[Partition, BatchBuilder] = {}
        self._full: list[tuple[Partition, BatchBuilder]] = []
        self._in_flight: dict[asyncio.Future[object], Partition] = {}
        self._handover = asyncio.Lock()
        self._failure: BaseException | None = None
        self._given_up: asyncio.Future[None]

    @property
    def unacknowledged(self) -> int:
        """Batches that Kafka has not acknowledged yet."""
        return len(self._in_flight)

    def waits(self) -> set[Partition]:
        """To whom something was handed over, or is about to be, that is not acknowledged."""
        return {*self._in_flight.values(), *(to for to, _ in self._full)}

    async def start(self) -> None:
        self._given_up = asyncio.get_running_loop().create_future()
        self._producer = AIOKafkaProducer(**self._settings)
        clients.never_expire(self._producer)
        await clients.start(self._producer)

    def give_up_in(self, seconds: float) -> None:
        """Wait for the broker no longer than that from now on: the process is going down.

        Who waits in `flow` or `drain` then gets UnavailableError `broker_away`.
        """
        asyncio.get_running_loop().call_later(seconds, self._give_up)

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

        Raises KafkaError if the broker refused for good: then nothing may be flushed, now or
        later, because the records of a failed batch are gone from the emitter.
        """
        await self.send()
        await self._settle(asyncio.ALL_COMPLETED)

    async def _hand_over(self) -> None:
        # One at a time: batches of a partition must reach the producer in the order of the log.
        async with self._handover:
            while self._full:
                to, batch = self._full[0]
                batch.close()
                future = await self._taken(to, batch)
                self._full.pop(0)
                self._in_flight[future] = to

    async def _taken(self, to: Partition, batch: BatchBuilder) -> asyncio.Future[object]:
        """Let the producer take a batch; it waits for the partition's last one to be on its way."""
        while True:
            try:
                return await self._unless_given_up(self._sent(to, batch))
            except KafkaError as error:
                # Raised before the batch was taken, after the request timeout: it is ours still.
                if not clients.waiting_cures(error):
                    raise

    async def _sent(self, to: Partition, batch: BatchBuilder) -> asyncio.Future[object]:
        if to.partition not in await self._producer.partitions_for(to.topic):
            raise UnavailableError(
                "stopping",
                f"topic {to.topic} has no partition {to.partition} any more: somebody has made it "
                "anew with fewer. Delete it and start again: it is then made as it must be",
            )
        acknowledged: asyncio.Future[object] = await self._producer.send_batch(
            batch, to.topic, partition=to.partition
        )
        return acknowledged

    async def _unless_given_up(
        self, work: Coroutine[Any, Any, asyncio.Future[object]]
    ) -> asyncio.Future[object]:
        task = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {task, self._given_up}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            raise _away()
        return task.result()

    async def _settle(self, until: str) -> None:
        pending = set(self._in_flight)
        while pending:
            first = asyncio.FIRST_COMPLETED
            either: set[asyncio.Future[Any]] = {*pending, self._given_up}
            done, _ = await asyncio.wait(either, return_when=first)
            finished = pending & done
            pending -= finished
            for future in finished:
                self._in_flight.pop(future, None)
                # Kept, not only raised: another shard's drain must fail too, although this
                # future is no longer in flight when it looks.
                self._failure = self._failure or future.exception()
            if self._failure is not None or (finished and until == first):
                break
            if self._given_up.done() and pending:
                raise _away()
        if self._failure is not None:
            raise self._failure

    def _give_up(self) -> None:
        if not self._given_up.done():
            self._given_up.set_result(None)


def _away() -> UnavailableError:
    return UnavailableError("broker_away", "the broker has not taken the last decisions")
