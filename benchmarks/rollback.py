"""Snapshots and rollbacks of a shard with 10⁴ and with 10⁶ keys, while it learns and is asked.

The load is the same all the time: events of random keys at a fixed rate, questions at another, both
open loops. It runs once by itself, and once while snapshots are taken and the agent is rolled back
to one of them, again and again. Then a worker with an empty disk begins from the newest snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec
from benchmarks import filled, load
from benchmarks.filled import Fill, Tell, Told, Watch
from benchmarks.gates import Gate, told
from benchmarks.latency import Latency
from benchmarks.place import Place
from benchmarks.processes import MEASURED, OTHER, Child, child
from benchmarks.serving import RATE, asking
from benchmarks.spans import total_ms
from benchmarks.topics import Lent, make_topic, stream
from benchmarks.workload import FEATURES, START_MS, Sent, spec_for, uniform_keys

from headrace.errors import StateError
from headrace.pipelines.broker import Broker
from headrace.serving.client import AsyncClient
from headrace.views import Question, RollbackRequest

AGENT = "bench"
SIZES = {"1e4": 10_000, "1e6": 1_000_000}
EVENTS_PER_S = 2_000.0
EVENTS = 100_000  # different ones
QUESTIONS = 1_000
SECONDS = 20.0  # of the load, with and without
TIMES = 3  # snapshots, and rollbacks
PAUSE_S = 1.0
"""After each of them, in which the worker is still watched: it publishes and tidies up."""
LOOK_S = 0.05
STALL_MUST_MS = 50.0
ROLLBACK_MUST_MS, ROLLBACK_AIM_MS = 250.0, 100.0
RATIO_MUST = 2.0
SWAPPED = ("prepare", "effect", "settle", "take", "draft and open")

T = TypeVar("T")


class Stand(NamedTuple):
    """A filled shard, and what is needed to keep it busy."""

    broker: Broker
    topic: str
    process: Child
    client: AsyncClient
    source: Child
    events: Sequence[Sent]

    async def watched(self, call: Awaitable[T]) -> tuple[T, Told]:
        """What became of a call, and what the worker did until a little later."""
        await self.process.asked(Watch())
        result = await call
        await asyncio.sleep(PAUSE_S)
        return result, msgspec.convert(await self.process.asked(Tell()), Told)

    async def busy(self, beside: Callable[[], Awaitable[T]]) -> tuple[load.Told, T]:
        """The load, and what is done beside it in the meantime."""
        async with asyncio.TaskGroup() as together:
            answers = together.create_task(
                self.source.asked(load.Burst(1, RATE, SECONDS))
            )
            together.create_task(
                stream(
                    self.broker,
                    self.topic,
                    self.events,
                    rate=EVENTS_PER_S,
                    seconds=SECONDS,
                    partitions=1,
                )
            )
            await asyncio.sleep(PAUSE_S)
            result = await beside()
            if answers.done():
                raise StateError(f"snapshots and rollbacks took more than {SECONDS:g} s")
        told_times = load.Told(**answers.result())
        if told_times.failed:
            raise StateError(f"{told_times.failed} questions were not answered")
        return told_times, result


class Rolled(NamedTuple):
    """One rollback: what callers saw of it, and what the worker did."""

    epoch: int
    told: Told

    def ms(self, answers: load.Told) -> float:
        """From the append of the control record to the first answer in the new epoch."""
        (appended,) = (span.begin for span in self.told.spans if span.step == "append")
        first = min(
            at
            for at, epoch in zip(answers.answered, answers.epochs, strict=True)
            if epoch >= self.epoch
        )
        return (answers.begin + first - appended) * 1e3


async def rollback(place: Place) -> list[Gate]:
    """A shard of each size; of the large one also what a snapshot costs callers, and a restore."""
    gates = []
    for name, keys in SIZES.items():
        repository = f"file://{place.file('repository').absolute()}"
        async with standing(place, keys, repository) as stand:
            ...
    return gates
