"""How long one shard works between two turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from headrace.ports import Record

T = TypeVar("T")

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

BUSY_YIELDS = 10
"""Turns given to the event loop after each slice while requests are in flight: an RPC needs eight
to ten turns of the loop from arrival to answer."""


class Slices:
    """Cuts work into slices, and gives the event loop its turns in between.

    Order of calls for records: `end` says where the next slice ends, by what those before have
    cost; `took` tells what it cost; then `turns`.

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

    @property
    def seconds(self) -> float:
        """How long a slice may take now."""
        return BUSY_SLICE_S if self._busy() else SLICE_S

    async def turns(self) -> None:
        """Give the event loop as many turns as are due between two slices."""
        for _ in range(BUSY_YIELDS if self._busy() else 1):
            await asyncio.sleep(0)

    async def drawn(self, each: Iterator[T]) -> list[T]:
        """All that the iterator gives, drawn in slices."""
        clock = asyncio.get_running_loop().time
        found: list[T] = []
        until = clock() + self.seconds
        for one in each:
            found.append(one)
            if clock() > until:
                await self.turns()
                until = clock() + self.seconds
        return found

    async def let_go(self, spent: list[Any]) -> None:
        """Free what the list holds, in slices."""
        await self.drawn(_emptied(spent))

    def end(self, records: Sequence[Record], start: int, before: int | None = None) -> int:
        """The index behind the slice that begins at `start`, which holds one record at least.

        `before`: an offset, above that of the first record, which the slice must not reach.
        """
        count = FIRST_SLICE_RECORDS
        if self._record_s:
            count = min(max(int(self.seconds / self._record_s), 1), SLICE_RECORDS_MAX)
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


def _emptied(spent: list[Any]) -> Iterator[None]:
    while spent:
        spent.pop()
        yield
