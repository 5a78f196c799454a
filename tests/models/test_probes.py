"""Probes come out again on the same build, and tell when anything is computed otherwise."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from river import naive_bayes, optim, tree

from headrace.models import codec, probes
from headrace.models.guard import Event, Guard
from headrace.models.memory_rows import MemoryRows
from headrace.models.probes import check, make
from headrace.models.stored import read, written
from headrace.models.trials import inputs_for
from tests.models.histories import OF_KEYS, SPECS, Watched, copied, records, step

EACH = pytest.mark.parametrize("name", sorted(SPECS))


def rows_of(name: str, count: int = 120) -> MemoryRows:
    rows = MemoryRows()
    step(SPECS[name], rows, records(9, count))
    return rows


@EACH
def test_the_same_build_reproduces_them(name: str) -> None:
    """Nothing differs, the same rows give the same probes, and the rows stay as they are."""
    spec, rows = SPECS[name], rows_of(name)
    before = dict(rows.rows)
    made = make(spec, rows)
    assert check(made, spec, copied(rows)) == []
    assert make(spec, rows) == made
    assert rows.rows == before
    assert len(made) <= probes.PROBES_BYTES_MAX


@EACH
def test_a_shard_without_keys_has_the_probe_of_a_new_model(name: str) -> None:
    """Before the first event there is something to compare already."""
    made = make(SPECS[name], MemoryRows())
    assert len(probes._unpack(made).probes) == 1
    assert check(made, SPECS[name], MemoryRows()) == []


@pytest.mark.parametrize("name", [name for name in OF_KEYS if name in ("fraud", "heating")])
def test_one_weight_off_by_one_ulp_is_found(name: str) -> None:
    """The least change of a model that there can be is told, and whose it is."""
    spec, rows = SPECS[name], rows_of(name)
    made = make(spec, rows)
    slot = read(b"k/bob", rows.rows[b"k/bob"])
    model = codec.decode(slot.model)
    linear = list(model.steps.values())[-1]
    linear._weights["v1"] = math.nextafter(linear._weights["v1"], 1.0)
    slot.model = codec.encode(model)
    rows.rows[b"k/bob"] = written(slot)
    assert check(made, spec, rows) == ["the model of key 'bob' is in another state"]


def test_one_factor_off_by_one_ulp_is_found() -> None:
    """The same of a recommender's rows."""
    spec, rows = SPECS["rating"], rows_of("rating")
    made = make(spec, rows)
    content = msgspec.msgpack.decode(rows.rows[b"u/bob"])
    content[0][0] = math.nextafter(content[0][0], 1.0)
    rows.rows[b"u/bob"] = msgspec.msgpack.encode(content)
    assert check(made, spec, rows) == ["the shared model is in another state"]


def test_another_optimizer_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that steps by a slightly larger rate learns otherwise: new models and old ones."""
    spec, rows = SPECS["visits"], rows_of("visits")
    made = make(spec, rows)
    step_of: Any = optim.SGD._step_with_vector

    def larger(self: Any, w: Any, g: Any) -> Any:
        return step_of(self, w, g * (1 + 2**-50))

    monkeypatch.setattr(optim.SGD, "_step_with_vector", larger)
    found = check(made, spec, rows)
    assert len(found) == 1 + sum(row.startswith(b"k/") for row in rows.rows)
    assert found[0].startswith("a new model ")


def test_rivers_own_objects_are_tried_beside_compiled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a compiled model does not call still counts: its bytes are those of River's objects."""
    spec, rows = SPECS["fraud"], rows_of("fraud")
    made = make(spec, rows)
    monkeypatch.setattr(optim.SGD, "_step_with_vector", lambda self, w, g: w)
    assert check(made, spec, rows)


