"""Feeding the scenes: the pace of ratings, the heaters' closed loop, and when waiting ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest

from headrace.demo import feeders
from headrace.demo.controllers import OpenLoop
from headrace.demo.feeders import (
    BEATS,
    PACE,
    Adjustment,
    learned,
    rate_films,
    rating_events,
    reading_events,
    run_heaters,
    running,
)
from headrace.demo.heaters import PERIOD, Plant, drive, machines
from headrace.demo.movielens import Rating
from headrace.errors import UnavailableError
from headrace.pipelines.feeds import Outgoing
from headrace.views import AgentView, ShardView

RATINGS = [Rating(f"u{n % 7}", f"i{n}", 4.0, 1_000 + n) for n in range(400)]


class Taken:
    """A topic in memory: keeps what it is sent, in order."""

    def __init__(self) -> None:
        self.events: list[Outgoing] = []

    async def send_all(self, events: Iterable[Outgoing]) -> None:
        self.events += events


class Loop:
    """Log, model and decision topic in one: the open loop decides on each reading it is sent.

    `twice`: deliver each decision again a tick later, as a log may after a crash.
    """

    def __init__(self, *, twice: bool = False) -> None:
        self._decisions: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._twice = twice
        self._last: list[dict[str, Any]] = []

    async def send_all(self, events: Iterable[Outgoing]) -> None:
        for repeated in self._last if self._twice else ():
            self._decisions.put_nowait({**repeated, "value": 99.0})
        self._last = [self._decided(event) for event in events]
        for decision in self._last:
            self._decisions.put_nowait(decision)

    async def decisions(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            await asyncio.sleep(0)  # a log is never that near
            yield await self._decisions.get()

    def _decided(self, event: Outgoing) -> dict[str, Any]:
        reading = msgspec.json.decode(event.value)
        return {
            "key": event.key.decode(),
            "event_time": event.timestamp_ms,
            "value": OpenLoop()(reading),
            "decision": "model",
            "position": {"topic": "heaters", "partition": 0, "offset": 0},
        }


def _view(accepted: int, quarantined: int = 0) -> AgentView:
    shard = ShardView(
        topic="t",
        partition=0,
        next_offset=accepted,
        durable_offset=0,
        end_offset=None,
        keys_hot=0,
        accepted=accepted,
        quarantined=quarantined,
        learned=accepted,
        paused=False,
    )
    return AgentView(
        name="a",
        spec_version=1,
        epoch=1,
        digest="",
        state="running",
        spec={},
        shards=(shard, shard),
        metrics=(),
    )


class Views:
    """A directory whose agent stands each time as the next view says, and then stays so."""

    def __init__(self, *views: AgentView) -> None:
        self._views = list(views)

    async def agent(self, name: str) -> AgentView:
        return self._views.pop(0) if len(self._views) > 1 else self._views[0]


def test_ratings_become_events_keyed_by_user() -> None:
    """An event says who rated what, and its record's time is when that was, in milliseconds."""
    (event,) = rating_events(RATINGS[8:9])
    assert event == (
        "ratings",
        b"u1",
        b'{"user":"u1","item":"i8","rating":4.0,"at":1008}',
        1_008_000,
    )


def test_readings_become_events_keyed_by_machine() -> None:
    """Each machine publishes what it reads, stamped with the plant's time."""
    plant = Plant(machines(3))
    plant.step()
    events = list(reading_events(plant))
    assert [event.key for event in events] == [b"h01", b"h02", b"h03"]
    assert {event.timestamp_ms for event in events} == {int(plant.now * 1000)}
    assert msgspec.json.decode(events[1].value) == plant.reading("h02")


async def test_ratings_wait_for_their_beat_until_there_is_a_hurry() -> None:
    """A tenth of a second's share goes out at once, the rest when it is asked for."""
    topic, hurry = Taken(), asyncio.Event()
    feeding = asyncio.create_task(rate_films(RATINGS, topic, hurry))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(topic.events) == PACE // BEATS < len(RATINGS)
    hurry.set()
    await feeding
    assert topic.events == list(rating_events(RATINGS))


async def test_ratings_that_fit_into_the_pace_end_by_themselves() -> None:
    """Nobody need hurry: the feeder ends with its ratings."""
    topic = Taken()
    await rate_films(RATINGS[: PACE // BEATS + 1], topic, asyncio.Event())
    assert len(topic.events) == PACE // BEATS + 1


@pytest.mark.parametrize("twice", [False, True])
async def test_the_loop_over_a_log_is_the_loop_without_one(twice: bool) -> None:
    """Decisions that travel drive a plant exactly as those made on the spot; repeats do nothing."""
    loop, plant = Loop(twice=twice), Plant(machines(4))
    ticks: list[list[Adjustment]] = []
    await run_heaters(
        plant, loop, loop.decisions(), seconds=600, on_tick=lambda tick: ticks.append(list(tick))
    )
    assert plant.mean_error() == drive(Plant(machines(4)), OpenLoop(), seconds=600)
    assert [len(tick) for tick in ticks] == [4] * round(600 / PERIOD)
    assert plant.asked is not None
    assert plant.asked[1] < 99.0


async def test_a_heater_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """If decisions stay away, the error names the machines that wait."""
    monkeypatch.setattr(feeders, "TICK_WAIT_S", 0.01)
    plant = Plant(machines(2))
    with pytest.raises(UnavailableError, match="h01, h02"):
        await run_heaters(plant, Taken(), Loop().decisions(), seconds=10)


async def test_ctrl_c_is_not_lost_between_two_decisions() -> None:
    """A cancellation in the turn of the event loop in which a decision arrives still ends it."""
    loop, plant = Loop(), Plant(machines(2))

    async def decisions() -> AsyncIterator[dict[str, Any]]:
        async for decision in loop.decisions():
            asyncio.get_running_loop().call_soon(driving.cancel)
            yield decision

    driving = asyncio.create_task(run_heaters(plant, loop, decisions(), seconds=600))
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert plant.elapsed < 600


async def test_waiting_ends_when_all_events_are_handled() -> None:
    """Refused events count as handled, and all shards count together."""
    view = await learned(Views(_view(1), _view(3, 1), _view(5)), "a", 8)
    assert view.shards[0].accepted == 3


async def test_an_agent_that_starts_is_waited_for() -> None:
    """The wait ends when the agent runs."""
    views = Views(msgspec.structs.replace(_view(0), state="starting"), _view(0))
    await running(views, "a")
    assert (await views.agent("a")).state == "running"


async def test_an_agent_that_never_runs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why the agent does not run."""
    monkeypatch.setattr(feeders, "STALL_S", 0.0)
    waiting = msgspec.structs.replace(_view(0), state="starting", note="no shard yet")
    with pytest.raises(UnavailableError, match="no shard yet"):
        await running(Views(waiting), "a")


async def test_waiting_for_a_stalled_agent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that gets no further is given up, and the error says how far it came."""
    monkeypatch.setattr(feeders, "STALL_S", 0.05)
    monkeypatch.setattr(feeders, "LOOK_S", 0.01)
    with pytest.raises(UnavailableError, match="4 of 9 events"):
        await learned(Views(_view(1), _view(2)), "a", 9)
