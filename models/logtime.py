"""Log time: what o'clock it is at a position of the input log, as its records' timestamps tell.

Expiry, waiting for labels and staleness are decided by it, never by a timer, so that a replay of
the same records decides the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

import msgspec

from headrace.errors import CorruptStateError

# Odd, so that the median of a full window is one of its timestamps; fifty records from the year
# 2099 among the last hundred and one move nothing.
WINDOW = 101


class _State(msgspec.Struct, array_like=True):
    now: int
    window: list[int]  # oldest first


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_State)


class LogTime:
    """The highest median so far of a shard's last 101 record timestamps, in milliseconds.

    It never falls, once there have been 101. Until then it is the median of those that came,
    which may fall: else one record of the year 2099 at the head of a log would stop it for good.
    Of an even number of timestamps the lower middle one counts. Records without a timestamp
    (below zero) are passed over. `dump` and `load` carry it over a restart.

    >>> time = LogTime()
    >>> [time.observe(stamp) for stamp in (1000, 1010, 4_102_444_800_000, 1020, 1030)]
    [1000, 1000, 1010, 1010, 1020]
    """

    __slots__ = ("_order", "_window", "now", "settled")

    def __init__(self) -> None:
        self.now = 0
        self.settled = False  # the window is full: from here on `now` never falls
        self._window: deque[int] = deque()
        self._order: list[int] = []

    def observe(self, timestamp: int) -> int:
        """Take in the next record's timestamp; return the log time at that record."""
        if timestamp < 0:
            return self.now
        order = self._order
        window = self._window
        window.append(timestamp)
        if len(window) > WINDOW:
            del order[bisect_left(order, window.popleft())]
        insort(order, timestamp)
        median = order[(len(order) - 1) >> 1]
        settled = len(window) == WINDOW and self.settled
        self.now = max(self.now, median) if settled else median
        self.settled = len(window) == WINDOW
        return self.now

    def dump(self) -> bytes:
        """The state as canonical bytes: at most about a kilobyte."""
        return _ENCODER.encode(_State(self.now, list(self._window)))

    def load(self, data: bytes) -> None:
        """Continue from what `dump` gave. Raises CorruptStateError for other bytes."""
        try:
            state = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise CorruptStateError(f"the row s/logtime cannot be read: {error}") from error
        self.now = state.now
        self._window = deque(state.window)
        self.settled = len(self._window) == WINDOW
        self._order = sorted(state.window)
