"""Latencies from the times of questions and answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all values does not exceed (nearest rank).

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile(range(1, 101), 0.99)
    (2.0, 99)
    """
    assert 0 < share <= 1
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


class Latency(NamedTuple):
    """What callers waited, in milliseconds."""

    p50_ms: float
    p99_ms: float
    longest_ms: float
    late_p99_ms: float  # of the questions, going out

    @classmethod
    def of(cls, due: Sequence[float], sent: Sequence[float], answered: Sequence[float]) -> Latency:
        """From the times in seconds; a latency counts from when its question was due.

        >>> Latency.of([0.0, 1.0], [0.0, 1.5], [0.25, 2.0])
        Latency(p50_ms=250.0, p99_ms=1000.0, longest_ms=1000.0, late_p99_ms=500.0)
        """
        waited = [(end - at) * 1e3 for at, end in zip(due, answered, strict=True)]
        late = [(at - planned) * 1e3 for planned, at in zip(due, sent, strict=True)]
        return cls(
            percentile(waited, 0.5), percentile(waited, 0.99), max(waited), percentile(late, 0.99)
        )
