"""One-step control: the actuator's value whose predicted outcome is nearest to the set-point.

The model proposes, the limits dispose: they are applied to what came out of the search, so nothing
that a model learns can move them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Literal, TypeAlias

import msgspec

from headrace.models.spec import Adjust

Reason: TypeAlias = Literal["model", "cold", "stale", "not_finite", "dead_band"]


class Situation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known when one event asks for an adjustment.

    `now` is what a prediction is added to: the labelled field's present value where the label is a
    change, 0.0 where it is the value itself. `last` is the actuator as the event reports it, which
    need not be what was decided. `updates` counts what the key's model has learned; `stale` says
    that it learned too long ago.
    """

    now: float
    last: float
    setpoint: float
    updates: int
    stale: bool = False


class Adjustment(msgspec.Struct, frozen=True, gc=False):
    """A value within the range, why it was chosen, and the outcome predicted for it, if any."""

    value: float
    reason: Reason
    predicted: float | None = None


class AdjustPolicy:
    """Turns a model's predictions into an actuator value, the same one for the same input.

    In this order: an input that is not finite, or a stale model, gives the safe value at once;
    fewer than `cold.updates` updates give the declared open loop; an outcome that is predicted to
    stay within the dead band moves nothing; else the candidates low, low + search_step, …, high
    within `max_step` of the last value, and that window's two ends, are tried, and the one with
    the outcome nearest to the set-point is taken. Of equally near ones it is the farthest from the
    last value: a model that has not seen the actuator move predicts the same for all, and would
    never learn otherwise. One prediction that is not finite gives the safe value.

    The step limit holds for the model and for the open loop, not for the safe value: a machine
    that nobody understands is not left running for the sake of a smooth descent. The range always
    holds.

    >>> from headrace.models.spec import Adjust, Cold
    >>> policy = AdjustPolicy(
    ...     Adjust(actuator="q", low=0.0, high=100.0, setpoint=50.0, search_step=2.0,
    ...            max_step=10.0, cold=Cold(updates=20, bias=-35.0, slope=1.75), safe=0.0)
    ... )
    >>> warm = Situation(now=41.0, last=30.0, setpoint=50.0, updates=20)
    >>> policy.choose(lambda q: 0.25 * q - 2.0, warm)
    Adjustment(value=40.0, reason='model', predicted=49.0)
    >>> policy.choose(lambda q: None, Situation(now=41.0, last=45.0, setpoint=50.0, updates=3))
    Adjustment(value=52.5, reason='cold', predicted=None)
    >>> policy.choose(lambda q: float("nan"), warm)
    Adjustment(value=0.0, reason='not_finite', predicted=None)
    """

    def __init__(self, adjust: Adjust) -> None:
        assert float("-inf") < adjust.low <= adjust.high < float("inf")
        assert adjust.search_step > 0.0
        self._adjust = adjust
        self._grid = _grid(adjust.low, adjust.high, adjust.search_step)

    def choose(self, predict: Callable[[float], float | None], at: Situation) -> Adjustment:
        """The adjustment. `predict` gives the model's prediction for an actuator value, unchanged
        by being asked; None where the model cannot say. It is called len(grid) + 3 times at most.
        """
        adjust = self._adjust
        if not (isfinite(at.now) and isfinite(at.last) and isfinite(at.setpoint)):
            return self._safe("not_finite")
        if at.stale:
            return self._safe("stale")
        last = self._within(at.last)
        if at.updates < adjust.cold.updates:
            value = adjust.cold.bias + adjust.cold.slope * at.setpoint
            return Adjustment(self._limited(value, last), "cold")
        if adjust.dead_band > 0.0:
            predicted = _outcome(predict, last, at.now)
            if predicted is None:
                return self._safe("not_finite")
            if abs(predicted - at.setpoint) <= adjust.dead_band:
                return Adjustment(last, "dead_band", predicted)
        best = _nearest(predict, self._candidates(last), at)
        if best is None:
            return self._safe("not_finite")
        value, predicted = best
        return Adjustment(self._limited(value, last), "model", predicted)

    def _candidates(self, last: float) -> Sequence[float]:
        step = self._adjust.max_step
        if step is None:
            return self._grid
        low, high = self._within(last - step), self._within(last + step)
        inner = self._grid[bisect_right(self._grid, low) : bisect_left(self._grid, high)]
        return [low, *inner, high]

    def _safe(self, reason: Reason) -> Adjustment:
        return Adjustment(self._within(self._adjust.safe), reason)

    def _limited(self, value: float, last: float) -> float:
        step = self._adjust.max_step
        if step is not None:
            value = min(max(value, last - step), last + step)
        return self._within(value)

    def _within(self, value: float) -> float:
        return min(max(value, self._adjust.low), self._adjust.high)


def _grid(low: float, high: float, step: float) -> list[float]:
    """low, low + step, … and always high. Products, not sums, so that no error adds up."""
    inner = (low + index * step for index in range(int((high - low) / step) + 1))
    return [*(value for value in inner if value < high), high]


def _nearest(
    predict: Callable[[float], float | None], candidates: Sequence[float], at: Situation
) -> tuple[float, float] | None:
    """(value, predicted outcome) of the best candidate; None if any prediction is not finite.

    Equally near and equally far from the last value: the lowest, as candidates ascend.
    """
    best: tuple[float, float] | None = None
    nearest, farthest = float("inf"), 0.0
    for value in candidates:
        predicted = _outcome(predict, value, at.now)
        if predicted is None:
            return None
        distance, away = abs(predicted - at.setpoint), abs(value - at.last)
        if best is None or distance < nearest or (distance == nearest and away > farthest):
            best, nearest, farthest = (value, predicted), distance, away
    return best


def _outcome(predict: Callable[[float], float | None], value: float, now: float) -> float | None:
    predicted = predict(value)
    if predicted is None:
        return None
    outcome = now + predicted
    return outcome if isfinite(outcome) else None
