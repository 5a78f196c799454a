"""How many states of the past are made and kept, and how they go; in virtual time."""

from __future__ import annotations

import asyncio
import functools

import pytest

from headrace.errors import OverloadError, StateError, UnavailableError
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.making import MAKING_MAX, Maker
from headrace.pipelines.past.opened import IDLE_S, Opened, State
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_past import HISTORY, Lived
from tests.pipelines.test_rollback_laws import Two, lived

CLOSING_S = 5.0
"""Longer than closing a state takes: its threads, of which each may take a second now and then."""


def drafts(place: Two) -> int:
    return len(list((place.directory.path / "drafts").iterdir()))


async def begun(place: Two) -> tuple[Lived, Maker]:
    """All events of the history are learned, after a snapshot at the beginning."""
    assert isinstance(place, Lived)
    await place.cut("a", "first")
    await place.feed(len(place.rows))
    return place, Maker(place.shards.site, place.vault)


def test_a_state_that_nobody_asks_is_closed() -> None:
    """A question keeps it for as long again."""

    async def work(place: Two) -> None:
        lived_in, maker = await begun(place)
        opened, state = Opened(), State("a", 1, WHERE, 1, 5, -1)
        make = functools.partial(maker.nearest, lived_in.timeline("a"), 5)
        derivation = await opened.at(state, make)
        await asyncio.sleep(IDLE_S - 1)
        assert await opened.at(state, make) is derivation
        await asyncio.sleep(IDLE_S - 1)
        assert drafts(place) == 1
        await asyncio.sleep(1 + CLOSING_S)
        assert drafts(place) == 0
        assert await opened.at(state, make) is not derivation
        await opened.close()
        assert drafts(place) == 0

    lived(HISTORY, work, Lived)


def test_a_stop_ends_what_is_being_made() -> None:
    """Whoever waits is told, and nothing is left on the disk."""

    async def work(place: Two) -> None:
        lived_in, maker = await begun(place)
        lived_in.log.begin, lived_in.log.entries[:] = 0, lived_in.log.entries[:4]
        make = functools.partial(maker.nearest, lived_in.timeline("a"), 8)  # it waits for more
        making = asyncio.create_task(maker.done(make))
        await asyncio.sleep(1)
        assert drafts(place) == 1
        await maker.end()
        with pytest.raises(UnavailableError, match="going down"):
            await making
        with pytest.raises(UnavailableError, match="going down"):
            await maker.done(make)
        assert drafts(place) == 0

    lived(HISTORY, work, Lived)


def test_a_caller_who_goes_away_leaves_nothing_half_done() -> None:
    """The state is made to its end, and its place is taken until then."""

    async def work(place: Two) -> None:
        lived_in, maker = await begun(place)
        made: list[Derivation] = []

        async def make() -> None:
            made.append(await maker.nearest(lived_in.timeline("a"), 5))

        waiting = [asyncio.create_task(maker.done(make)) for _ in range(MAKING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError):
            await maker.done(make)
        for each in waiting:
            each.cancel()
        await lived_in.until(lambda: len(made) == MAKING_MAX)
        await maker.done(make)
        for derivation in made:
            await derivation.end()
        assert drafts(place) == 0

    lived(HISTORY, work, Lived)


def test_a_snapshot_of_another_log_leads_nowhere() -> None:
    """The topic was made anew since: the record before the snapshot is another one."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(4)
        await place.cut("a", "half")
        await place.feed(len(place.rows))
        row = place.log.entries[3]
        assert row is not None
        place.log.entries[3] = type(row)(3, row.timestamp + 1, row.key, row.value)
        course = place.timeline("a").course(place.timeline("a").starts(6)[0], 6)
        maker = Maker(place.shards.site, place.vault)
        with pytest.raises(StateError, match="made anew"):
            await maker.made(course)
        assert drafts(place) == 0

    lived(HISTORY, work, Lived)
