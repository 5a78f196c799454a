"""Feeding the two scenes: film ratings at a pace or at full speed, heaters in a closed loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from headrace.demo.heaters import PERIOD, Plant
from headrace.demo.movielens import Rating
from headrace.errors import UnavailableError
from headrace.pipelines.feeds import Outgoing
from headrace.views import AgentView

RATINGS_TOPIC = "ratings"
HEATERS_TOPIC = "heaters"

PACE = 1_500
"""Ratings a second, at most, while the heaters run beside them: decisions can be followed by eye,
and both scenes fit onto one core."""
BEATS = 10  # a second: how often a share of the pace is sent
TICK_WAIT_S = 60.0
"""How long the heaters wait for the next decision before they give up."""
STALL_S = 60.0
"""How long an agent may get no further while it is waited for."""
LOOK_S = 0.1


class Producer(Protocol):
    """Takes events to their topics; `headrace.pipelines.feeds.EventProducer` is one."""

    async def send_all(self, events: Iterable[Outgoing]) -> None: ...


class Directory(Protocol):
    """Tells how an agent stands; `headrace.serving.client.AsyncClient` is one."""

    async def agent(self, name: str) -> AgentView: ...


class Adjustment(msgspec.Struct, frozen=True):
    """What the plant reads of a decision record."""

    key: str
    event_time: int
    value: float
    decision: str


def rating_events(ratings: Iterable[Rating], topic: str = RATINGS_TOPIC) -> Iterator[Outgoing]:
    """Ratings as events, keyed by user, stamped with when they were given."""
    for rating in ratings:
        yield Outgoing(topic, rating.key, rating.value, rating.timestamp * 1000)


def reading_events(plant: Plant) -> Iterator[Outgoing]:
    """The present reading of each machine, stamped with the plant's time."""
    for name in plant.machines:
        reading = plant.reading(name)
        yield Outgoing(
            HEATERS_TOPIC, name.encode(), msgspec.json.encode(reading), int(reading["at"] * 1000)
        )


async def rate_films(ratings: Sequence[Rating], events: Producer, hurry: asyncio.Event) -> None:
    """Send ratings at `PACE`; from `hurry` on, the rest as fast as the broker takes it."""
    coming = rating_events(ratings)
    while not hurry.is_set():
        share = list(itertools.islice(coming, PACE // BEATS))
        if not share:
            return
        async with asyncio.TaskGroup() as beat:
            beat.create_task(events.send_all(share))
            beat.create_task(_pause(hurry, 1 / BEATS))
    await events.send_all(coming)


async def run_heaters(
    plant: Plant,
    events: Producer,
    decisions: AsyncIterator[dict[str, Any]],
    *,
    seconds: float,
    on_tick: Callable[[Sequence[Adjustment]], None] = lambda _: None,
) -> None:
    """Drive the plant by the decisions that come back over the broker, tick by tick.

    A tick of plant time is over when each machine has its decision; so plant time runs as fast
    as the loop through log, model and decision topic allows. `on_tick` gets each tick's decisions
    after `plant` has stepped. Raises UnavailableError `not_ready` if they stay away or end.
    """
    for _ in range(round(seconds / PERIOD)):
        readings = list(reading_events(plant))
        await events.send_all(readings)
        waiting = dict.fromkeys(plant.machines)
        tick: list[Adjustment] = []
        while waiting:
            try:
                # Not `wait_for`: up to Python 3.11 it may swallow a Ctrl-C.
                async with asyncio.timeout(TICK_WAIT_S):
                    record = await anext(decisions)
            except TimeoutError:
                text = f"no decision came back for {', '.join(waiting)} within {TICK_WAIT_S:g} s"
                raise UnavailableError("not_ready", text) from None
            except StopAsyncIteration:
                text = f"the decisions ended before there was one for {', '.join(waiting)}"
                raise UnavailableError("not_ready", text) from None
            adjustment = msgspec.convert(record, Adjustment)
            # Else it repeats an earlier one, as a log may after a crash.
            if adjustment.event_time == readings[0].timestamp_ms and adjustment.key in waiting:
                del waiting[adjustment.key]
                plant.apply(adjustment.key, adjustment.value)
                tick.append(adjustment)
        plant.step()
        on_tick(tick)


def handled(agent: AgentView) -> int:
    """How many events an agent has dealt with: accepted or refused."""
    return sum(shard.accepted + shard.quarantined for shard in agent.shards)


async def running(client: Directory, agent: str) -> None:
    """Wait until the agent has its shards: reading one more topic closes them all for a moment.

    Raises UnavailableError `not_ready` when that takes a minute.
    """
    loop = asyncio.get_running_loop()
    since = loop.time()
    while (view := await client.agent(agent)).state != "running":
        if loop.time() - since > STALL_S:
            raise UnavailableError("not_ready", f"{agent} does not run: {view.note or view.state}")
        await asyncio.sleep(LOOK_S)


async def learned(client: Directory, agent: str, events: int) -> AgentView:
    """Wait until the agent has handled so many events, refused ones included.

    Raises UnavailableError `not_ready` when it gets no further for a minute.
    """
    loop = asyncio.get_running_loop()
    most, since = -1, loop.time()
    while True:
        view = await client.agent(agent)
        so_far = handled(view)
        if so_far >= events:
            return view
        if so_far > most:
            most, since = so_far, loop.time()
        elif loop.time() - since > STALL_S:
            raise UnavailableError(
                "not_ready",
                f"{agent} has handled {so_far:,} of {events:,} events and got no further for "
                f"{STALL_S:g} s",
            )
        await asyncio.sleep(LOOK_S)


async def _pause(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, so many seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
