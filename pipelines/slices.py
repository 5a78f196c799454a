"""How many records are learned between two turns of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.ports import Record

SLICE_S = 0.002
"""Learning between two yields to the event loop when nobody waits for an answer: a request that
comes then waits no longer than this."""

BUSY_SLICE_S = 0.0005
"""The same while requests are in flight."""

SLICE_RECORDS_MAX = 256
"""Records of one slice, however quickly they are learned."""

SLICE_BYTES_MAX = 131_072
"""Bytes of the values of one slice, or one larger record: a large event costs much more than those
by which the time of a record was measured. A bad one of 1 MB takes some 50 ms by itself."""

FIRST_SLICE_RECORDS = 16
"""Records of the first slice, which measures what one costs."""


class Slices:
    """Cuts records into slices, by what those before have cost.

    Order of calls: `end` says where the next slice ends, `took` what it cost.

    >>> from types import SimpleNamespace
    >>> slices = Slices(busy=lambda: False)
    >>> records = [SimpleNamespace(offset=n, value=b"{}") for n in range(1_000)]
    >>> slices.end(records, 0)
    16
    >>> slices.took(16, 0.000_16)  # 10 microseconds each
    >>> slices.end(records, 16)
    216
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._record_s = 0.0  # what one record costs, seconds; 0.0: not known yet

    def end(self, records: Sequence[Record], start: int, before: int | None = None) -> int:
        """The index behind the slice that begins at `start`, which holds one record at least.

        `before`: an offset, above that of the first record, which the slice must not reach.
        """
        count = FIRST_SLICE_RECORDS
        if self._record_s:
            slice_s = BUSY_SLICE_S if self._busy() else SLICE_S
            count = min(max(int(slice_s / self._record_s), 1), SLICE_RECORDS_MAX)
        end = min(start + count, len(records))
        size = 0
        for at in range(start, end):
            size += len(records[at].value or b"")
            if size > SLICE_BYTES_MAX:
                end = max(at, start + 1)
                break
        if before is not None:
            while end > start + 1 and records[end - 1].offset >= before:
                end -= 1
        return end

    def took(self, count: int, seconds: float) -> None:
        """So many records have taken so long."""
        cost = seconds / count
        self._record_s += (cost - self._record_s) / (4 if self._record_s else 1)
