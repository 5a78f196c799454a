"""Whether learning from an extreme event left a model finite.

A cheap question comes first: does it still predict a finite number for the same event? Sums of
numbers below 1e100 cannot overflow in one step, so only beyond that is the whole state looked
through, in its encoded form, where every float of it can be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isinf, isnan
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.models.codec.tags import ARRAY

EXTREME = 1e6  # a score or a label beyond it calls for the cheap question
ENORMOUS = 1e100  # a number beyond it calls for a census


class Census(NamedTuple):
    """How many floats of a model are not numbers, and how many are infinite.

    Some are so by design: River's running minimum begins at infinity.
    """

    nans: int
    infinities: int

    def allows(self, after: Census) -> bool:
        """Whether a model that had these before may have those `after` learning."""
        return after.nans <= self.nans and after.infinities <= self.infinities


def census(data: bytes) -> Census:
    """Look through all of a model's state, in its encoded form.

    >>> from river import stats
    >>> from headrace.models import codec
    >>> smallest = stats.Min()
    >>> census(codec.encode(smallest))
    Census(nans=0, infinities=1)
    >>> smallest.update(float("nan"))
    >>> census(codec.encode([smallest, 1.0, np.array([1.0, np.inf])]))
    Census(nans=0, infinities=2)
    """
    _, _, value, deferred = msgspec.msgpack.decode(data)
    nans = infinities = 0
    todo: list[Any] = [value, deferred]
    while todo:
        item = todo.pop()
        if isinstance(item, float):
            nans += isnan(item)
            infinities += isinf(item)
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            if len(item) == 5 and item[0] == ARRAY and isinstance(item[4], bytes):
                numbers = _floats(item)
                nans += int(np.isnan(numbers).sum())
                infinities += int(np.isinf(numbers).sum())
            else:
                todo.extend(item)
    return Census(nans, infinities)


def is_extreme(score: float | None, y: Any) -> bool:
    """Whether a score or a numeric label is beyond ±1e6."""
    if score is not None and not -EXTREME <= score <= EXTREME:
        return True
    return y.__class__ is float and not -EXTREME <= y <= EXTREME


def is_enormous(x: Mapping[str, Any], score: float | None, y: Any) -> bool:
    """Whether any number that meets in a learn operation is beyond ±1e100."""
    return any(
        isinstance(number, float) and not -ENORMOUS <= number <= ENORMOUS
        for number in (*x.values(), score, y)
    )


def _floats(array: list[Any]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(array[1])
    return np.frombuffer(array[4] if dtype.kind in "fc" else b"", dtype=dtype)
