"""Labels: in the event, later, as a value or a change, or never."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.models.decisions import Origin
from headrace.models.labels import LaterLabels, Parked
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.metrics import Guess
from headrace.models.spec import Label, load_spec
from headrace.views import Question
from tests.models.worlds import World, record, records, spec_of

LATER = """
model: linear_model.LinearRegression
label: {later: $.temp, after: 30s, as: %s}
metrics: [MAE]
"""
SECOND = 1000


def readings(count: int, key: str = "m") -> list[dict[str, Any]]:
    """A machine that warms by half a degree each reading."""
    return [{"k": key, "u": 1.0, "temp": 20.0 + n / 2} for n in range(count)]


def test_label_is_learned_when_log_time_has_passed() -> None:
    """A parked event is learned by the first event of its key that comes late enough."""
    world = World(spec_of(LATER % "value", ["u"]))
    times = [0, 0, 0, 29, 30, 31, 31, 31, 31, 31]
    events = readings(len(times))
    learned = []
    for n, (second, event) in enumerate(zip(times, events, strict=True)):
        world.run([record(n, event, at=second * SECOND)])
        learned.append(world.learner.learned)
    # Log time is the median so far: 0 s up to the sixth record, 29 s at the next two, and 30 s at
    # the ninth, where the six that were parked at 0 s are due.
    assert learned == [0, 0, 0, 0, 0, 0, 0, 0, 6, 6]


def test_change_is_the_difference_since_the_event() -> None:
    """`as: change` learns what the field rose by, `as: value` what it became."""
    for kind, expected, rest in (("change", 3.0, 0.0), ("value", 23.0, 23.0)):
        spec = spec_of(LATER % kind, ["u"])
        world = World(spec)
        events = [{"k": "m", "u": 0.0, "temp": 20.0}, {"k": "m", "u": 0.0, "temp": 23.0}]
        world.run([record(0, events[0], at=0)])
        world.run([record(1, events[0], at=0), record(2, events[0], at=0)])
        world.run([record(3 + n, events[1], at=40 * SECOND) for n in range(4)])
        assert world.learner.learned == 6
        # All predictions that were parked said 0.0, so the error is the label itself: three times
        # the expected one, three times that of the three that were parked at 23 degrees.
        assert world.metric("MAE") == pytest.approx((3 * expected + 3 * rest) / 6)


def test_metrics_judge_the_prediction_of_then() -> None:
    """The metric of a later label compares what was predicted when the event was parked."""
    world = World(spec_of(LATER % "change", ["u"]))
    batch = records(readings(400), every=5 * SECOND)
    world.run(batch[:200]).restart().run(batch[200:])
    (view,) = world.learner.metrics()
    assert view.events == world.learner.learned > 300
    assert view.baseline_name == "running mean"  # the change is the same each time
    assert view.value < 3.0  # of a change of 3 degrees in 30 s; the model starts at none


def test_pending_labels_are_bounded() -> None:
    """No more events wait than the spec allows; the oldest go, and are counted."""
    world = World(spec_of(LATER % "value" + "state: {pending_max: 5}\n", ["u"]))
    world.run(records(readings(12)))
    assert world.learner.counters.labels_lost == 7
    assert world.learner.describe("m", 12).pending_labels == 5
    assert world.restart().learner.describe("m", 12).pending_labels == 5


def test_pause_leaves_parked_labels() -> None:
    """During a pause nothing is parked and nothing parked is learned; both go on afterwards."""
    world = World(spec_of(LATER % "value", ["u"]))
    batch = records(readings(300), every=SECOND)
    world.run(batch[:20])
    world.run(batch[20:200], learning=False)
    assert (world.learner.learned, world.learner.describe("m", 200).pending_labels) == (0, 20)
    world.run(batch[200:])
    assert world.learner.learned > 20


def test_missing_label_is_counted() -> None:
    """An event without its label is accepted and decided, not learned."""
    spec = spec_of("model: linear_model.LinearRegression\nlabel: {field: $.y}\n", ["u"])
    world = World(spec).run(records([{"k": "m", "u": 1.0}, {"k": "m", "u": 1.0, "y": None}]))
    counters = world.learner.counters
    assert (counters.accepted, counters.learned, counters.unlabelled) == (2, 0, 2)
    assert len(world.decisions) == 2


def test_detector_learns_without_labels() -> None:
    """An anomaly detector learns from every event; a label only judges it."""
    spec = spec_of(
        "model: [preprocessing.MinMaxScaler, {anomaly.HalfSpaceTrees: {n_trees: 5, height: 4,"
        " window_size: 20}}]\nscope: shared\nlabel: {field: $.y}\nmetrics: [ROCAUC]\n",
        ["u"],
    )
    events: list[dict[str, Any]] = [
        {"k": "m", "u": (n % 7) / 10 + 5 * (n % 40 == 39), "y": n % 40 == 39} for n in range(200)
    ]
    for event in events[:50]:
        event["y"] = None
    batch = records(events)
    whole = World(spec).run(batch)
    world = World(spec).run(batch[:90]).restart().run(batch[90:])
    assert (world.learner.learned, world.learner.unlabelled) == (200, 0)
    assert world.metric("ROCAUC") > 0.9
    assert world.state() == whole.state()


def test_adjustments_are_decided_and_replayed() -> None:
    """A control agent is cold at first, then adjusts by its model, the same in every replay."""
    spec = spec_of(
        LATER
        % "change"
        + "decide: {adjust: {actuator: u, setpoint: 30.0, range: [0, 100], search_step: 5,"
        " max_step: 10, cold: {updates: 5, value: 40}, safe: 0}}\n",
        ["u"],
    )
    events = [{"k": "m", "u": 40.0 + n % 5, "temp": 20.0 + (n % 9) / 2} for n in range(200)]
    batch = records(events, every=5 * SECOND)
    whole = World(spec).run(batch)
    world = World(spec).run(batch[:77]).restart().run(batch[77:])
    assert world.written() == whole.written()
    kinds = [decision.decision for decision in whole.decisions]
    assert kinds[0] == "cold"
    assert kinds[-1] == "model"
    assert all(0 <= (decision.value or 0.0) <= 100 for decision in whole.decisions)
    question = Question(agent="a", key="m", features={"u": 40.0})
    assert whole.learner.predict(question, 200).decision == "not_finite"  # temp is not asked with
    stranger = whole.learner.predict(Question(agent="a", key="x", features={"u": 40.0}), 200)
    assert stranger.standing.cold


def test_what_waits_survives_a_log_time_that_falls() -> None:
    """An event parked at a wrong log time is due `after` the time that was right, not never."""
    rule = LaterLabels(Label(path="$.t", type="number", later=True, after_ms=10), pending_max=9)
    parked = [Parked(since, 0, {}, None, Guess()) for since in (5, 9_000, 10)]
    waiting = rule.restamp(parked, 8)
    assert [p.since for p in waiting] == [5, 8, 8]
    assert len(rule.due(waiting, 18, 1.0)) == 3


def test_an_event_without_the_labelled_field_does_not_stop_its_key() -> None:
    """A reading that lacks the field waits for its label like any other, and is learned."""
    learner = Learner(
        load_spec(
            "agent: a\nsource: {topic: t, key: $.id}\nfeatures: {x: {type: number}}\n"
            "model: linear_model.LinearRegression\nlabel: {later: $.y, after: 5s}\n"
        ),
        Origin("a", 1, 1, "t", 0),
        MemoryRows(),
    )
    for n in range(12):
        body = {"id": "a", "x": 1.0} | ({} if n == 1 else {"y": 2.0})
        one = SimpleNamespace(
            offset=n, timestamp=3_000 * n, key=b"a", value=msgspec.json.encode(body)
        )
        assert learner.step([one]).refusals == []
    assert learner.learned >= 8


def test_an_event_that_breaks_the_model_leaves_what_waits_as_it_was() -> None:
    """At the head of a log, where log time falls: a refused event moves no time of waiting."""
    spec = spec_of(
        "model: {linear_model.LinearRegression: {optimizer: {optim.SGD: {lr: 1e295}}}}\n"
        "label: {later: $.temp, after: 1s}\n",
        ["u"],
    )
    batch = [
        record(0, {"k": "m", "u": 1.0, "temp": 2.0}, at=0),
        record(1, {"k": "m", "u": 1.0, "temp": 2.0}, at=1_500),
        record(2, {"k": "m", "u": 1.0, "temp": 2.0}, at=5_000),
        record(3, {"k": "m", "u": 1e15, "temp": 2.0}, at=0),  # its score is infinite
        record(4, {"k": "m", "u": 1.0, "temp": 2.0}, at=1_600),
    ]
    whole, parts = World(spec).run(batch), World(spec)
    for one in batch:
        parts.run([one]).restart()
    assert [(r.offset, r.code) for r in whole.refusals] == [(3, "score_not_finite")]
    assert parts.state() == whole.state()
