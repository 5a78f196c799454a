"""What floods in and what sticks, before any service sees it."""

from __future__ import annotations

import subprocess

import msgspec
import pytest
from msgspec.structs import replace

from headrace.cli.moments import since_1970
from headrace.demo.heaters import Plant, machines
from headrace.demo.mishaps import (
    STUCK_READINGS,
    flips,
    flood,
    stuck_readings,
    typed,
    without_flood,
)
from headrace.demo.movielens import Rating
from headrace.views import RollbackPreview, RollbackRequest

RATINGS = [Rating(f"u{n % 7}", f"i{n}", float(n % 5 + 1), 1_000 + n) for n in range(400)]


def test_a_flood_turns_good_films_into_bad_ones() -> None:
    """One star for four and more, five for fewer; a fifth of the ratings, in their order."""
    lies = [msgspec.json.decode(event.value, type=Rating) for event in flood(RATINGS)]
    assert [(lie.user, lie.item) for lie in lies] == [(r.user, r.item) for r in RATINGS[-80:]]
    honest = [rating.rating for rating in RATINGS[-80:]]
    assert [lie.rating for lie in lies] == [1.0 if stars >= 4.0 else 5.0 for stars in honest]


def test_a_flood_can_be_told_by_its_time() -> None:
    """The exclusion holds all of it and none of the ratings."""
    left_out = without_flood(RATINGS)
    assert left_out.from_ms is not None
    assert left_out.to_ms is not None
    window = range(left_out.from_ms, left_out.to_ms)
    assert all(event.timestamp_ms in window for event in flood(RATINGS))
    assert not any(rating.timestamp * 1000 in window for rating in RATINGS)


def test_a_stuck_sensor_says_the_same_whatever_the_power() -> None:
    """One temperature, many powers, and time goes on."""
    reading = Plant(machines(1)).reading("h01")
    told = [msgspec.json.decode(event.value) for event in stuck_readings(reading)]
    assert len(told) == STUCK_READINGS
    assert {each["t"] for each in told} == {reading["t"]}
    assert len({each["q"] for each in told}) > 50
    times = [each["at"] for each in told]
    assert times == sorted(set(times))


def test_what_is_asked_for_can_be_typed() -> None:
    """A command that a shell takes, and that means the same times."""
    asked = RollbackRequest(
        agent="ratings",
        snapshot_id="ratings.evening",
        mode="rewind",
        exclude=without_flood(RATINGS),
    )
    assert typed(asked, 200) == (
        "headrace rollback ratings --to ratings.evening --mode rewind "
        "--exclude-from 1970-01-01T00:23:19.001Z --exclude-to 1970-01-01T00:23:20.000Z"
    )
    assert since_1970("1970-01-01T00:23:19.001Z", 0.0) == without_flood(RATINGS).from_ms


@pytest.mark.parametrize("width", [48, 79, 94, 100, 140])
def test_what_can_be_typed_is_not_broken_within_an_argument(width: int) -> None:
    """No line is longer than the terminal is wide, and a shell reads them as one command."""
    asked = RollbackRequest(
        agent="ratings",
        snapshot_id="ratings.evening",
        mode="rewind",
        exclude=without_flood(RATINGS),
    )
    text = typed(asked, width)
    assert max(map(len, text.splitlines())) <= width
    told = ["sh", "-c", f"headrace() {{ echo headrace $*; }}; {text}"]
    ran = subprocess.run(told, check=True, capture_output=True, text=True)
    assert ran.stdout.rstrip() == typed(asked, 200)


def test_none_of_none_is_no_figure() -> None:
    """Where all of the newest events are left out, that is said instead."""
    preview = RollbackPreview(
        agent="ratings",
        mode="rewind",
        snapshot_id="ratings.evening",
        events_back=3_000,
        events_excluded=2_500,
        keys_changed=3,
        keys_total=4,
        decisions_compared=0,
        decisions_flipped=0,
        metrics=(),
        note="no decision was compared: of the newest 2,000 events 2,000 are left out",
    )
    assert flips(preview) == preview.note
    some = replace(preview, decisions_compared=9, decisions_flipped=4)
    assert flips(some) == "4 of the newest 9 predictions come out otherwise, if only a little"
