"""The laws over every estimator that River has: what keeps them is in the catalog, no other is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from river import drift, linear_model, metrics, optim, preprocessing, stats, utils

from headrace.errors import SpecError
from headrace.models.catalog import build_pipeline, catalog, out_of_catalog, read_conditions
from headrace.models.catalog.costs import cost_class, measured_bytes
from headrace.models.catalog.data import COST
from headrace.models.checks import (
    LAWS,
    broken,
    check_estimator,
    predict_changes_no_state,
    require_lawful,
)
from headrace.models.codec import decode, encode
from headrace.models.exercise import Event, ask_river, events_for, learn
from headrace.models.rehearsal import made_up
from headrace.models.spec import Feature
from tests.models.instances import NEED_ALL, Instance, candidates, cheapest, instances, parts

ROOT = Path(__file__).parents[2]
COUNTS = json.loads((Path(__file__).parent / "catalog_counts.json").read_text())
EVENTS = 40
# What no instance can be made of, or what is not asked by an event, is out by its shape.
SHAPELESS = ("a forecaster", "a pipeline is written", "it takes a function", "it needs Python 3.14",
             "its label is a mapping", "it needs a time with each value")  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Overflow inside an estimator is judged by the law of finite learning, not by a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _events(instance: Instance) -> Sequence[Event]:
    return events_for(instance.model, EVENTS, gaps=instance.entry not in NEED_ALL)


def _lawful() -> list[Instance]:
    return [instance for instance in instances() if instance.entry in catalog()]


@pytest.mark.parametrize("law", sorted(LAWS))
def test_every_instance_in_the_catalog_keeps_the_law(law: str) -> None:
    """Each estimator of the catalog, in each of River's own test configurations, keeps each law."""
    found = {
        instance.name: text
        for instance in _lawful()
        if (text := broken(LAWS[law], instance.model, _events(instance))) is not None
    }
    assert found == {}


def test_what_is_out_of_the_catalog_breaks_a_law_or_has_another_shape() -> None:
    """No estimator is left out that would keep all laws."""
    tried = {i.entry: i for i in instances() if i.entry in out_of_catalog()}
    for name, reason in out_of_catalog().items():
        if reason.startswith(SHAPELESS):
            continue
        assert name in tried, f"{name} cannot be made, but its reason is {reason!r}"
        instance = tried[name]
        texts = [broken(law, instance.model, _events(instance)) for law in LAWS.values()]
        assert any(texts), f"{name} keeps all laws, so it belongs into the catalog"


def test_every_candidate_is_either_in_the_catalog_with_an_instance_or_out_with_a_reason() -> None:
    """Nothing that River has is forgotten, and nothing is in without having been tried."""
    tried = {instance.entry for instance in instances()}
    for name in candidates():
        assert (name in catalog()) != (name in out_of_catalog()), name
        assert name in tried or name in out_of_catalog(), f"{name} was never tried"


def test_the_number_of_tried_instances_never_shrinks() -> None:
    """River's next release may add estimators; losing some unseen is a failure."""
    counts = {
        "candidates": len(candidates()),
        "instances": len(instances()),
        "instances in the catalog": len(_lawful()),
        "estimators in the catalog": len({i.entry for i in _lawful()}),
        "parts tried": sum(1 for _ in parts()),
        "entries": len(catalog()),
    }
    assert counts == COUNTS, "if it grew, write the new counts to catalog_counts.json"


# Both run with the hash seed that the launcher fixes for workers. The first keeps its models alive
# after it has written them; the second knows only the bytes.
LIVE = """
import json, sys, warnings
import msgspec
from headrace.models.checks import run_on
from headrace.models.codec import encode
from headrace.models.exercise import learn
from tests.models.test_checks import EVENTS, _events, _lawful
warnings.simplefilter("ignore")
rows, said = [], []
for instance in _lawful():
    events = _events(instance)
    for x, y in events[: EVENTS // 2]:
        learn(instance.model, x, y)
    rows.append((encode(instance.model), events[EVENTS // 2 :]))
    said.append(run_on(instance.model, events[EVENTS // 2 :]))
open(sys.argv[1], "wb").write(msgspec.msgpack.encode(rows))
print(json.dumps(said))
"""
RESTORED = """
import json, sys, warnings
import msgspec
from headrace.models.checks import run_on
from headrace.models.codec import decode
warnings.simplefilter("ignore")
rows = msgspec.msgpack.decode(open(sys.argv[1], "rb").read())
print(json.dumps([run_on(decode(data), events) for data, events in rows]))
"""


