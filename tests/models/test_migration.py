"""Models that have learned go on under a new spec, or the deploy is refused and says why."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from river import optim

from headrace.errors import SpecError
from headrace.models import codec
from headrace.models.forms import RiverForm, form_of
from headrace.models.keyed import Counters
from headrace.models.learner import COUNTERS_ROW, LOGTIME_ROW, Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.metrics import ROW as METRICS_ROW
from headrace.models.migration import keep_problems, migrated, resumed
from headrace.models.parameter_changes import changes_between
from headrace.models.spec import Spec, load_spec
from headrace.models.stored import read
from tests.models.histories import ORIGIN, SPECS, Watched, copied, records, step
from tests.models.instances import instances
from tests.models.worlds import World, record, spec_of
from tests.models.worlds import records as records_of

EACH = pytest.mark.parametrize("name", sorted(SPECS))
PLAIN = """
model: [preprocessing.StandardScaler,
        {linear_model.LinearRegression: {optimizer: {optim.SGD: {lr: 0.01}}, l2: 0.0}}]
label: {field: $.y}
metrics: [MAE]
"""
TREE = """
model: [preprocessing.StandardScaler, {tree.HoeffdingTreeRegressor: {grace_period: 20, tau: 0.05}}]
label: {field: $.y}
"""
LOGISTIC = """
model: {linear_model.LogisticRegression: {optimizer: {optim.Adam: {lr: 0.01}}, l2: 0.1}}
label: {field: $.y, type: boolean}
"""


def stream(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"k": f"k{n % 3}", "u": (n * 37 % 101) / 50, "v": (n * 53 % 97) / 50,
         "y": int((n * 37 % 101) > (n * 53 % 97))}
        for n in range(first, first + count)
    ]  # fmt: skip


def changed(text: str, *pairs: tuple[str, str]) -> Spec:
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    return spec_of(text, ["u", "v"])


def kept(old: Spec, new: Spec, rows: MemoryRows) -> MemoryRows:
    """The rows after a deploy of `new` that keeps the models."""
    return copied(rows, migrated(old, new, rows))


@EACH
def test_an_identical_spec_changes_no_byte(name: str) -> None:
    """Nothing is written, and no key's row is read."""
    spec, rows = SPECS[name], MemoryRows()
    step(spec, rows, records(4, 60))
    watched = Watched(rows)
    assert keep_problems(spec, load_spec(spec.canonical())) == []
    assert list(migrated(spec, load_spec(spec.canonical()), watched)) == []
    assert watched.read == []


