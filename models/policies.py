"""From what a model says to what the agent decides. The same for an event and for a question."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

import msgspec

from headrace.models.adjust import AdjustPolicy, Situation
from headrace.models.decisions import VerdictPolicy
from headrace.models.forecasts import Forecast
from headrace.models.spec import Adjust, Spec, Verdict
from headrace.views import ScoredItem


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What the policy made of one event or question."""

    decision: str
    score: float | None
    updates: int
    cold: bool
    value: float | None = None
    items: tuple[ScoredItem, ...] | None = None


class Setting(NamedTuple):
    """What an adjustment depends on besides the model: None where it is not known."""

    present: float | None  # the labelled field's value now
    setpoint: float | None  # where the spec does not fix it
    updates: int  # how often the key has taught the model
    age_ms: int | None  # log time since it last did


def simple_policy(spec: Spec) -> Callable[[Forecast, int], Choice]:
    """How a forecast by a model with so many updates becomes a choice: verdict or score.

    A verdict goes by the score. Else the decision is the class that a multiclass model names, or
    plainly `score`.
    """
    if isinstance(spec.decide, Verdict):
        verdict = VerdictPolicy(spec.decide).choose
        return lambda said, updates: Choice(verdict(said.score), said.score, updates, updates == 0)
    if spec.kind == "multiclass":
        return lambda said, updates: Choice(str(said.label), said.score, updates, updates == 0)
    return lambda said, updates: Choice("score", said.score, updates, updates == 0)


class Adjuster:
    """Puts an adjustment policy between a slot's model and an actuator."""

    def __init__(self, adjust: Adjust, spec: Spec, forecast: Callable[..., Forecast]) -> None:
        self._adjust = adjust
        self._change = spec.label is not None and spec.label.change
        self._forecast = forecast
        self._policy = AdjustPolicy(adjust)

    def choose(self, model: Any, x: dict[str, Any], at: Setting) -> Choice:
        """The adjustment, with its reason as the decision and the predicted outcome as the score.

        Raises EventError (`score_not_finite`) as the forecaster does.
        """
        adjust = self._adjust
        setpoint = adjust.setpoint if adjust.setpoint is not None else at.setpoint
        present = at.present if self._change else 0.0
        limit = adjust.stale_after_ms
        chosen = self._policy.choose(
            self._asker(model, x),
            Situation(
                now=nan if present is None else present,
                last=x.get(adjust.actuator, nan),
                setpoint=nan if setpoint is None else setpoint,
                updates=at.updates,
                stale=limit is not None and at.age_ms is not None and at.age_ms > limit,
            ),
        )
        cold = at.updates < adjust.cold.updates
        return Choice(chosen.reason, chosen.predicted, at.updates, cold, chosen.value)

    def _asker(self, model: Any, x: dict[str, Any]) -> Callable[[float], float | None]:
        tried = dict(x)
        actuator = self._adjust.actuator
        forecast = self._forecast

        def ask(value: float) -> float | None:
            tried[actuator] = value
            return forecast(model, tried).score

        return ask
