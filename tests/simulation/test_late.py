"""Agents that come late learn apart and join, and every row and decision is that of the fold."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation import late
from tests.simulation.worker import WatchedCatchUp
from tests.simulation.world import run

STEPS = range(1, 161, 4)
"""From its begin to its joining, catching up takes 50 to 150 steps of its worker."""


def test_a_crash_at_any_step_of_catching_up_is_made_good() -> None:
    """Wherever the next worker finds the shard: in the middle of it, or just joined."""
    seen = Counter[str]()
    for steps in STEPS:
        outcome = run(steps, late.dying_after(steps), late.late)
        assert outcome.problems == [], steps
        seen.update(outcome.counts)
    assert seen["crashes"] > 0.9 * len(STEPS)
    assert seen["crashes while a shard learned apart"] > 0.4 * len(STEPS)
    assert seen["shards that joined"] > len(STEPS)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_commands_crashes_and_rebalances_while_shards_catch_up(first: int) -> None:
    """What comes meanwhile counts where the shard stands, or behind what it decided once."""
    seen = Counter[str]()
    for seed in range(first, first + 10):
        outcome = run(seed, shape=late.commanded)
        assert outcome.problems == [], seed
        seen.update(outcome.counts)
    assert seen["shards that learned apart"] > 10
    assert seen["shards that joined"] > 10


@pytest.mark.parametrize(
    ("catch_up", "told"),
    [
        (late.Early, "is missing"),
        (late.Late, "different decisions"),
        (late.Silent, "it has not caught up"),
    ],
)
def test_a_shard_that_joins_elsewhere_than_it_stands_is_found(
    catch_up: type[WatchedCatchUp], told: str
) -> None:
    """One record too early, one too late, or without the stream that has to go back for it."""
    worlds = (run(seed, late.joining(catch_up), late.late) for seed in range(20))
    assert any(told in problem for world in worlds for problem in world.problems)
