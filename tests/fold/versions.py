"""Other specs for an agent that runs: one that lets its models go on, and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from river import optim

from tests.fold.oracle import Oracle

_LINEAR = ("linear_model.LogisticRegression", "linear_model.LinearRegression")
_INTERCEPT = 0.5


def versions(oracle: Oracle, rate: float) -> tuple[Oracle, ...]:
    """The oracle itself, which learns at that rate, and others of the same agent: one that learns
    twice as quickly, and one that begins with another intercept, which River does not let change.

    Of an agent that has no linear model there is none but itself.
    """
    name = next((name for name in _LINEAR if name in oracle.spec), None)
    if name is None:
        return (oracle,)
    plain = _rated(oracle, name, rate, "plain")
    return plain, _rated(oracle, name, 2 * rate, "plain"), _shifted(oracle, name, rate)


def _rated(oracle: Oracle, name: str, rate: float, shape: str) -> Oracle:
    def tune(model: Any) -> None:
        _linear(model).optimizer.lr = optim.schedulers.Constant(rate)

    def make(key: str) -> Any:
        model = oracle.make(key)
        tune(model)
        return model

    parameters = f"optimizer: {{optim.SGD: {{lr: {rate}}}}}"
    return replace(oracle, spec=_with(oracle, name, parameters), make=make, shape=shape, tune=tune)


def _shifted(oracle: Oracle, name: str, rate: float) -> Oracle:
    rated = _rated(oracle, name, rate, "shifted")
    unshifted: Callable[[str], Any] = rated.make

    def make(key: str) -> Any:
        model = unshifted(key)
        linear = _linear(model)
        linear.intercept_init = linear.intercept = _INTERCEPT
        return model

    parameters = f"optimizer: {{optim.SGD: {{lr: {rate}}}}}, intercept_init: {_INTERCEPT}"
    return replace(rated, spec=_with(oracle, name, parameters), make=make)


def _with(oracle: Oracle, name: str, parameters: str) -> str:
    """The spec with those parameters of its linear model, in place of those that it has."""
    before, _, after = oracle.spec.partition(name)
    line, newline, rest = after.partition("\n")
    if line.startswith(":"):  # it has some: up to the end of its line
        closing = "}" if before.rstrip().endswith("{") else ""
        return f"{before}{name}: {{{parameters}}}{closing}{newline}{rest}"
    return f"{before}{{{name}: {{{parameters}}}}}{line}{newline}{rest}"


def _linear(model: Any) -> Any:
    return list(model.steps.values())[-1] if hasattr(model, "steps") else model
