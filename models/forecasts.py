"""What a model of each kind says of one event: label, score, probabilities.

One forward pass serves both the label and the probabilities where the estimator leaves River's
`predict_one` as it is (the most probable class); reads go through `headrace.models.pure`, so that
nothing here changes a model.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec
from river import base, compose

from headrace.errors import EventError
from headrace.models import pure

Features = dict[str, Any]


class Forecast(msgspec.Struct, frozen=True, gc=False):
    """A model's word on one event. All None: it cannot say yet."""

    label: Any = None
    score: float | None = None
    probabilities: dict[Any, float] | None = None


Forecaster = Callable[[Any, Features], Forecast]


def forecaster(kind: str, model: Any) -> Forecaster:
    """How models of this kind, made like `model`, are asked.

    `binary`: the score is the probability of true; `multiclass`: of the most probable class;
    `anomaly`: the anomaly score; `clusterer`: the cluster's number; else the predicted number.
    The forecaster raises EventError (`score_not_finite`) for a score that is NaN or infinite.

    >>> from river import linear_model
    >>> model = linear_model.LogisticRegression()
    >>> model.learn_one({"x": 1.0}, True)
    >>> said = forecaster("binary", model)(model, {"x": 1.0})
    >>> said.label, round(said.score, 4), round(said.probabilities[False], 4)
    (True, 0.5025, 0.4975)
    """
    if kind in ("binary", "multiclass"):
        last = model
        while isinstance(last, compose.Pipeline):
            last = last._last_step
        cls = type(last)
        derived = cls.predict_one is base.Classifier.predict_one
        if cls.predict_proba_one is base.Classifier.predict_proba_one:
            return _labels
        if kind == "binary":
            return _binary if derived else _binary_both
        return _multiclass if derived else _multiclass_both
    return _anomaly if kind == "anomaly" else _number


def _binary(model: Any, x: Features) -> Forecast:
    shares = pure.predict_proba(model, x)
    if not shares:
        return Forecast()
    score = shares.get(True, 0.0)
    if score - score != 0.0:  # NaN or infinite
        raise _not_finite(score)
    other = shares.get(False)
    if other is not None and other != score and len(shares) == 2:  # quicker than max
        return Forecast(score > other, score, shares)
    return Forecast(max(shares, key=shares.get), score, shares)  # type: ignore[arg-type]


def _binary_both(model: Any, x: Features) -> Forecast:
    shares = pure.predict_proba(model, x)
    score = shares.get(True, 0.0) if shares else None
    if score is not None and not isfinite(score):
        raise _not_finite(score)
    return Forecast(pure.predict_one(model, x), score, shares or None)


def _multiclass(model: Any, x: Features) -> Forecast:
    shares = pure.predict_proba(model, x)
    if not shares:
        return Forecast()
    label = max(shares, key=shares.get)  # type: ignore[arg-type]
    return Forecast(label, _finite(shares[label]), shares)


def _multiclass_both(model: Any, x: Features) -> Forecast:
    shares = pure.predict_proba(model, x)
    label = pure.predict_one(model, x)
    return Forecast(label, _finite(shares.get(label)) if shares else None, shares or None)


def _labels(model: Any, x: Features) -> Forecast:
    """For the classifiers that know no probabilities: a boolean label is its own score."""
    label = pure.predict_one(model, x)
    return Forecast(label, float(label) if isinstance(label, bool) else None, None)


def _number(model: Any, x: Features) -> Forecast:
    return Forecast(None, _finite(pure.predict_one(model, x)), None)


def _anomaly(model: Any, x: Features) -> Forecast:
    return Forecast(None, _finite(pure.score_one(model, x)), None)


def _finite(score: Any) -> float | None:
    if score is None:
        return None
    score = float(score)  # numpy's scalars, booleans of classifiers, cluster numbers
    if score - score != 0.0:
        raise _not_finite(score)
    return score  # type: ignore[no-any-return]


def _not_finite(score: float) -> EventError:
    return EventError("score_not_finite", f"the model predicts {score} for this event")
