"""Log time: the median of the last 101 timestamps, never falling."""

from __future__ import annotations

from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CorruptStateError
from headrace.models.logtime import WINDOW, LogTime

STAMPS = st.lists(st.integers(-1, 5_000_000_000_000), max_size=260)


@given(STAMPS)
def test_it_is_the_highest_median_so_far(stamps: list[int]) -> None:
    """Log time is the maximum over all positions with a full window of the median of the last
    101 timestamps; before the first of them it is the median of what came.
    """
    time = LogTime()
    seen: list[int] = []
    highest = 0
    for stamp in stamps:
        if stamp >= 0:
            seen.append(stamp)
        if seen:
            median = median_low(seen[-WINDOW:])
            highest = max(highest, median) if len(seen) > WINDOW else median
        assert time.observe(stamp) == time.now == highest


@given(STAMPS, st.integers(0, 260))
def test_it_goes_on_after_a_restart(stamps: list[int], cut: int) -> None:
    """Dumped and loaded in between, it tells the same times and dumps the same bytes."""
    whole, first, second = LogTime(), LogTime(), LogTime()
    told = [whole.observe(stamp) for stamp in stamps]
    before = [first.observe(stamp) for stamp in stamps[:cut]]
    second.load(first.dump())
    assert before + [second.observe(stamp) for stamp in stamps[cut:]] == told
    assert second.dump() == whole.dump()


def test_fifty_records_from_2099_move_nothing() -> None:
    """Fewer than half of the window being wrong cannot move log time beyond the right ones."""
    time = LogTime()
    for n in range(101):
        time.observe(1_000 + n)
    for _ in range(50):
        assert time.observe(4_070_908_800_000) <= 1_100


def test_a_log_that_begins_in_2099_recovers() -> None:
    """One wrong timestamp at the head of a log does not stop log time for good."""
    time = LogTime()
    time.observe(4_070_908_800_000)
    for n in range(5):
        time.observe(1_000 + n)
    assert time.now <= 1_004


def test_other_bytes_are_refused() -> None:
    """Bytes that no log time wrote are corrupt state."""
    with pytest.raises(CorruptStateError):
        LogTime().load(b"\x91\xa3abc")
