"""Which snapshots somebody begins from and which are being removed here: none is both.

What the control log says holds a snapshot too, from the command's outcome on; see `housekeeping`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import ConflictError, StateError

OUTCOME_UNKNOWN_S = 60.0
"""How long a snapshot stays wanted after its command was given up: it may be in the log all the
same, and be read later."""


class Uses:
    """Each of both sides asks, and says so in the same step. Of one worker: others are not asked.

    >>> uses = Uses()
    >>> with uses.removing("a.s"), uses.wanted("a.s"):
    ...     pass
    Traceback (most recent call last):
    headrace.errors.ConflictError: snapshot 'a.s' is being removed: name another
    """

    def __init__(self) -> None:
        self._going: Counter[str] = Counter()
        self._wanted: Counter[str] = Counter()

    def is_going(self, snapshot_id: str) -> bool:
        """Whether it is being removed."""
        return self._going[snapshot_id] > 0

    def is_wanted(self, snapshot_id: str) -> bool:
        """Whether a rollback or a migration that begins from it is on its way."""
        return self._wanted[snapshot_id] > 0

    @contextmanager
    def removing(self, snapshot_id: str) -> Iterator[None]:
        """While it is removed. Raises StateError if it is wanted."""
        if self.is_wanted(snapshot_id):
            raise StateError(f"snapshot {snapshot_id!r} stays: a rollback begins from it just now")
        self._going[snapshot_id] += 1
        try:
            yield
        finally:
            _less(self._going, snapshot_id)

    @contextmanager
    def wanted(self, snapshot_id: str) -> Iterator[None]:
        """While a command that begins from it is appended. Raises ConflictError if it is going."""
        if self.is_going(snapshot_id):
            text = f"snapshot {snapshot_id!r} is being removed: name another"
            raise ConflictError("snapshot_in_use", text, snapshot=snapshot_id)
        self._wanted[snapshot_id] += 1
        try:
            yield
        except BaseException:
            loop = asyncio.get_running_loop()
            loop.call_later(OUTCOME_UNKNOWN_S, _less, self._wanted, snapshot_id)
            raise
        _less(self._wanted, snapshot_id)


def _less(counted: Counter[str], snapshot_id: str) -> None:
    counted[snapshot_id] -= 1
    if not counted[snapshot_id]:
        del counted[snapshot_id]
