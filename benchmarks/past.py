"""How long an answer from a state of the past takes, from a shard of 10⁴ keys.

By the id of a snapshot: the first one, for which its files are opened, and those after it; and by
an offset that lies 1,000 events behind the nearest snapshot. One caller, one question at a time. A
decision 1,000 events behind its snapshot is verified likewise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from benchmarks.gates import Gate, told
from benchmarks.latency import percentile
from benchmarks.place import Place
from benchmarks.rollback import AGENT, SIZES, Stand, questions, standing
from benchmarks.topics import stream

from headrace.errors import StateError
from headrace.serving.client import AsyncClient
from headrace.views import AsOf, Question

EVENTS = 2_000
EVENTS_PER_S = 2_000.0
REPLAYED = 1_000
WARM = 1_000
BETWEEN = 20
FIRST = 10
"""Snapshots that are asked for the first time, and offsets that need a replay."""
LEARN_WAIT_S = 30.0
LOOK_S = 0.05

Call = Callable[[int], Awaitable[Any]]


async def past(place: Place) -> list[Gate]:
    """The figures; nothing is asked of them yet."""
    broker = await place.memory()
    async with standing(place, broker, SIZES["1e4"]) as stand:
        await _history(stand)
        client, asked = stand.client, questions(SIZES["1e4"])

        async def by(state: AsOf, number: int = 0) -> None:
            await _ask(client, asked[number % len(asked)], state)

        first = await _times(FIRST, lambda n: by(AsOf(snapshot_id=f"{AGENT}.s{n}")))
        newest = AsOf(snapshot_id=f"{AGENT}.s{FIRST - 1}")
        warm = await _times(WARM, lambda n: by(newest, n))
        replayed = await _times(FIRST, lambda n: by(AsOf(offset=REPLAYED + n)))
        decision = f"{AGENT}/1/{stand.topic}/0"
        verified = await _times(FIRST, lambda n: _verify(client, f"{decision}/{REPLAYED + n}"))
    return [
        figure("asof.first_ms", first, "by a snapshot's id, its files not open yet"),
        figure("asof.warm_ms", warm, "by the same id again"),
        figure("asof.replay_ms", replayed, f"{REPLAYED:,} events behind the nearest snapshot"),
        figure("verify.replay_ms", verified, "the same, by a decision's id"),
    ]


def figure(name: str, times: list[float], beside: str) -> Gate:
    """The p99, and the p50 beside it."""
    half = percentile(times, 0.5)
    text = f"{beside}: p99 of {len(times):,}, p50 {half:.3g}"
    return told(name, percentile(times, 0.99), text, (("p50", half),))


async def _history(stand: Stand) -> None:
    """A snapshot, some events, and more snapshots behind them, each of another state."""
    client = stand.client
    await client.create_snapshot(AGENT, "before")
    await _learned(stand, 0, EVENTS)
    for number in range(FIRST):
        view = await client.create_snapshot(AGENT, f"s{number}")
        if not view.complete:
            raise StateError(f"{view.snapshot_id} was not published")
        await _learned(stand, EVENTS + number * BETWEEN, BETWEEN)


async def _learned(stand: Stand, there: int, more: int) -> None:
    """So many more events come, and are learned."""
    seconds = more / EVENTS_PER_S
    await stream(stand.broker, stand.topic, stand.events, rate=EVENTS_PER_S, seconds=seconds)
    async with asyncio.timeout(LEARN_WAIT_S):
        while await _stands(stand.client) < there + more:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(LOOK_S)


async def _stands(client: AsyncClient) -> int:
    return (await client.agent(AGENT)).shards[0].next_offset


async def _times(count: int, call: Call) -> list[float]:
    """What each call took, in milliseconds, one after the other."""
    times = []
    for number in range(count):
        began = perf_counter()
        await call(number)
        times.append((perf_counter() - began) * 1e3)
    return times


async def _ask(client: AsyncClient, question: Question, state: AsOf) -> None:
    answer = await client.predict(AGENT, key=question.key, features=question.features, as_of=state)
    if state.offset not in (None, answer.standing.offset):
        raise StateError(f"asked for {state.offset}, answered from {answer.standing.offset}")


async def _verify(client: AsyncClient, decision_id: str) -> None:
    found = await client.verify_decision(decision_id)
    if found.verdict != "confirmed":
        raise StateError(f"{decision_id} is {found.verdict}: {found.text}")
