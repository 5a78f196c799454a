"""What another state would decide, and which keys are in another state."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from headrace.models.comparison import ROWS_READ_MAX, KeyChanges, changed_keys, compare
from headrace.models.decisions import Decision
from headrace.models.event_file import Row
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.reverting import whole
from headrace.models.spec import Emit
from headrace.models.stored import read, written
from tests.models.histories import LATER, ORIGIN, SPECS, Watched, copied, records, step
from tests.models.worlds import World, record, spec_of

EACH = pytest.mark.parametrize("name", sorted(SPECS))


def two_states(name: str) -> tuple[MemoryRows, MemoryRows]:
    """The rows of now, and those of some time before."""
    spec = SPECS[name]
    then = MemoryRows()
    step(spec, then, records(5, 60))
    now = copied(then)
    step(spec, now, records(5, 90, first=60))
    return now, then


@EACH
def test_reads_change_nothing(name: str) -> None:
    """Neither state's rows are other ones afterwards."""
    now, then = two_states(name)
    before = dict(now.rows), dict(then.rows)
    compare(SPECS[name], now, then, records(5, 40, first=150))
    assert (now.rows, then.rows) == before


@EACH
def test_a_state_agrees_with_itself(name: str) -> None:
    """The same state flips no decision and has the same metrics."""
    now, _ = two_states(name)
    compared = compare(SPECS[name], now, copied(now), records(5, 40, first=150))
    assert compared.decisions_compared > 25
    assert compared.decisions_flipped == 0
    assert all(change.now == change.then for change in compared.metrics)


def _deed(decision: Decision) -> Any:
    score = decision.score if decision.decision == "score" else None
    items = [scored.item for scored in decision.items or ()]
    return decision.decision, decision.value, items, score


@EACH
def test_decisions_are_those_of_a_paused_learner(name: str) -> None:
    """What is compared is what a shard would decide on those events without learning."""
    spec = SPECS[name]
    now, then = two_states(name)
    reverted = copied(then, whole(spec, then, now))
    batch = records(5, 40, first=150)
    everything = msgspec.structs.replace(spec, emit=Emit(topic=spec.emit_topic))
    # Their timestamps stand still, as the log time does in a comparison.
    at = Learner(spec, ORIGIN, now).log_time
    still = [Row(row.offset, at, row.key, row.value) for row in batch]
    one, other = (
        {d.position.offset: d for d in Learner(everything, ORIGIN, rows).step(
            still, learning=False).decisions}
        for rows in (now, reverted)
    )  # fmt: skip
    flipped = sum(_deed(decision) != _deed(other[offset]) for offset, decision in one.items())
    compared = compare(spec, now, reverted, batch)
    assert compared.decisions_compared == len(one)
    assert compared.decisions_flipped == flipped


def test_metrics_are_those_of_the_two_models() -> None:
    """Over events with their label, each state's metric is what its own predictions reach."""
    spec = SPECS["fraud"]
    now, then = two_states("fraud")
    batch = records(5, 80, first=150)
    (change,) = (c for c in compare(spec, now, then, batch).metrics if c.name == "Accuracy")
    for rows, value in ((now, change.now), (then, change.then)):
        learner = Learner(msgspec.structs.replace(spec, emit=Emit(topic="d")), ORIGIN, rows)
        right = total = 0
        for decision in learner.step(batch, learning=False).decisions:
            row = batch[decision.position.offset - 150]
            truth = json.loads(row.value or b"")["y"] if row.value else None
            if truth is not None and decision.score is not None:
                total += 1
                right += (decision.score > 0.5) == truth
        assert change.events == total
        assert value == pytest.approx(right / total)


@pytest.mark.parametrize("name", LATER)
def test_later_labels_have_no_metrics(name: str) -> None:
    """The label of a recent event has not come with it: a note says so."""
    now, then = two_states(name)
    compared = compare(SPECS[name], now, then, records(5, 40, first=150))
    assert compared.metrics == ()
    assert "labels come later" in compared.note


