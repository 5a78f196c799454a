"""Reads that change no state: predict, score and transform for every estimator of the catalog.

Some of River's read methods write: a scaler makes entries for features that it has not seen, a
factorisation machine draws latent factors, an ensemble is built at its first prediction. A read
here gives the number that River's own call would give, and leaves the model's bytes as they are.

Most estimators are read directly. `READY` lists those that write, each with the condition under
which it does not: say, that a scaler knows all features. Where the condition does not hold, the one
step that would write is copied through the codec, and the copy is read. The list was found by
`headrace.models.checks.predict_changes_no_state`, and a test holds it to that law.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

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

from headrace.models.codec import decode, encode

__all__ = ["READY", "how", "predict_one", "predict_proba", "rate", "score_one", "transform_one"]

Features = dict[str, Any]
Ready = Callable[[Any, Any], bool]


def predict_one(model: Any, x: Any) -> Any:
    """What `model.predict_one(x)` would say.

    >>> from river import linear_model, preprocessing
    >>> model = preprocessing.StandardScaler() | linear_model.LinearRegression()
    >>> model.learn_one({"x": 1.0}, 2.0)
    >>> before = encode(model)
    >>> predict_one(model, {"x": 3.0, "never seen": 1.0})
    0.04
    >>> encode(model) == before
    True
    """
    if type(model) is compose.Pipeline:
        model, x = _last(model, x)
    return _readable(model, x).predict_one(x)


def predict_proba(model: Any, x: Any) -> dict[Any, float]:
    """What `model.predict_proba_one(x)` would say: probabilities by class, in River's order."""
    if type(model) is compose.Pipeline:
        model, x = _last(model, x)
    shares: dict[Any, float] = _readable(model, x).predict_proba_one(x)
    return shares


def score_one(model: Any, x: Any) -> float:
    """What `model.score_one(x)` would say of an anomaly detector: higher is stranger."""
    if type(model) is compose.Pipeline:
        model, x = _last(model, x)
    score: float = _readable(model, x).score_one(x)
    return score


def transform_one(model: Any, x: Any) -> Any:
    """What `model.transform_one(x)` would say.

    A pipeline's last step, if it is no transformer, is left out, as in River.
    """
    if type(model) is compose.Pipeline:
        model, x = _last(model, x)
        if not isinstance(model, base.Transformer):
            return x
    if type(model) is preprocessing.StandardScaler:
        return _standardised(model, x)
    return _readable(model, x).transform_one(x)


def rate(model: Any, user: Any, item: Any, x: Features | None = None) -> Any:
    """What a recommender's `predict_one(user, item, x)` would say."""
    return _readable(model, {"user": user, "item": item}).predict_one(user, item, x)


def how(cls: type) -> str:
    """How an estimator of this class is read, for people."""
    ready = _ready_of(cls)
    if ready is None:
        return "directly"
    if ready is _never:
        return "from a copy"
    if cls is preprocessing.StandardScaler:
        return "by a twin that makes no entries"
    if ready in (_parts, _steps, _weighted):
        return "directly if all inside is, else from a copy"
    if cls in _MADE_LATE:
        return "directly once it has learned, before from a copy"
    return "directly once it knows the features, else from a copy"


def _last(pipeline: Any, x: Any) -> tuple[Any, Any]:
    """The last step of a pipeline and what reaches it."""
    if pipeline._plan is None:
        pipeline._build_plan()  # derived from the steps: no state, and not in the bytes
    for step in pipeline._inference_transformers:
        kind = type(step)
        if kind is preprocessing.StandardScaler:
            x = _standardised(step, x)
        elif kind is compose.Pipeline:
            x = transform_one(step, x)
        else:
            x = _readable(step, x).transform_one(x)
    last = pipeline._last_step_cached
    return _last(last, x) if type(last) is compose.Pipeline else (last, x)


def _readable(model: Any, x: Any) -> Any:
    """The model itself if reading it with `x` writes nothing, else a copy."""
    kind = type(model)
    ready = _ready[kind] if kind in _ready else _ready_of(kind)
    return model if ready is None or ready(model, x) else decode(encode(model))


def _standardised(scaler: Any, x: Features) -> Features:
    """The numbers of River's StandardScaler.transform_one, without its entries for new features.

    The most frequent step by far, so it is worth having twice; `tests/models/test_pure.py` holds
    the two to the same bits.
    """
    if scaler.window_size is not None or not scaler.with_std:
        scaled: Features = _readable(scaler, x).transform_one(x)
        return scaled
    means = scaler.means
    variance_of = scaler.vars.get
    result = {}
    for name, value in x.items():
        variance = variance_of(name)  # None: not seen, which River takes for 0
        result[name] = (value - means[name]) / variance**0.5 if variance else 0.0
    return result


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
    ready = _ready_of(kind)
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
    ensemble.SRPRegressor: _made("data"),
    facto.FFMClassifier: _never,
    facto.FFMRegressor: _never,
    facto.FMClassifier: _known_numbers,
    facto.FMRegressor: _known_numbers,
    facto.FwFMClassifier: _never,
    facto.FwFMRegressor: _never,
    facto.HOFMClassifier: _never,
    facto.HOFMRegressor: _never,
    feature_extraction.RBFSampler: _never,
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
        ensemble.SRPRegressor,
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

_ready: Final[dict[type, Ready | None]] = dict(READY)


def _ready_of(cls: type) -> Ready | None:
    """None: always ready. Estimators that hold others are as ready as those are."""
    if cls in _ready:
        return _ready[cls]
    kept = next((READY[parent] for parent in cls.__mro__ if parent in READY), None)
    if kept is not None:
        _ready[cls] = kept
        return kept
    holds = issubclass(cls, compose.TransformerUnion | base.Wrapper | base.Ensemble)
    found = _ready[cls] = _parts if holds or _takes_estimators(cls) else None
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
