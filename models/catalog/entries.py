"""The estimators that a spec may name, with their typed parameters, and how they are built.

Names are River's public ones: `linear_model.LogisticRegression`, `optim.SGD`, `optim.losses.Log`.
What breaks a law of `headrace.models.checks` is not here; `out_of_catalog` says why. Estimators of
other packages come by the entry-point group `headrace.estimators`, whose names hold a dot.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from headrace.errors import Violation
from headrace.models.catalog.data import COST, OUT, Cost
from headrace.models.catalog.extensions import own_classes
from headrace.models.catalog.parameters import Parameter, parameters_of
from headrace.models.catalog.read_conditions import how
from headrace.models.codec.codec import known_classes

__all__ = [
    "Entry",
    "build",
    "build_pipeline",
    "catalog",
    "estimator_kinds",
    "kind_of_class",
    "name_of",
    "out_of_catalog",
]

# Modules of River whose public classes may be named in a spec.
MODULES: Final = (
    "active", "anomaly", "bandit", "cluster", "compose", "conf", "drift", "drift.binary", "dummy",
    "ensemble", "facto", "feature_extraction", "feature_selection", "forest", "imblearn",
    "linear_model", "metrics", "misc", "model_selection", "multiclass", "multioutput",
    "naive_bayes", "neighbors", "optim", "optim.initializers", "optim.losses", "optim.schedulers",
    "preprocessing", "proba", "reco", "rules", "stats", "time_series", "tree", "tree.splitter",
    "utils",
)  # fmt: skip

# A kind is that of the first class that fits; parts of estimators come last.
KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("Ranker", "ranker"),
    ("Forecaster", "forecaster"),
    ("AnomalyFilter", "anomaly"),
    ("AnomalyDetector", "anomaly"),
    ("SupervisedAnomalyDetector", "anomaly"),
    ("ActiveLearningClassifier", "active"),
    ("MultiLabelClassifier", "multi-output"),
    ("MultiTargetRegressor", "multi-output"),
    ("Clusterer", "clusterer"),
    ("Classifier", "multiclass"),
    ("Regressor", "regressor"),
    ("BaseTransformer", "transformer"),
    ("Pipeline", "pipeline"),
    ("Optimizer", "optimizer"),
    ("Loss", "loss"),
    ("Scheduler", "scheduler"),
    ("Initializer", "initializer"),
    ("Metric", "metric"),
    ("Statistic", "statistic"),
    ("_BaseDriftDetector", "drift detector"),
    ("Policy", "bandit policy"),
    ("Splitter", "splitter"),
    ("Quantizer", "splitter"),
    ("BaseNN", "neighbour search"),
    ("Distribution", "distribution"),
    ("Rolling", "window"),
    ("TimeRolling", "window"),
)
_PART: Final = "part"
_ESTIMATORS: Final = next(number for number, (_, kind) in enumerate(KINDS) if kind == "pipeline")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One class that a spec may name."""

    name: str
    cls: type
    kind: str
    parameters: dict[str, Parameter]
    cost: Cost | None  # None: a part of estimators, such as an optimizer; it costs what they cost
    reads: str  # how a read leaves its state alone, for people
    ours: bool = False  # not River's own


@functools.cache
def catalog() -> Mapping[str, Entry]:
    """All entries by name, sorted.

    >>> catalog()["linear_model.LogisticRegression"].kind
    'binary'
    >>> str(catalog()["optim.SGD"].parameters["lr"])
    'integer or number or Scheduler = 0.01'
    """
    found = {name: _entry(name, cls) for name, cls in _river() if name not in OUT}
    for name, cls in own_classes().items():
        found[name] = msgspec.structs.replace(_entry(name, cls), ours=True)
    return MappingProxyType(dict(sorted(found.items())))


def out_of_catalog() -> Mapping[str, str]:
    """What a spec may not name, and why, by name."""
    return MappingProxyType(OUT)


def name_of(cls: type) -> str | None:
    """The name under which a spec knows a class, River's own or ours; None if it does not."""
    entries = catalog()
    name = known_classes().name_of(cls)
    if name in entries:
        return name
    return next((known for known, entry in entries.items() if entry.cls is cls), None)


def build(
    name: str, params: Mapping[str, Any], *, path: str = "$", seed: int
) -> tuple[Any, list[Violation]]:
    """The estimator `name` with `params` (plain data), or None and everything wrong with it.

    >>> build("optim.SGD", {"lr": "fast", "momentum": 1}, path="$.model", seed=1)[1][1].text
    'optim.SGD has no parameter momentum'
    """
    from headrace.models.catalog.builder import Builder

    builder = Builder(catalog(), seed)
    made = builder.named(name, dict(params), path)
    return (None if builder.violations else made), builder.violations


def build_pipeline(model: Any, *, seed: int) -> tuple[Any, list[Violation]]:
    """The pipeline that a spec's `model` declares, or None and everything wrong with it.

    `model` is a name, a mapping of one name to its parameters, or a list of these.

    >>> model, wrong = build_pipeline(
    ...     ["preprocessing.StandardScaler", {"linear_model.LinearRegression": {"l2": 0.1}}], seed=1
    ... )
    >>> str(model), wrong
    ('StandardScaler | LinearRegression', [])
    >>> build_pipeline(["preprocessing.StandardScalar"], seed=1)[1][0]
    Violation(path='$.model[0]', text="no estimator is called 'preprocessing.StandardScalar'", \
hint='did you mean preprocessing.StandardScaler?')
    """
    from headrace.models.catalog.builder import Builder

    builder = Builder(catalog(), seed)
    made = builder.model(model, "$.model")
    return (None if builder.violations else made), builder.violations


def _river() -> Iterator[tuple[str, type]]:
    seen: set[type] = set()
    for name in sorted(MODULES):
        module = importlib.import_module(f"river.{name}")
        for attribute, cls in sorted(inspect.getmembers(module, inspect.isclass)):
            public = not attribute.startswith("_") and cls.__module__.startswith("river.")
            if public and not inspect.isabstract(cls) and cls not in seen and _concrete(cls):
                seen.add(cls)
                yield f"{name}.{attribute}", cls


def _concrete(cls: type) -> bool:
    """Leaves out what River exports for those who write estimators."""
    return kind_of_class(cls) != _PART and cls.__module__.split(".")[-1] != "base"


def estimator_kinds() -> frozenset[str]:
    """The kinds that stand on their own in a model; all others are parts of estimators."""
    return frozenset(kind for _, kind in KINDS[: _ESTIMATORS + 1]) | {"binary"}


def kind_of_class(cls: type) -> str:
    """The kind of a class, by what it inherits from; "part" for what no spec may name."""
    names = {parent.__name__ for parent in cls.__mro__}
    found = next((kind for name, kind in KINDS if name in names), _PART)
    if found == "multiclass" and not _multiclass(cls):
        return "binary"
    return found


def _multiclass(cls: type) -> bool:
    static = inspect.getattr_static(cls, "_multiclass", None)
    if not isinstance(static, property) or static.fget is None:
        return False
    try:
        return bool(static.fget(object()))
    except (AttributeError, TypeError):
        return True  # it depends on what is inside


def _entry(name: str, cls: type) -> Entry:
    kind = kind_of_class(cls)
    cost = COST.get(name)
    return Entry(
        name=name,
        cls=cls,
        kind=kind,
        parameters=parameters_of(cls),
        cost=None if cost is None else cost[0],
        reads=how(cls),
    )
