"""A model for people: its parameters and what it has learned, as far as that fits on a screen."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from river import compose

ENTRIES_MAX = 64  # of one mapping or list; the rest is counted
DEPTH_MAX = 3
TEXT_MAX = 120


def portrait(model: Any) -> dict[str, Any]:
    """Plain data (JSON's types) by step: `parameters` as given, `learned` as it is now.

    >>> from river import linear_model, optim
    >>> model = linear_model.LinearRegression(optim.SGD(0.1), l2=0.5)
    >>> model.learn_one({"x": 1.0}, 2.0)
    >>> shown = portrait(model)["LinearRegression"]
    >>> shown["parameters"]["l2"], shown["learned"]["intercept"], shown["learned"]["weights"]
    (0.5, 0.04, {'x': 0.4})
    """
    if model is None:
        return {}
    steps = model.steps if isinstance(model, compose.Pipeline) else {type(model).__name__: model}
    return {str(name): _estimator(step) for name, step in steps.items()}


def _estimator(step: Any) -> dict[str, Any]:
    if isinstance(step, compose.Pipeline):
        return portrait(step)
    parameters = step._get_params() if hasattr(step, "_get_params") else {}
    learned = {name: value for name, value in _attributes(step).items() if name not in parameters}
    return {
        "parameters": {name: _plain(value, DEPTH_MAX) for name, value in parameters.items()},
        "learned": {name: _plain(value, DEPTH_MAX) for name, value in learned.items()},
    }


def _attributes(thing: Any) -> dict[str, Any]:
    found = {name: v for name, v in vars(thing).items() if not name.startswith("_")}
    # River's linear models keep their weights in a Rust vector behind a property.
    weights = getattr(thing, "weights", None)
    if weights is None:
        return found
    # Ensembles have a list there.
    shown = dict(weights) if hasattr(weights, "keys") else list(weights)
    return found | {"weights": shown}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value if value is None or isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if isinstance(value, Mapping):
        if depth == 0:
            return f"{len(value)} entries"
        shown = {str(k): _plain(v, depth - 1) for k, v in list(value.items())[:ENTRIES_MAX]}
        return shown | ({"…": len(value) - ENTRIES_MAX} if len(value) > ENTRIES_MAX else {})
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type):
        # A parameter that is an estimator, as River lists it: its class and its own parameters.
        # It costs no depth: a mapping does, and an optimizer's learning rate is a schedule's.
        inner = _plain(value[1], depth) if depth > 0 else {}
        return {value[0].__name__: inner} if inner else value[0].__name__
    if isinstance(value, list | tuple):
        if depth == 0:
            return f"{len(value)} items"
        return [_plain(item, depth - 1) for item in value[:ENTRIES_MAX]]
    if isinstance(value, type):
        return value.__name__
    return _short(value)


def _short(value: Any) -> Any:
    get = getattr(value, "get", None)  # River's running statistics
    if callable(get):
        try:
            return _plain(get(), 0)
        except TypeError:
            pass
    item = getattr(value, "tolist", None)  # numpy's scalars and arrays
    return _plain(item(), 1) if callable(item) else type(value).__name__
