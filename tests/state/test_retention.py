"""Retention: what goes, and what never does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from headrace.state.retention import DAY_MS, HOUR_MS, UNDO_MS, expired
from headrace.views import SnapshotShard, SnapshotView

NOW = 1_700_000_000_000
_SHARD = SnapshotShard(topic="t", partition=0, next_offset=1, size_bytes=1, new_bytes=1)


def taken(
    name: str, created_ms: int, kind: str = "automatic", *, complete: bool = True
) -> SnapshotView:
    """A snapshot of the agent that stands before the dot."""
    return SnapshotView(
        snapshot_id=name,
        agent=name.partition(".")[0],
        kind=kind,
        epoch=1,
        spec_version=1,
        spec_digest="",
        created_ms=created_ms,
        partitions=1,
        shards=(_SHARD,) if complete else (),
    )


def series(every_ms: int, count: int) -> list[SnapshotView]:
    """Complete automatic snapshots of one agent, the newest at NOW."""
    return [taken(f"a.{number}", NOW - number * every_ms) for number in range(count)]


def kept(views: Sequence[SnapshotView], now_ms: int, in_use: frozenset[str]) -> list[SnapshotView]:
    """What stays."""
    gone = set(expired(views, now_ms, in_use))
    return [view for view in views if view.snapshot_id not in gone]


def test_two_months_of_snapshots_every_ten_minutes_thin_out() -> None:
    """The newest ten stay, of a day one an hour, of a month one a day, each the first of its hour
    or day.
    """
    stay = kept(series(HOUR_MS // 6, 60 * 24 * 6), NOW, frozenset())
    ages = [NOW - view.created_ms for view in stay]
    assert [age // (HOUR_MS // 6) for age in ages[:10]] == list(range(10))
    hourly = [age for age in ages[10:] if age <= DAY_MS]
    assert 22 <= len(hourly) <= 24
    assert all((NOW - age) % HOUR_MS < HOUR_MS // 6 for age in hourly)
    daily = [age for age in ages[10:] if age > DAY_MS]
    assert 28 <= len(daily) <= 30
    assert all((NOW - age) % DAY_MS < HOUR_MS // 6 for age in daily)
    assert max(daily) <= 30 * DAY_MS


@pytest.mark.parametrize(
    "later", [{"epoch": 2}, {"shards": (replace(_SHARD, next_offset=2),)}], ids=["epoch", "offset"]
)
def test_the_newest_states_stay_also_if_a_clock_was_set_back(later: dict[str, Any]) -> None:
    """By it they look older than what was taken before; a lost disk would need them."""
    states = [replace(taken(f"a.new-{n}", NOW - 2 * DAY_MS + n), **later) for n in range(3)]
    stay = kept([*series(HOUR_MS // 60, 30), *states], NOW, frozenset())
    assert [view for view in stay if view in states] == states


def test_named_and_pinned_ones_and_those_in_use_stay() -> None:
    """However old they are."""
    old = [
        taken("a.named", 0, "named"),
        taken("a.half", 0, "named", complete=False),
        taken("a.used", 0, "undo"),
        taken("a.undo", 0, "undo"),
        SnapshotView(
            **{name: getattr(taken("a.pin", 0), name) for name in SnapshotView.__struct_fields__}
            | {"pinned": True, "kind": "undo"}
        ),
    ]
    assert expired([*old, *series(1, 20)], NOW, {"a.used"})[:1] == ["a.undo"]


def test_what_lies_idle_is_not_thinned_away() -> None:
    """An agent without events for a year keeps its newest ten."""
    idle = [taken(f"a.{number}", number) for number in range(12)]
    assert expired(idle, NOW, set()) == ["a.0", "a.1"]


def test_an_incomplete_one_goes_after_an_hour_unless_it_is_the_newest() -> None:
    """Until then its other shards may come."""
    views = [
        taken("a.old", NOW - HOUR_MS - 1, complete=False),
        taken("a.young", NOW - HOUR_MS, complete=False),
        taken("a.newer", NOW),
        taken("b.newest", NOW - DAY_MS, complete=False),
    ]
    assert expired(views, NOW, set()) == ["a.old"]


def test_an_undo_stays_for_a_week() -> None:
    """Then it goes, unless it is the agent's newest complete snapshot."""
    week = taken("a.week", NOW - UNDO_MS, "undo")
    older = taken("a.older", NOW - UNDO_MS - 1, "undo")
    assert expired([older, week], NOW, set()) == ["a.older"]
    assert expired([older], NOW, set()) == []


def test_agents_do_not_count_for_each_other() -> None:
    """Each has its own newest ten."""
    views = [taken(f"{agent}.{number}", number) for agent in "ab" for number in range(11)]
    assert expired(views, NOW, set()) == ["a.0", "b.0"]


# -- laws --------------------------------------------------------------------------------------

_views = st.lists(
    st.builds(
        lambda agent, number, age_ms, kind, complete: taken(
            f"{agent}.{number}", NOW - age_ms, kind, complete=complete
        ),
        st.sampled_from("ab"),
        st.integers(0, 10**9),
        st.one_of(
            st.integers(0, 3 * HOUR_MS), st.integers(-HOUR_MS, 40 * DAY_MS), st.integers(0, 30)
        ),
        st.sampled_from(["automatic"] * 6 + ["named", "undo"]),
        st.sampled_from([True] * 4 + [False]),
    ),
    min_size=10,
    max_size=60,
    unique_by=lambda view: view.snapshot_id,
)


@given(_views)
@settings(max_examples=300)
def test_what_stays_once_stays_at_that_time(views: list[SnapshotView]) -> None:
    """Idempotent: after the expired ones are removed, no other one is expired."""
    assert expired(kept(views, NOW, frozenset()), NOW, set()) == []


@given(_views, st.integers(0, 40 * DAY_MS), st.booleans())
@settings(max_examples=300)
def test_what_is_expired_stays_so(views: list[SnapshotView], later_ms: int, removed: bool) -> None:
    """Monotone in time: whether the collector ran in between or not, the same is left."""
    before = kept(views, NOW, frozenset())
    after = kept(views, NOW + later_ms, frozenset())
    assert {view.snapshot_id for view in after} <= {view.snapshot_id for view in before}
    if removed:
        assert kept(before, NOW + later_ms, frozenset()) == after


@given(_views, st.integers(0, 100 * DAY_MS))
def test_the_newest_complete_one_of_each_agent_stays(
    views: list[SnapshotView], later_ms: int
) -> None:
    """There is always something to go back to."""
    gone = expired(views, NOW + later_ms, set())
    for agent in "ab":
        complete = [view for view in views if view.agent == agent and view.complete]
        newest = max(complete, key=lambda view: (view.created_ms, view.snapshot_id), default=None)
        assert newest is None or newest.snapshot_id not in gone


@given(_views)
def test_neither_order_nor_what_is_in_use_matters_to_others(views: list[SnapshotView]) -> None:
    """The views may come in any order; one that is in use changes nothing but that it stays."""
    gone = expired(views, NOW, set())
    assert expired(reversed(views), NOW, set()) == gone
    assert expired(views, NOW, set(gone[:1])) == gone[1:]
