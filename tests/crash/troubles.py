"""Troubles that the world makes and that the protections are for; each alone harms nothing.

They are on in the campaigns, so that each protection is needed in them, and in the negative
controls, where it is missing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from faust.types import TP

from headrace.pipelines.transport import ChunkConsumer
from tests.crash.life import Trouble

SLOW_S = 0.3
"""How long a batch is under way on the slow network before the broker sees it."""
LOST_EVERY = 5
"""Of the chunks fetched for a partition each of so many is lost."""


def make_trouble(troubles: Iterable[Trouble]) -> None:
    """Put the troubles into this process."""
    for trouble in troubles:
        {"slow-network": slow_network, "lost-chunk": lose_chunks}[trouble]()


def slow_network() -> None:
    """Batches reach the broker late, in the order in which they were sent."""
    real = AIOKafkaProducer.send_batch
    in_turn = asyncio.Lock()

    async def deliver(producer: Any, batch: Any, topic: str, partition: int) -> Any:
        await asyncio.sleep(SLOW_S)
        async with in_turn:
            acknowledged = await real(producer, batch, topic, partition=partition)
        return await acknowledged

    async def send_batch(producer: Any, batch: Any, topic: str, *, partition: int) -> Any:
        return asyncio.ensure_future(deliver(producer, batch, topic, partition))

    AIOKafkaProducer.send_batch = send_batch


def lose_chunks() -> None:
    """Of each partition the second fetched chunk is lost, and then one in `LOST_EVERY`."""
    real = ChunkConsumer._deliver
    fetched: dict[TP, itertools.count[int]] = defaultdict(lambda: itertools.count(1))

    async def deliver(consumer: ChunkConsumer, tp: TP, chunk: Any) -> None:
        if next(fetched[tp]) % LOST_EVERY != 2:
            await real(consumer, tp, chunk)

    setattr(ChunkConsumer, "_deliver", deliver)  # noqa: B010 - a method is replaced on purpose
