"""Poison: no event stops the stream or spoils a model."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base

from headrace.errors import CorruptStateError
from headrace.models import codec
from headrace.models.row_reading import REMEDY
from headrace.models.slots import JOURNAL_BYTES_MAX
from headrace.models.spec import Spec
from headrace.views import Question
from tests.models.worlds import World, record, records, spec_of

REGRESSION = """
model: linear_model.LinearRegression
label: {field: $.y, range: [-1e300, 1e300]}
metrics: [MAE]
"""


class PanicException(BaseException):
    """As River's Rust extension raises it."""


PanicException.__module__ = "pyo3_runtime"


class Brittle(base.Regressor):
    """Sums its labels; 13 breaks it half-way, 17 panics, 19 leaves it not a number."""

    def __init__(self) -> None:
        self.total = 0.0

    def learn_one(self, x: dict[Hashable, Any], y: float) -> None:
        self.total += y
        if y == 13.0:
            raise ZeroDivisionError("thirteen")
        if y == 17.0:
            raise PanicException("seventeen")
        if y == 19.0:
            self.total = float("nan")

    def predict_one(self, x: dict[Hashable, Any]) -> float:
        return self.total


codec.register(Brittle, "tests.Brittle")


class BrittleSpec(Spec, frozen=True, kw_only=True):
    """A spec whose model is `Brittle`."""

    def build_model(self, key: str) -> Any:
        return Brittle()


def brittle(label: str, extra: str = "") -> Spec:
    spec = spec_of(
        f"model: linear_model.LinearRegression\nlabel: {label}\nmetrics: [MAE]\n{extra}", ["u"]
    )
    return BrittleSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__})


def labelled(values: list[float], key: str = "k") -> list[dict[str, Any]]:
    return [{"k": key, "u": 1.0, "y": value} for value in values]


@pytest.mark.parametrize("scope", ["key", "shared"])
@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("poison", [13.0, 17.0])
def test_broken_model_is_made_again(scope: str, flushed: bool, poison: float) -> None:
    """An event that breaks the model half-way is refused, and the key is as it was before."""
    world = World(brittle("{field: $.y}", f"scope: {scope}\n"))
    world.run(records(labelled([1.0, 2.0])))
    if flushed:
        world.flush()
    world.run([record(2, {"k": "k", "u": 1.0, "y": 4.0})])
    before = world.learner.describe("k", 3).digest
    world.run([record(3, {"k": "k", "u": 1.0, "y": poison})])
    assert [(r.offset, r.code) for r in world.refusals] == [(3, "model_failed")]
    assert world.learner.describe("k", 4).digest == before
    answer = world.learner.predict(Question(agent="a", key="k", features={"u": 1.0}), 4)
    assert (answer.score, answer.standing.updates) == (7.0, 3)
    assert (world.learner.accepted, world.learner.quarantined) == (3, 1)


def test_poison_leaves_no_trace_in_metrics() -> None:
    """Metrics and baselines after poison are those of the stream without it."""
    values = [1.0, 13.0, 2.0, 17.0, 4.0]
    poisoned = World(brittle("{field: $.y}")).run(records(labelled(values)))
    clean = World(brittle("{field: $.y}")).run(records(labelled([1.0, 2.0, 4.0])))
    assert poisoned.learner.metrics() == clean.learner.metrics()


def test_not_finite_score_is_refused() -> None:
    """A model that turned not-a-number inside is not asked twice: its score is refused."""
    world = World(brittle("{field: $.y}")).run(records(labelled([1.0, 19.0, 3.0])))
    assert [r.code for r in world.refusals] == ["score_not_finite"]


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.sampled_from([1.0, 2.0, 13.0, 17.0]), max_size=20), cut=st.integers(0, 20)
)
def test_replay_with_poison_is_exact(values: list[float], cut: int) -> None:
    """Poison is refused alike in every replay, whatever was flushed before it."""
    batch = records(labelled(values))
    whole = World(brittle("{field: $.y}")).run(batch)
    parts = World(brittle("{field: $.y}")).run(batch[:cut]).restart().run(batch[cut:])
    assert parts.refusals == whole.refusals
    assert parts.state() == whole.state()


def test_parked_poison_is_dropped() -> None:
    """A parked event whose label breaks the model goes, so that it breaks no later event."""
    spec = brittle("{later: $.y, after: 1s}")
    events = labelled([1.0, 1.0, 13.0, 5.0, 5.0])
    world = World(spec).run([record(n, event, at=n * 3000) for n, event in enumerate(events)])
    assert [r.code for r in world.refusals] == ["model_failed"]
    assert "offset 0" in world.refusals[0].text
    assert world.learner.counters.labels_lost == 1
    assert world.learner.accepted == 4


