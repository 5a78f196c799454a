"""When a read of an estimator writes nothing: the condition for each that may write.

Found by `headrace.models.checks.predict_changes_no_state`, which the tests run over every
estimator; what is not listed here is always read directly.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from river import (
    anomaly,
    base,
    cluster,
    compose,
    conf,
    drift,
    ensemble,
    facto,
    feature_extraction,
    forest,
    linear_model,
    model_selection,
    multiclass,
    preprocessing,
    reco,
)

from headrace.models.catalog.replacements import MinMaxScaler

__all__ = ["PASSES", "READY", "Ready", "how", "ready_of"]

Ready: TypeAlias = Callable[[Any, Any], bool]  # the model and the features: would it write nothing?


def how(cls: type) -> str:
    """How an estimator of this class is read, for people."""
    ready = ready_of(cls)
    if ready is None:
        return "directly"
    if ready is _never:
        return "from a copy"
    if cls is preprocessing.StandardScaler:
        return "by a twin that makes no entries"
    if cls is compose.TransformerUnion:
        return "part by part"
    if ready in (_parts, _steps, _weighted):
        return "directly if all inside is, else from a copy"
    if cls in _MADE_LATE:
        return "directly once it has learned, before from a copy"
    return "directly once it knows the features, else from a copy"


def _never(model: Any, x: Any) -> bool:
    return False


def _knows(attribute: str) -> Ready:
    """Ready once the dict in `attribute` has an entry for each feature of the event."""

    def ready(model: Any, x: Any) -> bool:
        return bool(x.keys() <= getattr(model, attribute).keys())

    return ready


def _made(attribute: str) -> Ready:
    """Ready once what is in `attribute` is there: it is made at the first call of any kind."""

    def ready(model: Any, x: Any) -> bool:
        return bool(getattr(model, attribute))

    return ready


def _weighted(model: Any, x: Any) -> bool:
    weights = (model.correct_weight, model.wrong_weight)
    return all(len(held) == len(model.data) for held in weights) and _parts(model, x)


def _pair(model: Any, x: Any) -> bool:
    return x["user"] in model.u_biases and x["item"] in model.i_biases


def _latents(model: Any, x: Any) -> bool:
    return x["user"] in model.u_latents and x["item"] in model.i_latents


def _known_numbers(model: Any, x: Any) -> bool:
    """A factorisation machine makes a feature of each word, so only numbers are known by name."""
    return all(type(v) in (int, float) for v in x.values()) and x.keys() <= model.latents.keys()


def _known_group(model: Any, x: Any) -> bool:
    return model._make_key(x) in model._groups


def _known_fields(model: Any, x: Any) -> bool:
    if not _known_numbers(model, x):
        return False
    fields = {name: name.split("_")[0] for name in x}
    return all(fields[other] in model.latents[name] for name, other in itertools.permutations(x, 2))


def _known_pairs(model: Any, x: Any) -> bool:
    if not _known_numbers(model, x):
        return False
    fields = [name.split("_")[0] for name in x]
    pairs = itertools.combinations(fields, 2)
    return all(one + other in model.interaction_weights for one, other in pairs)


def _known_degrees(model: Any, x: Any) -> bool:
    degrees = range(2, min(model.degree, len(x)) + 1)
    return _known_numbers(model, x) and all(
        degree in model.latents[name] for name in x for degree in degrees
    )


def _parts(model: Any, x: Any) -> bool:
    """Ready if nothing inside would write."""
    inside = x if type(model) in PASSES else None
    return all(_harmless(part, inside) for part in vars(model).values())


def _steps(pipeline: Any, x: Any) -> bool:
    first, *others = pipeline.steps.values()
    return _harmless(first, x) and all(_harmless(step, None) for step in others)


def _harmless(part: Any, x: Any) -> bool:
    """Whether reading `part` with `x` writes nothing; x None: with whatever features."""
    kind = type(part)
    if kind in _PLAIN:
        return True
    if isinstance(part, dict):
        return all(_harmless(value, x) for value in part.values())
    if isinstance(part, list | tuple):
        return all(_harmless(value, x) for value in part)
    if not isinstance(part, base.Base):
        return True
    ready = ready_of(kind)
    if ready is None:
        return True
    return ready(part, x) if x is not None or ready in (_parts, _steps) else False


_PLAIN: Final = frozenset({int, float, str, bool, type(None)})

# Those that write when read, and when they do not.
READY: Final[dict[type, Ready]] = {
    cluster.CluStream: _never,
    cluster.DBSTREAM: _never,
    cluster.KMeans: _never,
    compose.Pipeline: _steps,
    ensemble.ADWINBoostingClassifier: _weighted,
    ensemble.AdaBoostClassifier: _weighted,
    ensemble.BOLEClassifier: _weighted,
    ensemble.SRPClassifier: _made("data"),
    facto.FFMClassifier: _known_fields,
    facto.FFMRegressor: _known_fields,
    facto.FMClassifier: _known_numbers,
    facto.FMRegressor: _known_numbers,
    facto.FwFMClassifier: _known_pairs,
    facto.FwFMRegressor: _known_pairs,
    facto.HOFMClassifier: _known_degrees,
    facto.HOFMRegressor: _known_degrees,
    feature_extraction.Agg: _known_group,
    feature_extraction.RBFSampler: _never,
    feature_extraction.TargetAgg: _known_group,
    forest.ARFClassifier: _made("data"),
    forest.ARFRegressor: _made("data"),
    forest.OXTRegressor: _made("data"),
    linear_model.AdPredictor: _made("means"),
    linear_model.BayesianLinearRegression: _never,
    preprocessing.AdaptiveStandardScaler: _knows("means"),
    preprocessing.GaussianRandomProjector: _never,
    preprocessing.LDA: _never,
    preprocessing.MaxAbsScaler: _knows("abs_max"),
    preprocessing.MinMaxScaler: _knows("min"),
    preprocessing.OrdinalEncoder: _knows("values"),
    preprocessing.RobustScaler: _knows("median"),
    preprocessing.SparseRandomProjector: _never,
    preprocessing.StandardScaler: _knows("means"),
    reco.Baseline: _pair,
    reco.BiasedMF: _latents,
    reco.FunkMF: _latents,
    reco.RandomNormal: _never,
}


_MADE_LATE: Final = frozenset(
    {
        ensemble.SRPClassifier,
        forest.ARFClassifier,
        forest.ARFRegressor,
        forest.OXTRegressor,
        linear_model.AdPredictor,
    }
)
# Estimators that hand the very features that they get to what is inside, so that a scaler in there
# knows them if it knows those of the event. What others hold must not write whatever it is given.
PASSES: Final = frozenset(
    {
        anomaly.QuantileFilter,
        anomaly.ThresholdFilter,
        compose.TransformerUnion,
        conf.RegressionJackknife,
        drift.DriftRetrainingClassifier,
        ensemble.ADWINBaggingClassifier,
        ensemble.ADWINBoostingClassifier,
        ensemble.AdaBoostClassifier,
        ensemble.BOLEClassifier,
        ensemble.BaggingClassifier,
        ensemble.BaggingRegressor,
        ensemble.EWARegressor,
        ensemble.LeveragingBaggingClassifier,
        ensemble.VotingClassifier,
        model_selection.BanditClassifier,
        model_selection.BanditRegressor,
        model_selection.GreedyRegressor,
        model_selection.SuccessiveHalvingClassifier,
        model_selection.SuccessiveHalvingRegressor,
        multiclass.OneVsOneClassifier,
        multiclass.OneVsRestClassifier,
        preprocessing.PredClipper,
        preprocessing.TargetMinMaxScaler,
        preprocessing.TargetStandardScaler,
    }
)

_found: Final[dict[type, Ready | None]] = {**READY, MinMaxScaler: None}


def ready_of(cls: type) -> Ready | None:
    """None: always ready. Estimators that hold others are as ready as those are."""
    if cls in _found:
        return _found[cls]
    kept = next((READY[parent] for parent in cls.__mro__ if parent in READY), None)
    if kept is not None:
        _found[cls] = kept
        return kept
    holds = issubclass(cls, compose.TransformerUnion | base.Wrapper | base.Ensemble)
    found = _found[cls] = _parts if holds or _takes_estimators(cls) else None
    return found


def _takes_estimators(cls: type) -> bool:
    """Whether a parameter of `cls` is an estimator, going by its annotation or its name."""
    start: Any = inspect.getattr_static(cls, "__init__")
    code = getattr(start, "__code__", None)
    if code is None:
        return False
    notes = start.__annotations__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    return any(
        _HOLDING & set(str(notes.get(name, "")).replace(".", " ").replace("|", " ").split())
        or name in _HOLDING_NAMES
        for name in names
    )


_HOLDING: Final = frozenset(
    {"Classifier", "Regressor", "Estimator", "Transformer", "BaseTransformer", "AnomalyDetector"}
)
_HOLDING_NAMES: Final = frozenset(
    {"model", "models", "classifier", "regressor", "estimator", "predictive_model", "transformer"}
)
