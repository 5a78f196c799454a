"""What a River model says of an event, and what the agent then decides. Copies are asked."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import isfinite
from typing import Any

from tests.fold.oracle import Kind, Oracle, Steering, Verdicts
from tests.fold.reading import EXTREME, Refused

# What River's estimators raise on an event that they cannot bear.
RIVER_ERRORS = (ArithmeticError, ValueError, TypeError, KeyError, IndexError, AttributeError)


@dataclass(frozen=True)
class Said:
    """A model's word on one event; all None: it cannot say yet."""

    label: Any = None
    score: float | None = None
    shares: dict[Any, float] | None = None


@dataclass(frozen=True)
class Chosen:
    """A decision and what came with it."""

    decision: str
    score: float | None
    cold: bool
    value: float | None = None


@dataclass(frozen=True)
class Moment:
    """What steering depends on besides the model."""

    present: float | None  # what a predicted change is added to
    updates: int
    age_ms: int | None  # since the key last learned


def ask(kind: Kind, model: Any, x: dict[str, Any]) -> Said:
    """The model's word. Raises Refused for a score that is not finite, or a model that fails."""
    asked = copy.deepcopy(model)
    try:
        said = _said(kind, asked, dict(x))
    except RIVER_ERRORS:
        raise Refused("model_failed") from None
    if said.score is not None and not isfinite(said.score):
        raise Refused("score_not_finite")
    return said


def _said(kind: Kind, model: Any, x: dict[str, Any]) -> Said:
    if kind == "regressor":
        return Said(score=_float(model.predict_one(x)))
    if kind == "anomaly":
        return Said(score=_float(model.score_one(x)))
    shares = model.predict_proba_one(x)
    if not shares:
        return Said()
    label = max(shares, key=shares.get)
    return Said(label, shares.get(True, 0.0) if kind == "binary" else shares[label], shares)


def _float(number: Any) -> float | None:
    return None if number is None else float(number)


def is_extreme(said: Said, y: Any) -> bool:
    """Whether a number beyond the usual is in it, after which the model is looked at."""
    numbers = [n for n in (said.score, y) if isinstance(n, float)]
    return any(abs(n) > EXTREME for n in numbers)


def choose(oracle: Oracle, model: Any, x: dict[str, Any], said: Said, at: Moment) -> Chosen:
    """The agent's decision on an event of which the model said `said`. Raises Refused."""
    rule = oracle.decide
    if isinstance(rule, Steering):
        change = oracle.label is not None and oracle.label.change
        present = at.present if change else 0.0
        decision, value, score = _steer(rule, _Outcomes(oracle, model, x, rule), present, at)
        return Chosen(decision, score, at.updates < rule.cold_updates, value)
    cold = at.updates == 0
    if isinstance(rule, Verdicts):
        return Chosen(_verdict(rule, said.score), said.score, cold)
    return Chosen(str(said.label) if oracle.kind == "multiclass" else "score", said.score, cold)


def _verdict(rule: Verdicts, score: float | None) -> str:
    reached = [(least, name) for name, least in rule.thresholds if (score or 0.0) >= least]
    return max(reached)[1] if score is not None and reached else rule.otherwise


class _Outcomes:
    """What the model predicts for values of the actuator."""

    def __init__(self, oracle: Oracle, model: Any, x: dict[str, Any], rule: Steering) -> None:
        self._kind = oracle.kind
        self._model = model
        self._x = x
        self.actuator = rule.actuator
        self.last: float | None = x.get(rule.actuator)

    def of(self, value: float, present: float) -> float | None:
        """The predicted outcome; None if it is not finite."""
        score = ask(self._kind, self._model, {**self._x, self.actuator: value}).score
        return None if score is None or not isfinite(present + score) else present + score


def _steer(
    rule: Steering, outcomes: _Outcomes, present: float | None, at: Moment
) -> tuple[str, float, float | None]:
    """Reason, value and predicted outcome: docs/spec.md, `adjust`."""

    def bounded(value: float) -> float:
        return min(max(value, rule.low), rule.high)

    def limited(value: float) -> float:
        if rule.max_step is not None:
            value = min(max(value, last - rule.max_step), last + rule.max_step)
        return bounded(value)

    safe = bounded(rule.safe)
    if present is None or outcomes.last is None:
        return "not_finite", safe, None
    reported = outcomes.last
    last = bounded(reported)
    if rule.stale_after_ms is not None and (at.age_ms or 0) > rule.stale_after_ms:
        return "stale", safe, None
    if at.updates < rule.cold_updates:
        return "cold", limited(rule.cold_value), None
    if rule.dead_band > 0:
        stays = outcomes.of(last, present)
        if stays is None:
            return "not_finite", safe, None
        if abs(stays - rule.setpoint) <= rule.dead_band:
            return "dead_band", last, stays
    tried = [(value, outcomes.of(value, present)) for value in _candidates(rule, last)]
    if any(outcome is None for _, outcome in tried):
        return "not_finite", safe, None
    found = [(value, outcome) for value, outcome in tried if outcome is not None]
    value, outcome = min(
        found, key=lambda one: (abs(one[1] - rule.setpoint), -abs(one[0] - reported))
    )
    return "model", limited(value), outcome


def _candidates(rule: Steering, last: float) -> list[float]:
    steps = int((rule.high - rule.low) / rule.search_step) + 1
    grid = [rule.low + n * rule.search_step for n in range(steps)]
    grid = [value for value in grid if value < rule.high] + [rule.high]
    if rule.max_step is None:
        return grid
    low = max(last - rule.max_step, rule.low)
    high = min(last + rule.max_step, rule.high)
    return [low, *(value for value in grid if low < value < high), high]
