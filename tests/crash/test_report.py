"""A long campaign passes only if it killed often enough everywhere and nothing differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.crash.aims import POINTS
from tests.crash.campaign import Left
from tests.crash.plan import full
from tests.crash.report import AIMED_MIN, KILLS_MIN, Outcome
from tests.crash.verdict import Verdict


def outcome(kills: Counter[str], *differences: str) -> Outcome:
    left = Left("crash", Path("state"), (), kills, Path("repository"))
    return Outcome(left, Verdict(wrong=len(differences), differences=list(differences)), 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_every_plan_kills_often_enough(seed: int) -> None:
    """Whatever the seed, each point is aimed at often enough, and there are forty kills."""
    planned = Counter[str](life.ending for life in full("crash", seed).lives)
    assert all(planned[point] >= AIMED_MIN[point] for point in POINTS)
    assert planned.total() - planned["sigterm"] >= KILLS_MIN
    assert planned["sigterm"] >= 3
    assert outcome(planned).failings() == []
    assert outcome(planned).as_json()["passed"] is True


def test_a_difference_fails_a_campaign() -> None:
    """One sentence of the comparison is enough."""
    planned = Counter[str](life.ending for life in full("crash", 1).lives)
    failed = outcome(planned, "fraud/1[0]: the decision on offset 3 is missing")
    assert failed.failings() == ["fraud/1[0]: the decision on offset 3 is missing"]
    assert failed.as_json()["passed"] is False


def test_too_few_kills_fail_a_campaign() -> None:
    """A point that was missed too often is told, and so is the sum."""
    kills = Counter[str](AIMED_MIN)
    kills.update(written=-2, sigterm=3)
    assert outcome(kills).failings() == [
        "there were 39 kills, fewer than 40",
        "there were 3 kills at written, fewer than 5",
    ]
