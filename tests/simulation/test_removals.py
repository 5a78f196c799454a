"""With each protection taken away, a few worlds are enough to see that it is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.models.learner import Learner
from tests.simulation import removals
from tests.simulation.world import Change, run

FIRST, WORLDS_MAX = 48, 40


def found(told: str, change: Change = lambda parts: parts) -> bool:
    """Whether one of a few worlds has a problem of which this is told."""
    seeds = range(FIRST, FIRST + WORLDS_MAX)
    return any(told in " ".join(run(seed, change).problems) for seed in seeds)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (removals.without_acknowledgements, "became durable before the decisions"),
        (removals.without_acknowledgements_unwatched, "is missing"),
        (removals.without_gap_guard, "is missing"),
        (removals.without_durable_commits, "was committed, but"),
        (removals.without_effects_read_back, "says"),
    ],
)
def test_a_protection_of_the_order_is_missed(change: Change, told: str) -> None:
    """Acknowledge, write, commit; no gap; no event between a command and its place in the log."""
    assert found(told, change)


def test_skipping_what_was_learned_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that learns again what its state holds already is found."""
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Unskipping)
    assert found("different decisions")


def test_a_shard_that_outlives_its_delete_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision behind the position of the delete is found."""
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Undying)
    assert found("which must have none")


@pytest.mark.parametrize(
    ("learner", "told"),
    [(removals.LenientLearner, "is missing"), (removals.HalfLearner, "says updates")],
)
def test_quarantine_before_learning_is_missed(
    monkeypatch: pytest.MonkeyPatch, learner: Callable[..., Learner], told: str
) -> None:
    """A learner that learns from a bad event, wholly or by half, is found."""
    monkeypatch.setattr("headrace.pipelines.shards.Learner", learner)
    assert found(told)
