"""What callers wait for an answer, while the worker is idle and while it learns at full speed.

Questions come at a fixed rate over 1 and over 16 connections, in an open loop (`benchmarks.load`).
While the learner is measured it must have events left: a run in which it ran dry is not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from benchmarks import load
from benchmarks.endtoend import serving
from benchmarks.gates import OUT, Gate, told
from benchmarks.latency import Latency
from benchmarks.place import Place
from benchmarks.processes import OTHER, Child, CoreUse, child
from benchmarks.topics import Lent, append, make_topic
from benchmarks.worker import Order
from benchmarks.workload import FEATURES, SEED, Sent, spec_for, uniform_keys

from headrace.demo.feeders import learned
from headrace.demo.movielens import load as movielens
from headrace.demo.scene import shipped_spec
from headrace.errors import StateError
from headrace.serving.client import AsyncClient
from headrace.views import Question

RATE = 200.0  # questions a second, over all connections
SECONDS = 10.0
CONNECTIONS = (1, 16)
KEYS = 1_000
IDLE_EVENTS = 20_000
BUSY_EVENTS = 200_000
BUSY_TIMES = 7  # so often the events are in the topic: more than can be learned meanwhile
RATIO_MUST, RATIO_AIM = 5.0, 2.0
LATE_MAX_MS = 2.0  # for one question in a hundred: else the load is measured, not the service
OTHERS_MAX = 0.1
RANK_SECONDS = 5.0
RANK_BURSTS = 3
RANK_MUST_MS = 2.0
RATINGS = "ratings"


class Pace(NamedTuple):
    """How far a learner was at two moments."""

    events: int
    seconds: float
    left: int

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.seconds


async def predict(place: Place) -> list[Gate]:
    """Idle first, on an agent that has learned all there is; then on one that never has."""
    broker = await place.memory()
    events = place.events(uniform_keys(BUSY_EVENTS, KEYS))
    for topic in ("idle", "busy"):
        await make_topic(broker, topic)
    await append(broker, "idle", events[:IDLE_EVENTS])
    await append(broker, "busy", events, times=BUSY_TIMES)
    order = Order(broker=Lent.of(broker), state_dir=str(place.file("state")), agent="busy")
    async with serving(order) as (process, client):
        await client.deploy(spec_for("idle", "idle"))
        await learned(client, "idle", IDLE_EVENTS)
        async with asking(client, questions("idle")) as source:
            use = CoreUse.now(process)
            idle = {n: await burst(source, n) for n in CONNECTIONS}
            others = use.others_until(CoreUse.now(process))
        await client.deploy(spec_for("busy", "busy"))
        async with asking(client, questions("busy")) as source:
            began = asyncio.get_running_loop().time()
            before = await place_of(client, "busy")
            busy = {n: await burst(source, n) for n in CONNECTIONS}
            after = await place_of(client, "busy")
            seconds = asyncio.get_running_loop().time() - began
    pace = Pace(after - before, seconds, BUSY_TIMES * BUSY_EVENTS - after)
    if pace.left <= 0:
        raise StateError("the learner ran dry while answers were timed: give it more events")
    beside = "of the idle worker's core: more, and the ratio says nothing"
    return [
        *_gates(idle, busy, pace),
        Gate("predict.others_share", others, "<=", OTHERS_MAX, beside),
    ]


async def recommend(place: Place) -> list[Gate]:
    """Ten films out of all, by the shipped agent, after all ratings."""
    cache = OUT.parents[1] / ".cache" / "movielens"
    ratings = (await asyncio.to_thread(movielens, cache)).events
    broker = await place.memory()
    await make_topic(broker, RATINGS, partitions=1)
    sent = [Sent(rating.key, rating.value) for rating in ratings]
    await append(broker, RATINGS, sent, partitions=1)
    films = len({rating.item for rating in ratings})
    users = sorted({rating.user for rating in ratings})
    order = Order(broker=Lent.of(broker), state_dir=str(place.file("state")), agent="top10")
    async with serving(order) as (_, client):
        await client.deploy(shipped_spec("top10"))
        await learned(client, "top10", len(ratings))
        asked = [Question(agent="top10", key=user) for user in users]
        async with asking(client, asked) as source:
            # The best one: what others do to the machine only adds.
            took = min([await burst(source, 1, RATE, RANK_SECONDS) for _ in range(RANK_BURSTS)])
    beside = f"{films:,} films, {RATE:g}/s; p99 {took.p99_ms:.2f} ms"
    also = (("p99_ms", took.p99_ms), ("films", float(films)))
    return [Gate("recommend.p50_ms", took.p50_ms, "<=", RANK_MUST_MS, beside, also)]


@asynccontextmanager
async def asking(client: AsyncClient, asked: Sequence[Question]) -> AsyncIterator[Child]:
    """A process that asks these questions, on the core where the broker is."""
    async with child("load", load.Order(client.target, list(asked)), OTHER) as source:
        yield source


async def burst(
    source: Child, connections: int, rate: float = RATE, seconds: float = SECONDS
) -> Latency:
    """One run of questions. Raises StateError if one had no answer."""
    told_times = await source.asked(load.Burst(connections, rate, seconds))
    if told_times["failed"]:
        raise StateError(f"{told_times['failed']} questions were not answered")
    return Latency.of(told_times["due"], told_times["sent"], told_times["answered"])


async def place_of(client: AsyncClient, agent: str) -> int:
    """How many events the agent's shards have handled."""
    return sum(shard.next_offset for shard in (await client.agent(agent)).shards)


def questions(agent: str) -> list[Question]:
    """One for each of the keys that the agent knows."""
    rows = np.random.default_rng(SEED).normal(size=(KEYS, len(FEATURES))).round(4).tolist()
    return [
        Question(agent=agent, key=f"k{number}", features=dict(zip(FEATURES, row, strict=True)))
        for number, row in enumerate(rows)
    ]


def _gates(idle: dict[int, Latency], busy: dict[int, Latency], pace: Pace) -> list[Gate]:
    gates: list[Gate] = []
    for state, latencies in (("idle", idle), ("learning", busy)):
        for n, took in latencies.items():
            name = f"predict.{state}.c{n}"
            beside = f"{RATE:g}/s; load late by {took.late_p99_ms:.2f} ms at p99"
            gates.append(told(f"{name}.p50_ms", took.p50_ms, beside))
            also = (("longest_ms", took.longest_ms), ("late_p99_ms", took.late_p99_ms))
            beside = f"longest {took.longest_ms:.1f} ms"
            gates.append(told(f"{name}.p99_ms", took.p99_ms, beside, also))
    ratios = {n: busy[n].p99_ms / idle[n].p99_ms for n in idle}
    worst = max(ratios.values())
    beside = ", ".join(f"{ratio:.1f} over {n}" for n, ratio in ratios.items())
    late = max(took.late_p99_ms for took in (*idle.values(), *busy.values()))
    name = "predict.p99_learning_ratio_to_idle"
    return [
        *gates,
        Gate(name, worst, "<=", RATIO_MUST, f"{beside} connections", (), RATIO_AIM),
        Gate("predict.load_late_p99_ms", late, "<=", LATE_MAX_MS, "the worst of all runs"),
        told("predict.learning_events_per_s", pace.per_s, f"{pace.left:,} events were left"),
    ]
