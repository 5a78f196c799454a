"""A River estimator from a notebook as a spec, by the names and parameters that rebuild it.

Only parameters go over, never what was learned. What a spec cannot say (a function, an estimator
that is not in the catalog) is refused with its path. At the end the spec's model is built and
compared with the one that was given, part by part.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypedDict

import numpy as np
from river import base, compose
from river.optim import schedulers

from headrace.errors import SpecError, Violation
from headrace.models.catalog import catalog, name_of, out_of_catalog
from headrace.models.catalog.parameters import TYPES, Parameter
from headrace.models.catalog.replacements import OrderedSet
from headrace.models.spec.canonical import canonical_model
from headrace.models.spec.model import build
from headrace.models.spec.spec import Spec, spec_from_data

_ABSENT = object()
_SETS = (set, frozenset, OrderedSet)


class Fields(TypedDict, total=False):
    """The keywords of `Spec.from_river`: a spec's fields, with short forms for the usual ones."""

    agent: str
    topic: str  # source.topic
    key: str  # source.key, a path
    time: str  # source.time
    start: str  # source.start
    features: Sequence[str] | Mapping[str, Any]  # names of numbers, or as in a spec
    item: str
    label: str | Mapping[str, Any]  # the path of the truth in the event, or as in a spec
    scope: str
    decide: Mapping[str, Any]
    metrics: Sequence[str]
    emit: Mapping[str, Any]
    state: Mapping[str, Any]


def spec_from_river(estimator: Any, fields: Fields) -> Spec:
    """See `Spec.from_river`. Raises SpecError.

    >>> from river import linear_model, optim, preprocessing
    >>> spec = Spec.from_river(
    ...     preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
    ...     agent="phishing", topic="sites", key="$.host", features=["age", "links"], label="$.bad",
    ... )
    >>> spec.model[1]
    {'linear_model.LogisticRegression': {'optimizer': {'optim.SGD': {'lr': 0.005}}}}
    """
    model = model_data(estimator)
    rest: dict[str, Any] = dict(fields)
    source = {name: rest.pop(name) for name in ("topic", "key", "time", "start") if name in rest}
    features = rest.pop("features", {})
    if not isinstance(features, Mapping):
        features = dict.fromkeys(features, "number")
    label = rest.pop("label", None)
    if isinstance(label, str):
        label = {"field": label}
    data = {**rest, "source": source, "model": model, "features": features, "label": label}
    return spec_from_data(_plain(data))


def model_data(estimator: Any) -> Any:
    """What a spec's `model` says of an estimator. Raises SpecError with all that it cannot say."""
    found: list[Violation] = []
    data = _Writer(found).step(estimator, "$.model")
    if not found:
        rebuilt, found = build(data, 0)
        if not found:
            found = list(_differences(estimator, rebuilt, "$.model"))
    if found:
        raise SpecError(found)
    return canonical_model(data)


class _Writer:
    """Writes estimators as plain data; what it cannot write is added to `found`."""

    def __init__(self, found: list[Violation]) -> None:
        self.found = found

    def step(self, estimator: Any, path: str) -> Any:
        if isinstance(estimator, compose.Pipeline):
            steps = list(estimator.steps.values())
            if len(steps) == 1:  # a list of one is that one
                return self.step(steps[0], path)
            return [self.step(step, f"{path}[{index}]") for index, step in enumerate(steps)]
        return self.named(estimator, path)

    def named(self, instance: Any, path: str) -> Any:
        """A name, or a name with the parameters that are not the default ones."""
        cls = type(instance)
        name = name_of(cls)
        if name is None:
            self.found.append(Violation(path, *_unknown(cls)))
            return None
        parameters = catalog()[name].parameters
        star = next((key for key, what in parameters.items() if what.many), None)
        usual = _usual(cls, instance, parameters)
        written = {}
        for key, value in _given(instance, parameters):
            needed = key in parameters and parameters[key].required
            if not needed and usual is not None and _same(value, getattr(usual, key, _ABSENT)):
                continue
            where = f"{path}.{name}.{key}"
            written[key] = self.value(value, where, parameters.get(key))
        if star is not None and set(written) == {star}:
            return {name: written[star]}
        return {name: written} if written else name

    def value(self, value: Any, path: str, parameter: Parameter | None) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, schedulers.Constant) and parameter and "number" in parameter.takes:
            return value.learning_rate
        if isinstance(value, type) and TYPES.get(value.__name__) is value:
            return value.__name__
        if isinstance(value, (list, tuple, *_SETS)):
            parts = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            return [self.value(part, f"{path}[{i}]", None) for i, part in enumerate(parts)]
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, base.Base) or name_of(type(value)) is not None:
            return self.step(value, path)
        if isinstance(value, (FunctionType, BuiltinFunctionType)) and parameter is not None:
            own = (value.__module__ or "").split(".")[0] == "river"
            if own and parameter.default is None:
                return None  # likely what River takes by itself; `_differences` tells if not
        what = "a function" if callable(value) else f"a {type(value).__name__}"
        hint = "specs are data: take a transformer of the catalog"
        self.found.append(Violation(path, f"{what} cannot be written in a spec", hint))
        return None

    def _mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        for key in value:
            if not isinstance(key, str):
                text = f"{key!r} names a value, but names are texts"
                self.found.append(Violation(path, text))
        return {str(key): self.value(part, f"{path}.{key}", None) for key, part in value.items()}


