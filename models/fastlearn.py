"""How a model learns one event: River's own `learn_one`, without what a plain pipeline can spare.

Most pipelines are transformers that learn without labels and one estimator after them. For those
River's loop decides at each step and event what is known beforehand, and a StandardScaler looks
each feature up nine times. Here the loop is plain and the scaler learns and scales in one pass: the
same operations on the same numbers in the same order, so the model's bytes are River's. A law in
the tests holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from river import compose, preprocessing

Learn: TypeAlias = Callable[[Any, dict[str, Any], Any], None]


def learning_of(model: Any) -> Learn:
    """How models made like `model` learn: a function of model, features and label.

    The label of an estimator that needs none is not looked at.

    >>> from river import linear_model
    >>> model = preprocessing.StandardScaler() | linear_model.LinearRegression()
    >>> learn = learning_of(model)
    >>> for x in (1.0, 2.0, 4.0):
    ...     learn(model, {"x": x}, 3 * x)
    >>> round(model.predict_one({"x": 5.0}), 6)
    1.33248
    """
    supervised: bool = model._supervised
    if type(model) is compose.Pipeline:
        *first, last = model._plan or model._build_plan()
        plain = all(kind == "transformer" and not rest[1] for kind, *rest in first)
        if plain and last[0] == "final" and not model._LEARN_UNSUPERVISED_DURING_PREDICT:
            return _plain_supervised if last[2] else _plain
    return _supervised if supervised else _unsupervised


def _supervised(model: Any, x: dict[str, Any], y: Any) -> None:
    model.learn_one(x, y)


def _unsupervised(model: Any, x: dict[str, Any], y: Any) -> None:
    model.learn_one(x)


def _plain_supervised(model: Any, x: dict[str, Any], y: Any) -> None:
    model._last_step_cached.learn_one(_through(model, x), y)


def _plain(model: Any, x: dict[str, Any], y: Any) -> None:
    model._last_step_cached.learn_one(_through(model, x))


def _through(model: Any, x: dict[str, Any]) -> dict[str, Any]:
    """The transformers learn `x` one after the other; what comes out at the end."""
    if model._plan is None:
        model._build_plan()
    for step in model._inference_transformers:
        if type(step) is preprocessing.StandardScaler and step.with_std and not step.window_size:
            x = _scaled(step, x)
        else:
            step.learn_one(x)
            x = step.transform_one(x)
    return x


def _scaled(scaler: Any, x: dict[str, Any]) -> dict[str, Any]:
    """StandardScaler's learn_one, then its transform_one (Welford 1962), in one pass."""
    counts, means, variances = scaler.counts, scaler.means, scaler.vars
    scaled = {}
    for name, value in x.items():
        count = counts[name] + 1
        counts[name] = count
        before = means[name]
        mean = before + (value - before) / count
        means[name] = mean
        variance = variances[name]
        variance += ((value - before) * (value - mean) - variance) / count
        variances[name] = variance
        scaled[name] = (value - mean) / variance**0.5 if variance else 0.0
    return scaled