CARRIED = [
    (PLAIN, [("lr: 0.01", "lr: 0.05")],
     {"LinearRegression": {"optimizer": {"lr": optim.schedulers.Constant(0.05)}}}),
    (PLAIN, [("{lr: 0.01}", "{lr: {optim.schedulers.InverseScaling: {learning_rate: 0.1}}}")],
     {"LinearRegression": {"optimizer": {"lr": optim.schedulers.InverseScaling(0.1)}}}),
    (PLAIN, [("l2: 0.0", "l2: 0.5")], {"LinearRegression": {"l2": 0.5}}),
    (PLAIN.replace("l2: 0.0", "l2: 0.5"), [("l2: 0.5", "l2: 0.0")],
     {"LinearRegression": {"l2": 0.0}}),
    (PLAIN, [("l2: 0.0", "loss: optim.losses.Absolute")],
     {"LinearRegression": {"loss": optim.losses.Absolute()}}),
    (TREE, [("tau: 0.05", "tau: 0.2"), ("grace_period: 20", "grace_period: 5")],
     {"HoeffdingTreeRegressor": {"tau": 0.2, "grace_period": 5}}),
    (LOGISTIC, [("lr: 0.01", "lr: 0.2")],
     {"optimizer": {"lr": {"learning_rate": 0.2}}}),
    (LOGISTIC + "scope: shared\n", [("lr: 0.01", "lr: 0.2"), ("l2: 0.1", "l2: 0.2")],
     {"l2": 0.2, "optimizer": {"lr": {"learning_rate": 0.2}}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "pairs", "mutation"), CARRIED)
def test_models_go_on_as_if_river_had_mutated_them(
    text: str, pairs: list[tuple[str, str]], mutation: dict[str, Any]
) -> None:
    """After keep each model is the one that River's `mutate` gives, and learns on like it: bit for
    bit, River's own objects and compiled ones alike.
    """
    old, new = spec_of(text, ["u", "v"]), changed(text, *pairs)
    assert keep_problems(old, new) == []
    rows = World(old).run(records_of(stream(60))).flush().rows
    after = kept(old, new, rows)
    learner = Learner(new, ORIGIN, after)
    outcome = learner.step([record(60 + n, event) for n, event in enumerate(stream(60, 60))])
    assert len(outcome.decisions) == 60
    ended = copied(after, learner.changed())
    names = [b"s/model"] if new.shared else [b"k/k0", b"k/k1", b"k/k2"]
    for row in names:
        model = codec.decode(read(row, rows.rows[row]).model)
        model.mutate(mutation)
        assert read(row, after.rows[row]).model == codec.encode(model)
        for event in stream(60, 60):
            if new.shared or row == b"k/" + event["k"].encode():
                y = bool(event["y"]) if new.kind == "binary" else float(event["y"])
                model.learn_one({"u": event["u"], "v": event["v"]}, y)
        assert read(row, ended.rows[row]).model == codec.encode(model)


def test_nothing_but_the_model_changes_in_a_row() -> None:
    """Baseline, counts, times and what waits for its label go on as they were."""
    old = SPECS["heating"]
    new = load_spec(old.canonical().replace(b'"lr":0.01', b'"lr":0.5'))
    rows = MemoryRows()
    step(old, rows, records(4, 60))
    after = kept(old, new, rows)
    assert set(after.rows) == set(rows.rows)
    for row, data in rows.scan(b""):
        if not row.startswith(b"k/"):
            assert after.rows[row] == data
            continue
        before, now = read(row, data), read(row, after.rows[row])
        assert now.model != before.model
        now.model = before.model
        assert now == before
    step(new, after, records(4, 60, first=60))
    assert Learner(new, ORIGIN, after).learned > Learner(old, ORIGIN, rows).learned


def test_a_replaced_part_is_seeded_by_its_key() -> None:
    """What comes new draws what a new model of that key would draw."""
    old = changed(PLAIN, ("l2: 0.0", "l2: 0.1"))
    new = changed(PLAIN, ("l2: 0.0", "l2: 0.1, initializer: {optim.initializers.Normal: {}}"))
    rows = World(old).run(records_of(stream(12))).flush().rows
    after = kept(old, new, rows)
    for key in ("k0", "k1"):
        model = codec.decode(read(b"k/k0", after.rows[f"k/{key}".encode()]).model)
        fresh = new.build_model(key)
        one, other = (list(m.steps.values())[-1].initializer for m in (model, fresh))
        assert codec.encode(one) == codec.encode(other)


@pytest.mark.parametrize("name", ["fraud", "visits", "tree", "colours", "later-shared", "strange"])
def test_features_may_be_added(name: str) -> None:
    """Models meet a feature that is new to them, and one that is missing now, and learn on."""
    old = SPECS[name]
    data = msgspec.json.decode(old.canonical())
    first = next(iter(data["features"]))
    data["features"][first]["missing"] = "skip"
    data["features"]["v9"] = {"type": "number", "missing": "skip", "range": [0, 1]}
    new = load_spec(msgspec.json.encode(data))
    assert keep_problems(old, new) == []
    assert isinstance(form_of(new), RiverForm)
    rows = MemoryRows()
    step(old, rows, records(4, 60))
    assert list(migrated(old, new, rows)) == []
    path = data["features"][first]["path"].removeprefix("$.")
    batch = []
    for n, row in enumerate(records(4, 60, first=60, keys=["ada"])):
        try:
            event = json.loads(row.value or b"")
        except ValueError:
            continue
        if isinstance(event, dict) and n % 2:
            event["v9"] = 0.5
            event.pop(path, None)
            row = row._replace(value=json.dumps(event).encode())
        batch.append(row)
    codes = {refusal.code for refusal in step(new, rows, batch).refusals}
    assert not codes & {"model_failed", "model_not_finite", "score_not_finite"}
    assert Learner(new, ORIGIN, rows).learned > 60


def test_another_set_of_metrics_begins_anew() -> None:
    """A new metric has no past, the others begin with it again, and the model goes on."""
    old = spec_of(PLAIN, ["u", "v"])
    new = changed(PLAIN, ("[MAE]", "[MAE, RMSE]"))
    rows = World(old).run(records_of(stream(60))).flush().rows
    after = kept(old, new, rows)
    assert [(view.name, view.events) for view in Learner(new, ORIGIN, after).metrics()] == [
        ("MAE", 0), ("RMSE", 0),
    ]  # fmt: skip
    assert after.rows[b"k/k0"] == rows.rows[b"k/k0"]
    assert msgspec.msgpack.decode(after.rows[b"s/counters"], type=Counters).learned == 60


def test_a_policy_may_change() -> None:
    """Thresholds, bounds of the state and what is emitted are no state: nothing is written."""
    old = SPECS["fraud"]
    data = msgspec.json.decode(old.canonical())
    data["decide"] = {"verdict": {"stop": 0.9, "else": "go"}}
    data["state"] |= {"hot_keys_max": 7, "idle_ttl": "5d"}
    data["features"]["v0"]["range"] = [-5, 5]
    data["source"].pop("time")
    new = load_spec(msgspec.json.encode(data))
    rows = MemoryRows()
    step(old, rows, records(4, 60))
    assert keep_problems(old, new) == []
    assert list(migrated(old, new, rows)) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: d.update(agent="b"), "$.agent"),
        (lambda d: d["source"].update(topic="u"), "$.source.topic"),
        (lambda d: d["source"].update(key="$.other"), "$.source.key"),
        (lambda d: d.update(scope="shared"), "$.scope"),
        (lambda d: d["label"].update(field="$.z"), "$.label.path"),
        (lambda d: d.update(label={"later": "$.y", "after": "1s", "type": "number"}),
         "$.label.later"),
        (lambda d: d["features"].pop("u"), "$.features.u"),
        (lambda d: d.update(features=dict(reversed(d["features"].items()))), "$.features"),
        (lambda d: d["features"].update(w={"type": "number"}), "$.features.w.missing"),
        (lambda d: d["features"]["u"].update(path="$.w"), "$.features.u.path"),
        (lambda d: d["features"]["u"].update(missing={"value": 1.0}), "$.features.u.missing"),
        (lambda d: d["features"].update(u={"type": "boolean"}), "$.features.u.type"),
        (lambda d: d.update(model="linear_model.LinearRegression"), "$.model"),
        (lambda d: d["model"].insert(0, "preprocessing.MinMaxScaler"), "$.model"),
        (lambda d: d["model"].__setitem__(0, "preprocessing.MinMaxScaler"), "$.model[0]"),
        (lambda d: d["model"].__setitem__(0, {"preprocessing.StandardScaler": {"with_std": False}}),
         "$.model[0].preprocessing.StandardScaler.with_std"),
        (lambda d: _parameters(d).update(intercept_init=1.0),
         "$.model[1].linear_model.LinearRegression.intercept_init"),
        (lambda d: _parameters(d).update(optimizer="optim.Adam"),
         "$.model[1].linear_model.LinearRegression.optimizer"),
        (lambda d: (_parameters(d).pop("l2"), _parameters(d).update(l1=0.1)), "$.model"),
    ],
)  # fmt: skip
def test_what_differs_is_refused_with_its_path(change: Any, path: str) -> None:
    """Whatever a model cannot go on under is told, and nothing is written."""
    old = spec_of(PLAIN, ["u", "v"])
    data = msgspec.json.decode(old.canonical())
    change(data)
    new = load_spec(msgspec.json.encode(data))
    assert path in [violation.path for violation in keep_problems(old, new)]
    with pytest.raises(SpecError):
        migrated(old, new, MemoryRows())