def _unknown(cls: type) -> tuple[str, str]:
    name = next((n for n in out_of_catalog() if n.rpartition(".")[2] == cls.__name__), None)
    if name is not None:
        return f"{name} is not in the catalog: {out_of_catalog()[name]}", ""
    where = f"{cls.__module__}.{cls.__qualname__}"
    return f"{where} is not in the catalog", "`headrace catalog` lists what a spec may name"


def _given(instance: Any, parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Any]]:
    """Every parameter with its value, as River keeps it: in the attribute of its name."""
    for key, parameter in parameters.items():
        value: Any = getattr(instance, key, _ABSENT)
        if parameter.extra:
            yield from ({} if value is _ABSENT else value).items()
        elif parameter.many and isinstance(value, Mapping):  # a union keeps parts by name
            yield key, list(value.values())
        elif value is not _ABSENT:
            yield key, value


def _usual(cls: type, instance: Any, parameters: Mapping[str, Parameter]) -> Any:
    """The same class with default parameters, to leave out what is usual; None if it refuses."""
    needed = {key: getattr(instance, key, None) for key, p in parameters.items() if p.required}
    try:
        return cls(**needed)
    except (TypeError, ValueError, AttributeError, KeyError):
        return None


def _same(one: Any, other: Any) -> bool:
    """Whether two parameters are alike: objects by class and parameters, never by identity."""
    if isinstance(one, _SETS) and isinstance(other, _SETS):  # ours keep an order, River's do not
        return set(one) == set(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, functools.partial):
        return one.func is other.func and one.args == other.args and one.keywords == other.keywords
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    name = name_of(type(one))
    if name is None:
        return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other
    parameters = catalog()[name].parameters
    ours, theirs = dict(_given(one, parameters)), dict(_given(other, parameters))
    return list(ours) == list(theirs) and all(_same(ours[key], theirs[key]) for key in ours)


def _differences(one: Any, other: Any, path: str) -> Iterator[Violation]:
    """Parameters that did not survive: an estimator that keeps one elsewhere than in `self`."""
    while isinstance(one, compose.Pipeline) and len(one.steps) == 1:
        (one,) = one.steps.values()  # a spec builds a pipeline of one step as that step
    if _called(one) != _called(other):  # not by class: some of River's names stand for ours
        text = f"would be built as {_called(other)}, not as {_called(one)}"
        yield Violation(path, text, "write the spec by hand")
        return
    if isinstance(one, compose.Pipeline):
        pairs = zip(one.steps.values(), other.steps.values(), strict=True)
        for index, (step, rebuilt) in enumerate(pairs):
            yield from _differences(step, rebuilt, f"{path}[{index}]")
        return
    name = name_of(type(one))
    parameters = catalog()[name].parameters if name is not None else {}
    theirs = dict(_given(other, parameters))
    for key, value in _given(one, parameters):
        # A seed that was left open is filled from the agent and the key.
        if key == "seed" and value is None:
            continue
        other_value = theirs.get(key)
        if isinstance(value, base.Base):
            yield from _differences(value, other_value, f"{path}.{name}.{key}")
        elif not _alike(value, other_value):
            text = "cannot be told from the estimator: it keeps the parameter changed"
            yield Violation(f"{path}.{name}.{key}", text, "write the spec by hand")


def _called(part: Any) -> str:
    return name_of(type(part)) or type(part).__name__


def _alike(one: Any, other: Any) -> bool:
    """As `_same`, but for seeds that are filled, and for what a pipeline holds."""
    if isinstance(one, compose.Pipeline):
        return not list(_differences(one, other, "$"))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, base.Base):
        return not list(_differences(one, other, "$"))
    return _same(one, other)


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(name): _plain(part) for name, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(part) for part in data]
    return data.item() if isinstance(data, np.generic) else data
