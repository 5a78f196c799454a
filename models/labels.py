"""Labels that come later: events wait with their features until the truth about them is known.

An event is parked with what was predicted of it. A later event of the same key brings the truth
once log time has moved on by the spec's `after`: the value of a field then, or its change since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.models.metrics import Guess
from headrace.models.spec import Label


class Parked(msgspec.Struct, array_like=True, gc=False):
    """One event that waits for its label."""

    since: int  # log time at which it was parked
    offset: int
    x: dict[str, Any]
    base: float | None  # the field's value then; None where the label is not a change
    guess: Guess


class Due(NamedTuple):
    """A parked event and the truth about it."""

    parked: Parked
    y: Any


class LaterLabels:
    """The rule of one spec's later label: what is due at an event, and what has to wait.

    >>> rule = LaterLabels(
    ...     Label(path="$.temp", type="number", later=True, after_ms=30_000, change=True),
    ...     pending_max=2,
    ... )
    >>> waiting: list[Parked] = []
    >>> for second in (0, 10, 20):
    ...     waiting, lost = rule.park(waiting, Parked(second * 1000, second, {}, 20.0, Guess()))
    >>> [parked.offset for parked in waiting], lost
    ([10, 20], 1)
    >>> [(due.parked.offset, due.y) for due in rule.due(waiting, 45_000, 23.5)]
    [(10, 3.5)]
    """

    def __init__(self, label: Label, pending_max: int) -> None:
        assert label.later
        self.after_ms = label.after_ms
        self.change = label.change
        self.pending_max = pending_max

    def due(self, waiting: Sequence[Parked], now: int, value: Any) -> list[Due]:
        """Those whose time has come at log time `now`, oldest first, with their truth.

        They are the first of `waiting`, which `restamp` keeps sorted.
        """
        latest = now - self.after_ms
        ready: list[Due] = []
        for parked in waiting:
            if parked.since > latest:
                break
            ready.append(Due(parked, value - parked.base if self.change else value))
        return ready

    def restamp(self, waiting: Sequence[Parked], now: int) -> Sequence[Parked]:
        """What waits, with no event parked later than those behind it, or than now.

        Log time may fall at the head of a log; an event that was parked before would wait for
        ever.
        """
        if not waiting or waiting[-1].since <= now:
            return waiting
        stamped = []
        for parked in reversed(waiting):
            now = min(now, parked.since)
            stamped.append(msgspec.structs.replace(parked, since=now))
        return stamped[::-1]

    def park(self, waiting: Sequence[Parked], parked: Parked) -> tuple[list[Parked], int]:
        """What waits now, and how many had to go so that it stays bounded (the oldest go)."""
        waiting = [*waiting, parked]
        lost = max(len(waiting) - self.pending_max, 0)
        return waiting[lost:], lost