def _parameters(data: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = data["model"][1]["linear_model.LinearRegression"]
    return parameters


def test_all_problems_are_told_at_once() -> None:
    """Whoever reads the refusal has to deploy only once more."""
    old = spec_of(PLAIN, ["u", "v"])
    data = msgspec.json.decode(old.canonical())
    data["label"]["field"] = "$.z"
    data["features"].pop("v")
    _parameters(data)["intercept_init"] = 1.0
    assert len(keep_problems(old, load_spec(msgspec.json.encode(data)))) == 3


def test_a_parameter_that_is_kept_twice_is_refused() -> None:
    """River's `mutate` sets the rule set's `fading_factor` and not that of the rule in it."""
    text = "model: {rules.AMRules: {fading_factor: 0.9}}\nlabel: {field: $.y}\nscope: shared\n"
    old, new = spec_of(text, ["u"]), spec_of(text.replace("0.9", "0.8"), ["u"])
    (problem,) = keep_problems(old, new)
    assert (problem.path, "more places" in problem.text) == ("$.model", True)


RANKER = """
agent: a
source: {topic: t, key: $.k}
item: {field: $.item}
model: {reco.BiasedMF: {n_factors: 3, l2_bias: 0.0, bias_optimizer: {optim.SGD: {lr: 0.01}}}}
scope: shared
label: {field: $.v3}
"""


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("lr: 0.01", "lr: 0.1", None),
        ("l2_bias: 0.0", "l2_bias: 0.1", None),
        ("n_factors: 3", "n_factors: 4", "$.model.reco.BiasedMF.n_factors"),
        ("optim.SGD", "optim.Momentum", "$.model.reco.BiasedMF.bias_optimizer"),
        (
            "l2_bias: 0.0",
            "weight_initializer: {optim.initializers.Normal: {sigma: 0.1}}",
            "$.model",
        ),
    ],
)
def test_recommenders_take_new_parameters_from_the_spec(
    before: str, after: str, path: str | None
) -> None:
    """Their rows hold none, so nothing is written; what the rows do not fit is refused."""
    old, new = load_spec(RANKER), load_spec(RANKER.replace(before, after))
    problems = keep_problems(old, new)
    assert [problem.path for problem in problems] == ([] if path is None else [path])
    if path is None:
        rows = MemoryRows()
        step(old, rows, records(4, 60))
        assert list(migrated(old, new, rows)) == []
        going_on = copied(rows)
        step(old, going_on, records(4, 60, first=60))
        step(new, rows, records(4, 60, first=60))
        assert rows.rows.keys() == going_on.rows.keys()
        assert rows.rows != going_on.rows


