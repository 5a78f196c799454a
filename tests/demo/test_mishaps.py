"""What floods in and what sticks, before any service sees it."""

from __future__ import annotations

import msgspec

from headrace.demo.heaters import Plant, machines
from headrace.demo.mishaps import STUCK_READINGS, flood, stuck_readings, without_flood
from headrace.demo.movielens import Rating

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
