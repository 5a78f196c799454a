"""Reads that change no state: predict, score and transform for every estimator of the catalog.

Some of River's read methods write: a scaler makes entries for features that it has not seen, a
factorisation machine draws latent factors, an ensemble is built at its first prediction. A read
here gives the number that River's own call would give, and leaves the model's bytes as they are.

Most estimators are read directly. `catalog.read_conditions` lists those that write, each with the
condition under which it does not: say, that a scaler knows all features. Where the condition does
not hold, the one step that would write is copied through the codec, and the copy is read. The list
was found by `headrace.models.checks.predict_changes_no_state`, and a test holds it to that law.

Reading and writing are not for two threads at once; the service has one event loop.
"""

from __future__ import annotations

from typing import Any

from river import base, compose, preprocessing

from headrace.models.catalog.read_conditions import ready_of
from headrace.models.codec import decode, encode

__all__ = ["predict_one", "predict_proba", "rate", "score_one", "transform_one"]

Features = dict[str, Any]


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
    if type(model) is compose.TransformerUnion:
        return _united(model, x)
    return _readable(model, x).transform_one(x)


def rate(model: Any, user: Any, item: Any, x: Features | None = None) -> Any:
    """What a recommender's `predict_one(user, item, x)` would say."""
    return _readable(model, {"user": user, "item": item}).predict_one(user, item, x)


def _last(pipeline: Any, x: Any) -> tuple[Any, Any]:
    """The last step of a pipeline and what reaches it."""
    if pipeline._plan is None:
        pipeline._build_plan()  # derived from the steps: no state, and not in the bytes
    for step in pipeline._inference_transformers:
        kind = type(step)
        if kind is preprocessing.StandardScaler:
            x = _standardised(step, x)
        elif kind is compose.Pipeline or kind is compose.TransformerUnion:
            x = transform_one(step, x)
        else:
            x = _readable(step, x).transform_one(x)
    last = pipeline._last_step_cached
    return _last(last, x) if type(last) is compose.Pipeline else (last, x)


def _readable(model: Any, x: Any) -> Any:
    """The model itself if reading it with `x` writes nothing, else a copy."""
    ready = ready_of(type(model))
    return model if ready is None or ready(model, x) else decode(encode(model))


def _united(union: Any, x: Features) -> Features:
    """TransformerUnion.transform_one, part by part: no part is copied because another writes."""
    result: Features = {}
    for part in reversed(union.transformers.values()):  # as River: the first part wins
        result.update(transform_one(part, x))
    return result


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
