"""Trials of stored models: a few made-up events, and all that a model says and learns of them.

`headrace.models.probes` keeps what came out beside a snapshot, and looks whether it comes out again
where another build reads it. So nothing in an outcome may depend on the process: floats are kept
whole, failures by their class, states by the digest of their bytes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from headrace.errors import EventError
from headrace.models import codec
from headrace.models.features import Assembly
from headrace.models.forms import Form, RiverForm, form_of
from headrace.models.memory_rows import MemoryRows
from headrace.models.panics import failures
from headrace.models.recommend.row_model import row_model
from headrace.models.spec import Feature, Spec
from headrace.ports import Rows

__all__ = ["Input", "KeyedTrial", "Outcome", "RankedTrial", "Trial", "inputs_for", "interactions"]

Input: TypeAlias = list[Any]
"""Of a model per key: the features' values in declared order, and the label. Of a recommender:
user, item and rating. Plain data, as it comes back out of msgpack.
"""

TOP: Final = 5  # items of a recommendation


class Outcome(msgspec.Struct, array_like=True):
    """What came of one trial by one form of the model."""

    begun: str  # digest of the state that the trial began with, as this build writes it again
    steps: list[Any]  # of each input: said before, failure while learning or None, said after
    ended: str  # digest of the state after the last one


class Trial(Protocol):
    """Runs inputs over copies of models; no rows are changed."""

    def run(self, data: bytes | None, inputs: Sequence[Input]) -> list[Outcome]: ...


def inputs_for(spec: Spec, key: str, count: int) -> list[Input]:
    """`count` events that the guard would admit, always the same for the same spec and key.

    Numbers lie from 0 to 1 where their range allows it; what may be missing is so now and then.
    """
    chance = random.Random(int.from_bytes(sha256(key.encode()).digest()[:8], "big"))
    label = spec.label
    found: list[Input] = []
    for _ in range(count):
        values = [_value(feature, chance) for feature in spec.features.values()]
        y: Any = None
        if label is not None and label.type == "number":
            y = _number(label.low, label.high, chance)
        elif label is not None:
            y = chance.random() < 0.5 if label.type == "boolean" else chance.choice("ab")
        found.append([values, y])
    return found


def interactions(spec: Spec, users: Sequence[str], items: Sequence[str]) -> list[Input]:
    """One interaction of each user with one of the items, the same for the same names."""
    ratings = inputs_for(spec, "", len(users))
    return [
        [user, items[number % len(items)], 1.0 if y is None else y]
        for number, (user, (_, y)) in enumerate(zip(users, ratings, strict=True))
    ]


def _value(feature: Feature, chance: random.Random) -> float | str | bool | None:
    drawn = chance.random()
    if feature.missing != "reject" and drawn < 0.2:
        return None
    if feature.type == "boolean":
        return drawn < 0.6
    if feature.type == "category":
        return chance.choice("abc")
    return _number(feature.low, feature.high, chance)


def _number(low: float, high: float, chance: random.Random) -> float:
    low = max(low, 0.0) if high > 0.0 else low
    high = min(high, low + 1.0)
    return min(high, low + (high - low) * round(chance.random(), 3))


class KeyedTrial:
    """Trials of models that one key has, or that all share. River's own objects always run; a
    compiled form runs beside them.
    """

    def __init__(self, spec: Spec) -> None:
        self._assembly = Assembly(spec.features)
        form = form_of(spec)
        self._forms: list[Form] = [form]
        if not isinstance(form, RiverForm):
            self._forms.append(RiverForm(spec))

    def run(self, data: bytes | None, inputs: Sequence[Input]) -> list[Outcome]:
        """What each form says of a model's bytes; None: of a new model, of the key "".

        Raises CorruptStateError for bytes that are no model of this spec.
        """
        return [self._run(form, data, inputs) for form in self._forms]

    def classes(self, inputs: Sequence[Input]) -> dict[str, list[list[str]]]:
        """The fields of every class in a new model, before and after it has learned the inputs."""
        found: dict[str, set[tuple[str, ...]]] = {}
        form = self._forms[-1]  # River's
        model = form.new("")
        for count in range(len(inputs) + 1):
            for name, fields in msgspec.msgpack.decode(form.encode(model))[1]:
                found.setdefault(name, set()).add(tuple(fields))
            if count < len(inputs):
                _learned(form, model, self._x(inputs[count]), inputs[count][1])
        return {name: sorted(map(list, found[name])) for name in sorted(found)}

    def _run(self, form: Form, data: bytes | None, inputs: Sequence[Input]) -> Outcome:
        model = form.new("") if data is None else form.decode(data)
        begun = codec.digest(form.encode(model))
        steps: list[Any] = []
        for one in inputs:
            before = _forecast(form, model, self._x(one))
            failure = _learned(form, model, self._x(one), one[1])
            steps.append([before, failure, _forecast(form, model, self._x(one))])
        return Outcome(begun, steps, codec.digest(form.encode(model)))

    def _x(self, one: Input) -> dict[str, Any]:
        return self._assembly.assemble(tuple(one[0]))[0]


def _forecast(form: Form, model: Any, x: dict[str, Any]) -> Any:
    try:
        said = form.forecast(model, x)
    except failures(EventError) as error:
        return type(error).__name__
    shares = said.probabilities
    told = None if shares is None else [[_plain(name), float(p)] for name, p in shares.items()]
    return [_plain(said.label), said.score, told]


def _learned(form: Form, model: Any, x: dict[str, Any], y: Any) -> str | None:
    try:
        form.learn(model, x, y)
    except failures() as error:
        return type(error).__name__
    return None


def _plain(label: Any) -> Any:
    return label if isinstance(label, str | bool | float | None) else str(label)


class RankedTrial:
    """Trials of a recommender in rows."""

    def __init__(self, spec: Spec, rows: Rows) -> None:
        self._spec = spec
        self._rows = rows

    def run(self, data: bytes | None, inputs: Sequence[Input]) -> list[Outcome]:
        """What it says and learns of the interactions, one after the other. It has no bytes of its
        own: `data` None asks a new one, anything else the one in the rows.

        Raises CorruptStateError for rows that are not of this spec's recommender.
        """
        model = row_model(self._spec.build_model(""), self._spec.state.hot_keys_max)
        assert model is not None  # the spec could not be deployed
        model.load(MemoryRows() if data is None else self._rows)
        begun = sha256()
        for user, _, _ in inputs:
            begun.update(model.row(user) or b"-")
        steps: list[Any] = []
        for user, item, y in inputs:
            before = _recommended(model, user, item)
            try:
                model.learn_one(user, item, y)
                failure = None
            except failures() as error:
                failure = type(error).__name__
            steps.append([before, failure, _recommended(model, user, item)])
        ended = sha256()
        for row, written in sorted(model.changed()):
            ended.update(b"%d %d" % (len(row), len(written or b"")) + row + (written or b""))
        return [Outcome(begun.hexdigest(), steps, ended.hexdigest())]


def _recommended(model: Any, user: str, item: str) -> Any:
    try:
        top = [[scored.item, scored.score] for scored in model.top(user, TOP)]
        return [float(model.predict_one(user, item)), top]
    except failures() as error:
        return type(error).__name__
