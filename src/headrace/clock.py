"""The one place that reads the machine's clock and draws random identities.

Nothing that decides what a model learns asks a clock: that is decided by log time, which is
computed from record timestamps (`headrace.models.logtime`). These serve timers, identifiers of
requests, and figures shown to people.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Protocol

_GIVE_WAY_S = 0.000_05


class Clock(Protocol):
    """Wall time and monotonic time, both in seconds."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to advance.

    >>> clock = ManualClock(100.0)
    >>> clock.advance(2.5)
    >>> clock.time(), clock.monotonic()
    (102.5, 102.5)
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def new_id() -> str:
    """A random identity for a request or a run: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def new_secret(count: int) -> str:
    """So many bytes that nobody can guess, as hexadecimal digits."""
    return secrets.token_hex(count)


def give_way() -> None:
    """Let other threads run Python, in a thread that has much to do and is not in a hurry.

    Without it each turn of a loop in another thread waits until Python itself asks this one, which
    is `headrace.interpreter.SWITCH_S`. A sleep of no time at all would not let go for long enough.
    """
    time.sleep(_GIVE_WAY_S)
