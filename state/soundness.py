"""Which files of a repository were found sound, and which are to be read before they count.

A disk alters bytes without telling. What was put once is not put again as long as it lies there, so
each later snapshot would rely on the altered bytes; and the worker has the good ones only as long
as its own state has that file. So what lies there is read again now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from headrace.clock import Clock, SystemClock
from headrace.errors import AwayStateError, StateError
from headrace.logs import fields
from headrace.state.fetching import verified
from headrace.state.manifest import FileEntry

log = logging.getLogger(__name__)

READ_EVERY_S = 24 * 3_600.0
"""So long a file that was found sound is taken to be so."""
READ_SHARE = 20
"""After a file was read the next one waits so many times as long: 5 % of the time is for reading,
whatever there is, unless one was damaged."""
SOUND_KEPT = 100_000
"""Files of which it is remembered; beyond that the oldest are forgotten, and read again."""


class Soundness:
    """What one process knows of the files of a repository, by their sums.

    `daily`: each is to be read every day; else only what a reader has stumbled over. It may be used
    by several threads at once.

    >>> from headrace.clock import ManualClock
    >>> clock = ManualClock()
    >>> soundness = Soundness(daily=True, clock=clock)
    >>> soundness.is_due("ab"), soundness.is_due("cd")
    (True, True)
    >>> with soundness.reading():
    ...     clock.advance(2.0)
    >>> soundness.sound("ab")
    >>> soundness.is_due("ab"), soundness.is_due("cd"), "for twenty times as long"
    (False, False, 'for twenty times as long')
    >>> clock.advance(40.0)
    >>> soundness.is_due("ab"), soundness.is_due("cd")
    (False, True)
    >>> soundness.suspect(["ab"])
    >>> with soundness.reading():
    ...     clock.advance(2.0)
    >>> soundness.is_due("ab"), soundness.is_due("cd"), "without a wait"
    (True, True, 'without a wait')
    """

    def __init__(self, *, daily: bool, clock: Clock | None = None) -> None:
        self._daily = daily
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._sound: dict[str, float] = {}  # when it was found to be, the oldest first
        self._suspect: dict[str, None] = {}  # the oldest first
        self._next_s = self._clock.monotonic()
        self._hasty_until_s = self._next_s

    def holds(self, entry: FileEntry, blob: Callable[[str], Iterator[bytes]]) -> bool:
        """Whether the file can be relied on: `blob` is read, if it is time to. Raises
        AwayStateError.
        """
        if not self.is_due(entry.sha256):
            return True
        try:
            with self.reading():
                for _ in verified(entry, blob):
                    pass
        except AwayStateError:
            raise
        except StateError as error:
            log.warning("snapshots.damaged", extra=fields(blob=entry.sha256, error=str(error)))
            self.suspect([entry.sha256])
            return False
        self.sound(entry.sha256)
        return True

    def is_due(self, sha256: str) -> bool:
        """Whether that file is to be read before one relies on it."""
        now = self._clock.monotonic()
        with self._lock:
            if sha256 in self._suspect:
                return True
            found = self._sound.get(sha256)
            old = found is None or now - found >= READ_EVERY_S
            return self._daily and old and (now >= self._next_s or now < self._hasty_until_s)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While one is read: how long that takes says when the next one may be."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            now = self._clock.monotonic()
            with self._lock:
                self._next_s = now + READ_SHARE * (now - began)

    def sound(self, sha256: str) -> None:
        """Its bytes were right just now, or were put."""
        with self._lock:
            self._suspect.pop(sha256, None)
            self._sound.pop(sha256, None)
            self._sound[sha256] = self._clock.monotonic()
            if len(self._sound) > SOUND_KEPT:
                del self._sound[next(iter(self._sound))]

    def suspect(self, sums: Iterable[str]) -> None:
        """One of them was not as it should be when somebody read them all. A disk that altered one
        may have altered more: for a day each is read again before it counts, at once.
        """
        with self._lock:
            self._sound.clear()
            self._hasty_until_s = self._clock.monotonic() + READ_EVERY_S
            self._suspect.update(dict.fromkeys(sums))
            while len(self._suspect) > SOUND_KEPT:
                del self._suspect[next(iter(self._suspect))]
