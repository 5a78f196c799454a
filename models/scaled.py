"""River's scaler between the extremes, for features that it has not seen."""

from __future__ import annotations

from typing import Any

from river import preprocessing

__all__ = ["MinMaxScaler"]


class MinMaxScaler(preprocessing.MinMaxScaler):
    """River's MinMaxScaler, except that a feature never seen before scales to 0.

    River's makes an entry for such a feature and says NaN, so that the first prediction of every
    key is NaN, and a key whose score is not finite would never come to learn. For all features that
    it has seen the numbers are River's.

    >>> scaler = MinMaxScaler()
    >>> scaler.learn_one({"x": 1.0})
    >>> scaler.learn_one({"x": 3.0})
    >>> scaler.transform_one({"x": 2.5, "new": 7.0})
    {'x': 0.75, 'new': 0.0}
    """

    def transform_one(self, x: dict[Any, Any]) -> dict[Any, float]:
        known = self.min.keys()
        seen = {name: value for name, value in x.items() if name in known}
        scaled: dict[Any, float] = super().transform_one(seen)  # type: ignore[no-untyped-call]
        if len(seen) == len(x):
            return scaled
        # In the event's order, because sums over features round by their order.
        return {name: scaled.get(name, 0.0) for name in x}
