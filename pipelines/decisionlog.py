"""A topic of decisions, which may hold millions: one of them, or a stretch, found by halving and
read in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from headrace.errors import UnavailableError
from headrace.models.decisions import Boundary, Decision, decode_record
from headrace.models.exclusion import DecisionId
from headrace.pipelines.emit import BATCH_BYTES, IN_FLIGHT_BATCHES_MAX
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.reader import Logs, LogSpan
from headrace.pipelines.replay import IDLE_S
from headrace.views import Partition

PIECE_RECORDS = 500
"""Records that are read in one turn of the event loop; halving ends at so few."""
GIVE_WAY_S = 0.01
"""Between two turns: events and questions come first."""
WAIT_S = 15.0
"""How long the topic may bring nothing."""
DECISION_BYTES_MIN = 256  # of one that is encoded, with the id that every decision has
LATE_RECORDS = IN_FLIGHT_BATCHES_MAX * BATCH_BYTES // DECISION_BYTES_MIN
"""So many decisions a worker that was paused may write when it wakes up, long after others wrote
them: repeats of one piece, which halving must not take for the place where they belong."""

Rank = Callable[[Decision | Boundary], int | None]
"""How far the topic has come with a record; None: it does not tell. Every record is there before
one of a higher rank is, but for those that are repeated; see `validity.Validity.rank`."""


class Stored(NamedTuple):
    """A record of the topic, and its bytes."""

    record: Decision | Boundary
    value: bytes


class DecisionLog:
    """One partition of the topic; it is read in pieces, between which whoever has precedence goes
    first.
    """

    def __init__(self, logs: Logs, where: Partition, precedence: Precedence | None = None) -> None:
        self._logs = logs
        self._where = where
        self._precedence = precedence or Precedence()

    async def decision_of(self, wanted: DecisionId) -> bytes | None:
        """The value of that decision's record; None if it is not there. A void one is looked for
        only as far behind the end of its epoch as it can have come late. Raises what `pieces`
        raises.
        """
        text, place = "/".join(map(str, wanted)), (wanted.epoch, wanted.offset)

        def rank(record: Decision | Boundary) -> int | None:
            if record.agent != wanted.agent:
                return None
            return int((record.epoch, record.position.offset) >= place)

        span = await self._logs.span(self._where)
        low = await self._halved(span, 1, rank)
        near = LogSpan(low, min(low + PIECE_RECORDS, span.end))
        found = await self._named(near, text, rank)
        if found is None:  # halving may have come to a repeat; to look back takes longer
            begin = await self._looked_back(LogSpan(span.begin, low), 1, rank)
            found = await self._named(LogSpan(begin, span.end), text, rank)
        return found

    async def pieces(self, span: LogSpan) -> AsyncGenerator[list[Stored], None]:
        """All decisions and boundaries of that span. Raises UnavailableError `broker_away`, and
        StateError if the topic has retired its beginning meanwhile.
        """
        begin, end = span
        clock = asyncio.get_running_loop().time
        deadline = clock() + WAIT_S
        async with self._logs.replay(self._where, begin) as replay:
            while begin < end:
                if self._precedence.is_held:
                    await self._precedence.free()
                    deadline = clock() + WAIT_S
                chunk = await replay.upto(min(end, begin + PIECE_RECORDS))
                if chunk is None:
                    if clock() > deadline:
                        raise UnavailableError(
                            "broker_away", f"{self._where.topic} could not be read"
                        )
                    await asyncio.sleep(IDLE_S)
                    continue
                yield [
                    Stored(found, record.value or b"")
                    for record in chunk.records
                    if (found := _read(record.value)) is not None
                ]
                begin, deadline = chunk.next_offset, clock() + WAIT_S
                if begin < end:
                    await asyncio.sleep(GIVE_WAY_S)

    async def begins(self, span: LogSpan, wanted: int, rank: Rank) -> int:
        """An offset of the topic from which on every record of that rank, and of all higher ones,
        can be read: not far before the first of them. Raises what `pieces` raises.
        """
        low = await self._halved(span, wanted, rank)
        return await self._looked_back(LogSpan(span.begin, low), wanted, rank)

    async def _halved(self, span: LogSpan, wanted: int, rank: Rank) -> int:
        """Where that rank is come to, if nothing is repeated."""
        low, high = span
        while high - low > PIECE_RECORDS:
            middle = (low + high) // 2
            found = await self._first(LogSpan(middle, high), rank)
            if found is not None and found < wanted:
                low = middle
            else:
                high = middle
        return low

    async def _looked_back(self, span: LogSpan, wanted: int, rank: Rank) -> int:
        """The end of the span, unless what halving found there repeats what stands before."""
        begin, low = span
        while low > begin:
            before = LogSpan(max(low - LATE_RECORDS, begin), low)
            if not await self._reaches(before, wanted, rank):
                break
            low = before.begin
        return low

    async def _named(self, span: LogSpan, record_id: str, rank: Rank) -> bytes | None:
        """The record of that id, if it stands there, not too far behind the first of rank 1."""
        behind = 0  # how far
        async with aclosing(self.pieces(span)) as there:
            async for piece in there:
                for record, value in piece:
                    if record.id == record_id:
                        return value
                    if behind or rank(record):
                        behind += 1
                if behind > LATE_RECORDS:
                    break
        return None

    async def _first(self, span: LogSpan, rank: Rank) -> int | None:
        """The rank of the first record that has one."""
        async with aclosing(self.pieces(span)) as there:
            async for piece in there:
                for stored in piece:
                    if (found := rank(stored.record)) is not None:
                        return found
        return None

    async def _reaches(self, span: LogSpan, wanted: int, rank: Rank) -> bool:
        """Whether a record there has that rank, or a higher one."""
        async with aclosing(self.pieces(span)) as there:
            async for piece in there:
                ranks = [rank(stored.record) for stored in piece]
                if any(found is not None and found >= wanted for found in ranks):
                    return True
        return False


def _read(value: bytes | None) -> Decision | Boundary | None:
    """None for what else may be in that topic."""
    try:
        return decode_record(value or b"")
    except msgspec.DecodeError:
        return None
