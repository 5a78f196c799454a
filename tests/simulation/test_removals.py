"""With each protection taken away, a few worlds are enough to see that it is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from headrace.models.learner import Learner
from tests.simulation import removals
from tests.simulation.parts import Parts
from tests.simulation.world import Change, Shape, run

WORLDS_MAX = 100


def _whole(parts: Parts) -> Parts:
    """Nothing is taken from the worker's parts; a patch may have done so."""
    return parts


def found(
    told: str,
    change: Change = _whole,
    shape: Shape = lambda plan: plan,
    *,
    first: int = 0,
) -> bool:
    """Whether one of a few worlds has a problem of which this is told, and none if nothing is taken
    from it by `change`. `first` is where the search begins: where one was seen, if that was not
    among the first few.
    """
    for seed in range(first, first + WORLDS_MAX):
        if any(told in problem for problem in run(seed, change, shape).problems):
            return change is _whole or not run(seed, shape=shape).problems
    return False


@pytest.mark.parametrize(
    ("change", "told", "first"),
    [
        (removals.without_acknowledgements, "became durable before the decisions", 0),
        (removals.without_acknowledgements_unwatched, "is missing", 26),
        (removals.without_gap_guard, "is missing", 7),
        (removals.without_durable_commits, "was committed, but", 0),
    ],
)
def test_a_protection_of_the_order_is_missed(change: Change, told: str, first: int) -> None:
    """Acknowledge, write, commit; no gap."""
    assert found(told, change, first=first)


def test_a_command_that_counts_from_another_place_than_the_log_says_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash before its place is in the log, and it counts from another event than the models
    remember; a place before what is decided already, and those decisions are of another state.
    """
    pauses = removals.crashes_among_pauses
    assert found("says updates", removals.without_effects_read_back, pauses)
    assert not any(run(seed, shape=pauses).problems for seed in range(5))
    monkeypatch.setattr("headrace.pipelines.shards.Opening", removals.ForgetfulOpening)
    assert found("says updates", shape=pauses)


def test_skipping_what_was_learned_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that learns again what its state holds already is found."""
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Unskipping)
    assert found("different decisions")


def test_a_chunk_on_its_way_to_a_new_shard_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard opened behind what is being read, that does not wait for what it lacks, is found."""
    deploys = removals.deploys_among_events
    assert not any(run(seed, shape=deploys).problems for seed in range(2))
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Hasty)
    assert found("the decision on offset 0 is missing", shape=deploys, first=4)


def test_a_shard_that_outlives_its_delete_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision behind the position of the delete is found."""
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Undying)
    assert found("which must have none", first=11)


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


def test_a_rollback_that_counts_before_the_log_says_where_is_found() -> None:
    """A crash before its effect is in the log, and the new epoch began at another event."""
    crashes = removals.crashes_among_rollbacks
    assert not any(run(seed, shape=crashes).problems for seed in range(5))
    assert found("says id", removals.without_effects_read_back, crashes)


def test_an_epoch_that_begins_before_its_boundary_is_acknowledged_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state of it is on the disk, and after a crash nobody sends the boundary any more."""
    rollbacks = removals.rollbacks_among_events
    early = "was durable before its boundary was acknowledged"
    assert found(early, removals.without_acknowledged_boundaries, rollbacks)
    send = "headrace.pipelines.replacement.boundaries"
    monkeypatch.setattr(send, SimpleNamespace(send=removals.late_boundary))
    assert found("it is missing", shape=rollbacks)
    assert found("a decision of its own epoch comes before it", shape=rollbacks)


def test_a_migration_that_counts_before_the_log_says_where_is_found() -> None:
    """A crash before its effect is in the log, and the new spec began at another event."""
    migrations = removals.migrations_among_events
    assert not any(run(seed, shape=migrations).problems for seed in range(5))
    assert found("says spec_version", removals.without_effects_read_back, migrations)


def test_a_state_that_is_taken_for_one_of_another_spec_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that starts with the newest spec whatever the epoch of its state."""
    monkeypatch.setattr("headrace.pipelines.shards.spec_of", removals.newest_spec)
    assert found("events", shape=removals.migrations_among_events)


def test_a_forget_that_ends_with_its_agent_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent is told to forget, deleted before it has, and deployed again: it has forgotten."""
    forgets = removals.forgets_before_deletes
    assert not any(run(seed, shape=forgets).problems for seed in range(5))
    monkeypatch.setattr("headrace.pipelines.shards.Opening", removals.UnsettledOpening)
    assert found("is not honoured", shape=forgets)


def test_a_rollback_of_what_is_not_durable_yet_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shard has learned since its last flush is not in what is kept for the new epoch."""
    monkeypatch.setattr("headrace.pipelines.shards.Shard", removals.Unsettled)
    assert found("says updates", shape=removals.rollbacks_among_events)


def test_a_snapshot_that_is_vouched_for_before_it_is_there_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is lost before the manifest is in the repository, and a rollback goes back to it."""
    losses = removals.rollbacks_after_losses
    assert not any(run(seed, shape=losses).problems for seed in range(5))
    monkeypatch.setattr("tests.simulation.worker.Vault", removals.HastyVault)
    assert found("is missing, although its digest is known", shape=losses)
