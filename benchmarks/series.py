"""What a series of samples does: whether it rises, and how it looks on one line."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 40


def change(at: Sequence[float], values: Sequence[float]) -> float:
    """By how much the values rise from the first moment to the last; negative: they fall.

    The slope is the median of those between all pairs (Theil 1950, Sen 1968): single peaks, however
    high, are of no concern to it.

    >>> change([0, 1, 2, 3, 4], [10, 12, 14, 16, 18])
    8.0
    >>> change([0, 1, 2, 3, 4], [10, 10, 900, 10, 10])
    0.0
    """
    slopes = [
        (values[later] - values[earlier]) / (at[later] - at[earlier])
        for earlier in range(len(at))
        for later in range(earlier + 1, len(at))
    ]
    return float(median(slopes) * (at[-1] - at[0]))


def higher(values: Sequence[float]) -> float:
    """By how much the highest of the second half is above the highest of the first.

    >>> higher([5, 9, 6, 8]), higher([5, 9, 6, 12])
    (-1, 3)
    """
    half = len(values) // 2
    return max(values[half:]) - max(values[:half])


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """The values as a line of bars between the least and the greatest; each the mean of its part.

    >>> sparkline([1, 2, 3, 4, 5, 6, 7, 8])
    '1 ▁▂▃▄▅▆▇█ 8'
    >>> sparkline([5, 5, 5])
    '5 ▁▁▁ 5'
    """
    count = min(width, len(values))
    parts = [
        values[n * len(values) // count : (n + 1) * len(values) // count] for n in range(count)
    ]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(values), max(values)
    span = (high - low) or 1
    bars = (BARS[min(int((mean - low) / span * len(BARS)), len(BARS) - 1)] for mean in means)
    return f"{low:.3g} {''.join(bars)} {high:.3g}"