def _in_new_process(script: str, rows: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(rows)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


def test_every_instance_goes_on_identically_in_a_new_process(tmp_path: Path) -> None:
    """A copy that another process reads answers and learns as the model that lived on."""
    rows = tmp_path / "rows"
    live = _in_new_process(LIVE, rows)
    restored = _in_new_process(RESTORED, rows)
    names = [instance.name for instance in _lawful()]
    assert [name for name, a, b in zip(names, live, restored, strict=True) if a != b] == []


def test_what_needs_care_to_be_read_does_write_when_river_reads_it() -> None:
    """The list of estimators with a condition holds no name too many."""
    exempt = {"compose.Pipeline"}
    writers = {
        cls
        for cls in read_conditions.READY
        if read_conditions.READY[cls] is not read_conditions._steps
    }
    for instance in _lawful():
        cls = catalog()[instance.entry].cls
        if cls not in writers or instance.entry in exempt:
            continue
        if _writes(instance):
            writers.discard(cls)
    # River's MinMaxScaler stays listed, for pipelines that come from elsewhere than the catalog.
    out = {candidates()[name] for name in out_of_catalog() if name in candidates()}
    assert writers - out == {preprocessing.MinMaxScaler}


def _writes(instance: Instance) -> bool:
    events = _events(instance)
    for trained in (0, EVENTS // 2):
        live = decode(encode(instance.model))
        for x, y in events[:trained]:
            learn(live, x, y)
        before = encode(live)
        ask_river(live, events[-1][0])
        if encode(live) != before:
            return True
    return False


def test_every_part_is_written_and_read_back() -> None:
    """Optimizers, losses, statistics, metrics, detectors: canonical bytes, fresh and used."""
    for name, part in parts():
        data = encode(part)
        assert encode(decode(data)) == data, name
        if isinstance(part, stats.base.Univariate):
            restored = decode(data)
            for number in range(30):
                part.update(number % 7)
                restored.update(number % 7)
                if number == 15:
                    restored = decode(encode(restored))
            assert encode(part) == encode(restored), name
            assert repr(part.get()) == repr(restored.get()), name


def test_optimizers_and_detectors_go_on_after_a_restore() -> None:
    """State inside an optimizer or a drift detector survives."""
    for optimizer in (optim.Adam(), optim.FTRLProximal(), optim.Averager(optim.SGD())):
        model: Any = linear_model.LinearRegression(optimizer=optimizer)
        assert check_estimator(model) == []
    for name in ("ADWIN", "KSWIN", "PageHinkley"):
        detector = getattr(drift, name)(**({"seed": 1} if name == "KSWIN" else {}))
        for number in range(150):
            detector.update(number % 5 + (number > 100))
        other = decode(encode(detector))
        for number in range(60):
            detector.update(number % 3)
            other.update(number % 3)
        assert encode(detector) == encode(other), name
    rolling: Any = utils.Rolling(metrics.MAE, 5)
    for number in range(9):
        rolling.update(float(number), 1.0)
    assert decode(encode(rolling)).get() == rolling.get()


def test_costs_are_what_the_rule_gives() -> None:
    """The committed bytes are measured anew; each class follows from its figures."""
    assert set(COST) == {instance.entry for instance in _lawful()}
    for name, (cost, size, us) in COST.items():
        assert cost == cost_class(size, us), name
    for name in ("linear_model.LogisticRegression", "anomaly.HalfSpaceTrees", "reco.BiasedMF"):
        assert measured_bytes(cheapest(name)) == COST[name][1], name
    assert {COST[n][0] for n in ("anomaly.HalfSpaceTrees", "forest.ARFClassifier")} == {"heavy"}
    assert COST["linear_model.LogisticRegression"][0] == "light"


class _Forgetful(preprocessing.StandardScaler):
    """Counts how often it was asked, which a read must not."""

    def transform_one(self, x: Any) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        return {name: value + self.asked for name, value in x.items()}


def test_a_model_that_breaks_a_law_is_refused_with_the_law() -> None:
    """Deploying names every broken law, and what cannot be written at all."""
    model: Any = _Forgetful() | linear_model.LinearRegression()
    with pytest.raises(SpecError, match=r"cannot be written: .*_Forgetful is not in the table"):
        require_lawful(model)
    divergent: Any = linear_model.LinearRegression(optimizer=optim.SGD(1e308))
    texts = [violation.text for violation in check_estimator(divergent)]
    assert texts == ["it says NaN or infinity after 1 finite events"]
    drawing = next(i for i in instances() if i.entry == "preprocessing.LDA")
    assert "depends on how often" in " ".join(v.text for v in check_estimator(drawing.model))


def test_a_model_that_names_features_is_checked_with_events_that_have_them() -> None:
    """Select raises for made-up events of other features, and is lawful with the spec's own."""
    features = {
        name: Feature(path=f"$.{name}", type="number", low=100.0, high=250.0)
        for name in ("level", "flow")
    }
    model, wrong = build_pipeline(
        [{"compose.Select": ["level", "flow"]}, "linear_model.LinearRegression"], seed=1
    )
    assert wrong == []
    assert [violation.text for violation in check_estimator(model)] == [
        "it raises KeyError: 'flow'"
    ]
    assert check_estimator(model, made_up(features, "regressor")) == []


def test_a_law_notices_a_read_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its condition a scaler's read would write, and the law says so."""
    scaler = preprocessing.MaxAbsScaler()
    events = events_for(scaler, EVENTS)
    assert predict_changes_no_state(scaler, events) is None
    monkeypatch.setitem(read_conditions._found, preprocessing.MaxAbsScaler, None)
    assert predict_changes_no_state(scaler, events) == (
        "asking a fresh model with known features changes its state"
    )