def test_another_prediction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that computes a likelihood otherwise predicts otherwise."""
    spec, rows = SPECS["colours"], rows_of("colours")
    made = make(spec, rows)
    likelihood: Any = naive_bayes.GaussianNB.joint_log_likelihood

    def other(self: Any, x: Any) -> Any:
        return {label: value * (1 + 1e-9) for label, value in likelihood(self, x).items()}

    monkeypatch.setattr(naive_bayes.GaussianNB, "joint_log_likelihood", other)
    assert any("predicts otherwise of event 1" in text for text in check(made, spec, rows))


def test_another_field_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose class has one attribute more is told by the class and the attribute."""
    spec, rows = SPECS["tree"], rows_of("tree")
    made = make(spec, rows)
    init: Any = tree.HoeffdingTreeRegressor.__init__

    def longer(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.added = 1

    monkeypatch.setattr(tree.HoeffdingTreeRegressor, "__init__", longer)
    assert "tree.HoeffdingTreeRegressor has other fields: now added" in check(made, spec, rows)


def test_another_spec_and_other_bytes_are_told() -> None:
    """Probes that cannot be compared are no agreement."""
    spec = SPECS["fraud"]
    made = make(spec, MemoryRows())
    [text] = check(made, SPECS["colours"], MemoryRows())
    assert text.endswith("the probes were made for another one")
    assert check(made[:-1], spec, MemoryRows())[0].startswith("the probes cannot be read")


def test_rows_that_are_gone_or_damaged_are_told() -> None:
    """A key without a row, or with a broken one, is a difference and no error."""
    spec, rows = SPECS["colours"], rows_of("colours")
    made = make(spec, rows)
    del rows.rows[b"k/bob"]
    rows.rows[b"k/ada"] = rows.rows[b"k/ada"][:-1] + b"\0"
    found = check(made, spec, rows)
    assert "the model of key 'bob' is not there" in found
    assert any(text.startswith("the model of key 'ada' cannot be read") for text in found)


def test_keys_are_chosen_by_their_digest_and_bounded() -> None:
    """At most 32 keys of many are tried, whatever order they came in."""
    spec = SPECS["fraud"]
    rows = MemoryRows()
    step(spec, rows, records(9, 400, keys=[f"key {number}" for number in range(80)]))
    kept = [probes._unpack_one(probe).of for probe in probes._unpack(make(spec, rows)).probes]
    assert len(kept) == 33
    assert kept[0] is None
    found = sorted((row for row, _ in rows.scan(b"k/")), key=probes._order)
    assert kept[1:] == [row[2:].decode() for row in found[:32]]


def test_few_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys there are, a bounded number of rows is read."""
    spec, rows = SPECS["fraud"], rows_of("fraud")
    monkeypatch.setattr(probes, "SCANNED_MAX", 2)
    watched = Watched(rows)
    assert check(make(spec, watched), spec, rows) == []
    assert len(watched.read) <= 3


def test_large_models_have_few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound of bytes only the first key is tried; a full list of probes ends."""
    spec, rows = SPECS["tree"], rows_of("tree")
    monkeypatch.setattr(probes, "MODEL_BYTES_MAX", 10)
    assert len(probes._unpack(make(spec, rows)).probes) == 2
    monkeypatch.setattr(probes, "PROBES_BYTES_MAX", 3_000)
    assert len(make(spec, rows)) <= 3_000


@EACH
def test_inputs_are_events_that_the_guard_admits(name: str) -> None:
    """Made-up inputs are as ordinary events of the spec: values, ranges, gaps."""
    spec = SPECS[name]
    guard = Guard(spec)
    for values, y in inputs_for(spec, "some key", 30):
        event = {"k": "ada", "at": 1, "item": "x"}
        for feature, value in zip(spec.features.values(), values, strict=True):
            if value is not None:
                path = feature.path.removeprefix("$.").split(".")
                inner = event
                for part in path[:-1]:
                    inner = inner.setdefault(part, {})  # type: ignore[assignment]
                inner[path[-1]] = value
        if spec.label is not None and not spec.label.later:
            event[spec.label.path.removeprefix("$.")] = y
        row = records(1, 1)[0]._replace(key=b"ada", value=msgspec.json.encode(event))
        assert isinstance(guard.admit(row), Event)
