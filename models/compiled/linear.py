"""StandardScaler and a linear model, learned by stochastic gradient descent, as four tuples.

The operations are those of River's StandardScaler (Welford 1962), LinearRegression and
LogisticRegression, on the same numbers in the same order: sums over features run in declared order,
and nothing is summed in another way (`sum` and `math.sumprod` round otherwise from Python 3.12 on).
What is spared is a dozen calls and some sixty dictionary look-ups per event, two thirds of the time
and, as four tuples hold what takes River a dozen dictionaries, two thirds of the memory. Tuples of
numbers are of no concern to the garbage collector: 10⁵ models do not stop it, nor it the loop.
"""

from __future__ import annotations

from typing import Any

import msgspec
from river import compose, linear_model, optim, preprocessing

from headrace.errors import EventError
from headrace.models.compiled.linear_bytes import LinearBytes
from headrace.models.forecasts import Forecast
from headrace.models.spec import Spec

LOSSES = frozenset({optim.losses.Log, optim.losses.Squared, optim.losses.Absolute})
SCHEDULERS = frozenset({optim.schedulers.Constant, optim.schedulers.InverseScaling})


class LinearModel(msgspec.Struct, gc=False):
    """The learned numbers of one model; one entry per feature in declared order.

    `count`: events learned. `scales` are the square roots of `variances`, kept because every
    forecast divides by them.
    """

    count: int
    intercept: float
    means: tuple[float, ...]
    variances: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]


def compiled_linear(spec: Spec) -> LinearForm | None:
    """The form for the spec's models, if they are of this kind and every event has all features."""
    plain = all(f.type != "category" and f.missing == "reject" for f in spec.features.values())
    model = spec.build_model("")
    if not plain or type(model) is not compose.Pipeline or len(model.steps) != 2:
        return None
    scaler, linear = model.steps.values()
    if (
        type(scaler) is preprocessing.StandardScaler
        and scaler.with_std
        and scaler.window_size is None
        and _is_plain(linear)
    ):
        return LinearForm(list(spec.features), model)
    return None


def _is_plain(linear: Any) -> bool:
    """Whether nothing is in it that `LinearForm` leaves out: no penalties, no other optimizer."""
    return (
        type(linear) in (linear_model.LinearRegression, linear_model.LogisticRegression)
        and linear.l1 == linear.l2 == 0.0
        and type(linear.loss) in LOSSES
        and type(linear.optimizer) is optim.SGD
        and type(linear.optimizer.lr) in SCHEDULERS
        and type(linear.intercept_lr) in SCHEDULERS
        and type(linear.initializer) is optim.initializers.Zeros
    )


class LinearForm:
    """Implements `forms.Form`. `model` is a River pipeline that has learned nothing.

    >>> from river.linear_model import LinearRegression
    >>> from headrace.models import codec
    >>> form = LinearForm(["x"], preprocessing.StandardScaler() | LinearRegression())
    >>> model = form.new("ada")
    >>> for x in (1.0, 2.0, 4.0):
    ...     form.learn(model, {"x": x}, 3 * x)
    >>> round(form.forecast(model, {"x": 5.0}).score, 6)
    1.33248
    >>> round(codec.decode(form.encode(model)).predict_one({"x": 5.0}), 6)
    1.33248
    """

    def __init__(self, features: list[str], model: Any) -> None:
        scaler, linear = model.steps.values()
        assert not scaler.counts
        self._bytes = LinearBytes(features, model)
        self._zeros = (0.0,) * len(features)
        self._first_intercept: float = linear.intercept
        self._gradient = linear.loss.gradient
        self._mean = linear.loss.mean_func
        self._clip: float = linear.clip_gradient
        self._rate = linear.optimizer.lr.get
        self._intercept_rate = linear.intercept_lr.get
        if type(linear) is linear_model.LogisticRegression:
            self.forecast = self._probability
        else:
            self.forecast = self._number

    def new(self, key: str) -> LinearModel:
        zeros = self._zeros
        return LinearModel(0, self._first_intercept, zeros, zeros, zeros, zeros)

    def encode(self, model: LinearModel) -> bytes:
        return self._bytes.written(model)

    def decode(self, data: bytes) -> LinearModel:
        model = self.new("")
        self._bytes.read(data, model)
        model.scales = tuple([variance**0.5 for variance in model.variances])
        return model

    def learn(self, model: LinearModel, x: dict[str, Any], y: Any) -> None:
        """Scale, then step down the gradient. The model changes at the very end, or not at all."""
        before = model.count
        count = before + 1
        means: list[float] = []
        variances: list[float] = []
        scales: list[float] = []
        scaled: list[float] = []
        total = 0.0
        for value, old, variance, weight in zip(  # noqa: B905 - see `_raw`
            x.values(), model.means, model.variances, model.weights
        ):
            away = value - old
            mean = old + away / count
            variance += (away * (value - mean) - variance) / count
            scale = variance**0.5
            one = (value - mean) / scale if scale else 0.0
            means.append(mean)
            variances.append(variance)
            scales.append(scale)
            scaled.append(one)
            total += weight * one
        slope = self._gradient(y, total + model.intercept) * 1.0
        if not -self._clip <= slope <= self._clip:
            slope = float(max(min(slope, self._clip), -self._clip))
        rate = self._rate(before)
        model.intercept -= self._intercept_rate(before) * slope
        model.weights = tuple(
            [
                weight - rate * (one * slope)
                for weight, one in zip(model.weights, scaled)  # noqa: B905
            ]
        )
        model.count = count
        model.means, model.variances, model.scales = tuple(means), tuple(variances), tuple(scales)

    def _raw(self, model: LinearModel, x: dict[str, Any]) -> float:
        total = 0.0
        # The guard lets through events with all features only. To look again costs 0.6 µs.
        for value, mean, scale, weight in zip(  # noqa: B905
            x.values(), model.means, model.scales, model.weights
        ):
            total += weight * ((value - mean) / scale if scale else 0.0)
        return total + model.intercept

    def _number(self, model: LinearModel, x: dict[str, Any]) -> Forecast:
        score: float = self._mean(self._raw(model, x))
        if score - score != 0.0:  # NaN or infinite
            raise _not_finite(score)
        return Forecast(None, score)

    def _probability(self, model: LinearModel, x: dict[str, Any]) -> Forecast:
        share: float = self._mean(self._raw(model, x))
        if share - share != 0.0:
            raise _not_finite(share)
        other = 1.0 - share
        return Forecast(share > other, share, {False: other, True: share})


def _not_finite(score: float) -> EventError:
    return EventError("score_not_finite", f"the model predicts {score} for this event")