@pytest.mark.parametrize("y", [1e308, -1e300, 1e200])
def test_enormous_label_cannot_spoil(y: float) -> None:
    """A label that would overflow the weights is refused, or learned with all still finite."""
    good = [{"k": "k", "u": 1e3, "y": 2.0}] * 3
    bold = "{optimizer: {optim.SGD: {lr: 1e5}}, clip_gradient: 1e308}"
    name = "linear_model.LinearRegression"
    spec = spec_of(REGRESSION.replace(name, f"{{{name}: {bold}}}"), ["u"])
    world = World(spec).run(records(good[:1]))
    for n in range(1, 41):
        world.run([record(n, {"k": "k", "u": 1e3, "y": y}, at=1)])
    answer = world.learner.predict(Question(agent="a", key="k", features={"u": 1e3}), 41)
    assert answer.score is not None
    assert {r.code for r in world.refusals} <= {"model_not_finite", "out_of_range"}
    assert world.refusals


def test_bad_events_leave_the_model_alone() -> None:
    """Bad JSON, wrong types, NaN, foreign keys: refused with a code, the key untouched."""
    world = World(spec_of(REGRESSION, ["u"])).run(records(labelled([1.0, 2.0])))
    before = world.learner.describe("k", 2).digest
    bad: list[dict[str, Any] | bytes] = [
        b"{nonsense", b'{"k": "k", "u": NaN}', b"[]", {"k": "k", "u": "high", "y": 1.0},
        {"k": "k", "y": 1.0}, {"k": "k", "u": 1e308, "y": 1.0},
    ]  # fmt: skip
    world.run([record(2 + n, event) for n, event in enumerate(bad)])
    assert [refusal.offset for refusal in world.refusals] == [2, 3, 4, 5, 6, 7]
    assert world.learner.describe("k", 8).digest == before
    assert world.learner.quarantined == 6


def test_row_that_outgrows_its_bound_stops_learning() -> None:
    """A key whose model is larger than the spec allows decides on, but learns no more."""
    spec = spec_of(
        "model: tree.HoeffdingTreeRegressor\nlabel: {field: $.y}\nstate: {row_bytes_max: 1024}\n",
        ["u"],
    )
    events = [{"k": "k", "u": n / 7, "y": float(n % 5)} for n in range(200)]
    world = World(spec).run(records(events)).restart()
    assert (world.learner.learned, world.learner.counters.keys_full) == (64, 1)
    assert len(world.decisions) == 200
    world.run([record(200, events[0])])
    assert world.learner.learned == 64


def test_altered_row_is_refused() -> None:
    """A row with one flipped bit is not decoded: the operator is told."""
    world = World(spec_of(REGRESSION, ["u"])).run(records(labelled([1.0, 2.0]))).restart()
    row = bytearray(world.rows.rows[b"k/k"])
    row[-3] ^= 1
    world.rows.rows[b"k/k"] = bytes(row)
    with pytest.raises(CorruptStateError):
        world.run([record(2, labelled([1.0])[0])])


@pytest.mark.parametrize("name", [b"k/k", b"s/counters", b"s/logtime", b"s/metrics"])
def test_a_row_that_cannot_be_read_tells_its_remedy_once(name: bytes) -> None:
    """Whichever row it is, the operator reads what to do, in one sentence."""
    world = World(spec_of(REGRESSION, ["u"])).run(records(labelled([1.0, 2.0]))).restart()
    world.rows.rows[name] = b"\xc1" + world.rows.rows[name][1:]
    with pytest.raises(CorruptStateError) as caught:
        world.restart().run([record(2, labelled([1.0])[0])])
    assert str(caught.value).count(REMEDY) == 1


def test_a_journal_of_large_events_begins_anew_before_its_bound() -> None:
    """Large events make the model a starting point early, and a broken one is still made again."""
    world = World(brittle("{field: $.y}"))
    padding = "x" * (JOURNAL_BYTES_MAX // 5)
    events = [{"k": "k", "u": 0.0, "y": float(n), "rest": padding} for n in range(12)]
    world.run(records(events))
    slot = world.learner._engine.slots.touch("k", 12)
    assert slot.base is not None
    assert slot.journal is not None
    assert len(slot.journal) == 2
    assert 2 * len(padding) < slot.journal_bytes < JOURNAL_BYTES_MAX
    before = world.learner.describe("k", 12).digest
    world.run([record(12, {"k": "k", "u": 0.0, "y": 13.0})])
    assert [refusal.code for refusal in world.refusals] == ["model_failed"]
    assert world.learner.describe("k", 13).digest == before
    assert slot.journal_bytes == 0


def test_what_was_lost_can_be_asked() -> None:
    """Labels that are dropped and keys that are full are counted where others can read them."""
    label = "label: {later: $.y, after: 10s, as: value}"
    spec = spec_of(
        f"model: linear_model.LinearRegression\n{label}\nstate: {{pending_max: 1}}", ["u"]
    )
    learner = World(spec).run(records(labelled([1.0, 2.0, 3.0]))).learner
    assert (learner.labels_lost, learner.keys_full, learner.unlabelled) == (2, 0, 0)


def test_rows_are_plain_data() -> None:
    """Counters, log time and metrics are readable without River."""
    rows = World(spec_of(REGRESSION, ["u"])).run(records(labelled([1.0, 2.0]))).state()
    assert sorted(rows) == [b"k/k", b"s/counters", b"s/logtime", b"s/metrics"]
    assert msgspec.msgpack.decode(rows[b"s/counters"])[:3] == [2, 0, 2]
