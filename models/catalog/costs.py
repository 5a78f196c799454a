"""What an estimator costs, measured: the rule behind the catalog's cost classes.

The rule: 300 made-up events of six features, predict then learn; the bytes of the encoded
model at the end, and the time per event. `heavy`: more than 50,000 bytes or 400 µs, only in
models that all keys share; `medium`: more than 10,000 bytes or 60 µs; else `light`. The figures in
`data` were taken once on one core of a 2-core x86-64 machine; bytes do not depend on it.
"""

from __future__ import annotations

from typing import Any, Final

from headrace.clock import SystemClock
from headrace.models.catalog.data import Cost
from headrace.models.codec import decode, encode
from headrace.models.exercise import ask, events_for, learn

__all__ = ["cost_class", "measured_bytes", "measured_us"]

EVENTS: Final = 300
_HEAVY: Final = (50_000, 400)
_MEDIUM: Final = (10_000, 60)


def cost_class(size: int, us: float) -> Cost:
    """The class of an estimator of `size` bytes that takes `us` microseconds per event.

    >>> cost_class(1_300, 9.0), cost_class(1_300, 70.0), cost_class(171_000, 23.0)
    ('light', 'medium', 'heavy')
    """
    if size > _HEAVY[0] or us > _HEAVY[1]:
        return "heavy"
    return "medium" if size > _MEDIUM[0] or us > _MEDIUM[1] else "light"


def measured_bytes(model: Any) -> int:
    """Bytes of a fresh model after it learned the events."""
    model = decode(encode(model))
    for x, y in events_for(model, EVENTS, gaps=False):
        learn(model, x, y)
    return len(encode(model))


def measured_us(model: Any) -> float:
    """Microseconds per event, the best of three runs, each from a fresh copy."""
    fresh, clock, best = encode(model), SystemClock(), float("inf")
    events = events_for(model, EVENTS, gaps=False)
    for _ in range(3):
        live = decode(fresh)
        start = clock.monotonic()
        for x, y in events:
            ask(live, x)
            learn(live, x, y)
        best = min(best, clock.monotonic() - start)
    return best / EVENTS * 1e6