def test_every_estimator_differs_in_nothing_from_itself() -> None:
    """Parameters are read wherever River keeps them, for all of its estimators."""
    wrong = [
        instance.name
        for instance in instances()
        if changes_between(codec.decode(codec.encode(instance.model)), instance.model) != ({}, [])
    ]
    assert wrong == []


def rated(rate: float, more: str = "") -> Spec:
    """An agent of which events wait for their labels."""
    return load_spec(f"""
agent: a
source: {{topic: t, key: $.k}}
features: {{v0: number, v1: number}}
model: {{linear_model.LinearRegression: {{optimizer: {{optim.SGD: {{lr: {rate}}}}}{more}}}}}
label: {{later: $.v2, after: 1s}}
""")


def resumed_rows(present: Spec) -> tuple[MemoryRows, MemoryRows, MemoryRows]:
    """A snapshot under a spec that can be kept, what came of it under another one, and a state
    that goes on from the snapshot.
    """
    new, base, now = rated(0.02), MemoryRows(), MemoryRows()
    step(rated(0.01), base, records(4, 60))
    step(present, now, records(4, 90))
    taken = kept(rated(0.01), new, base)
    return base, now, copied(taken, resumed(present, new, taken, now))


def waits(rows: MemoryRows) -> dict[bytes, list[int]]:
    slots = {row: read(row, data) for row, data in rows.scan(b"k/")}
    return {row: [parked.offset for parked in slot.waiting] for row, slot in slots.items()}


def of_the_log(rows: MemoryRows) -> dict[bytes, bytes]:
    return {row: data for row, data in rows.rows.items() if row in (COUNTERS_ROW, LOGTIME_ROW)}


def test_what_belongs_to_the_log_goes_on_over_a_snapshot() -> None:
    """The models are the snapshot's; what waits and is measured is what there was."""
    base, now, after = resumed_rows(rated(0.05))
    assert waits(after) == waits(now) != waits(base)
    assert of_the_log(after) == of_the_log(now)
    assert after.rows[METRICS_ROW] == now.rows[METRICS_ROW]
    updates = {row: read(row, data).updates for row, data in base.scan(b"k/")}
    assert {row: read(row, data).updates for row, data in after.scan(b"k/")} == updates


def test_what_waits_for_other_models_is_dropped() -> None:
    """Where the present models could not go on: time and counters do, measuring begins anew."""
    _, now, after = resumed_rows(rated(0.05, ", intercept_init: 0.5"))
    assert any(waits(now).values())
    assert not any(waits(after).values())
    assert of_the_log(after) == of_the_log(now)
    assert METRICS_ROW not in after.rows