def test_a_recommender_is_compared_by_its_items() -> None:
    """Another list of items is another decision; hits are counted for both."""
    now, then = two_states("top")
    compared = compare(SPECS["top"], now, then, records(5, 60, first=150))
    assert 0 < compared.decisions_flipped <= compared.decisions_compared
    assert [change.name for change in compared.metrics] == ["recall@5"]


def test_what_is_not_compared_is_counted() -> None:
    """Events that the guard refuses are no decisions, and none of none is not nothing flipped."""
    now, then = two_states("fraud")
    compared = compare(SPECS["fraud"], now, then, [record(200, {"k": "ada"})])
    assert (compared.decisions_compared, compared.metrics) == (0, ())
    assert (compared.refused, compared.failed) == (1, 0)


def test_a_state_older_than_the_idle_time_is_said() -> None:
    """By the log times of the two states; one that is younger has no such note."""
    text = "model: linear_model.LinearRegression\nlabel: {field: $.y}\nstate: {idle_ttl: 1h}\n"
    spec = spec_of(text, ["u"])
    hour_ms = 3_600_000
    old, near, now = World(spec), World(spec), World(spec)
    for world, at_ms in ((old, 0), (near, 2 * hour_ms), (now, 2 * hour_ms + 60_000)):
        events = [record(n, {"k": "ada", "u": 1.0, "y": 1.0}, at=at_ms + n) for n in range(101)]
        world.run(events).flush()
    assert "older than state.idle_ttl" in compare(spec, now.rows, old.rows, []).note
    assert "idle_ttl" not in compare(spec, now.rows, near.rows, []).note


def test_a_state_that_fails_is_flipped() -> None:
    """Where one state has no finite score, the other would decide otherwise."""
    text = "model: linear_model.LinearRegression\nlabel: {field: $.y}\n"
    spec = spec_of(text, ["u"])
    then, now = World(spec), World(spec)
    now.run([record(0, {"k": "ada", "u": 1.0, "y": 1.0})]).flush()
    then.run([record(0, {"k": "ada", "u": 1e15, "y": 1e15})]).flush()
    slot = read(b"k/ada", then.rows.rows[b"k/ada"])
    model = then.learner._engine.slots.touch("ada", 0).model
    model.intercept = float("inf")
    slot.model = then.learner._engine.form.encode(model)  # type: ignore[union-attr]
    then.rows.rows[b"k/ada"] = written(slot)
    batch = [record(1, {"k": "ada", "u": 1.0, "y": 1.0})]
    compared = compare(spec, now.rows, then.rows, batch)
    assert (compared.decisions_compared, compared.decisions_flipped) == (1, 1)
    both = compare(spec, then.rows, then.rows, batch)
    assert (both.decisions_compared, both.failed) == (0, 1)


def test_changed_keys_are_counted() -> None:
    """A key counts if it is new, gone, or has another model: what waits, and when, is none."""
    spec = SPECS["forecast"]
    then = MemoryRows()
    step(spec, then, records(5, 60, keys=["ada", "bob", "eve"]))
    now = copied(then)
    step(spec, now, records(5, 60, first=60, keys=["ada", "new"]))
    slot = read(b"k/bob", now.rows[b"k/bob"])
    slot.last_seen, slot.last_learned = slot.last_seen + 1, slot.last_learned + 1
    slot.waiting = ()
    now.rows[b"k/bob"] = written(slot)
    del now.rows[b"k/eve"]
    assert changed_keys(now, then) == (3, 4, True)
    assert changed_keys(then, now) == (3, 4, True)
    assert changed_keys(now, now) == (0, 3, True)


def test_few_rows_are_read() -> None:
    """Beyond the bound the look ends, and says that there may be more."""
    now, then = two_states("fraud")
    watched = Watched(now), Watched(then)
    assert changed_keys(*watched, limit=4) == KeyChanges(2, 2, complete=False)
    assert sum(len(rows.read) for rows in watched) <= 6
    assert changed_keys(now, then, ROWS_READ_MAX).complete
