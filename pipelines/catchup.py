"""A shard far behind the others of its partition learns apart, through a reader of its own.

The partition is read once for all its shards, from where the last of them stands. One that was
restored, or that begins at the start of a long log, would make all of them wait. So it is left out
of that reading: it answers questions, takes commands where it stands, flushes by itself, and learns
the log in the background. When it is close behind it joins: it counts for the reading from then on,
and the partition is read again from there, which the others skip.

Joining needs no lock and no agreed position. Whoever reads, a shard takes only what begins where it
stands, a chunk at a time, so a record that comes twice is learned once; and a chunk that begins
above a shard which counts is not used before the stream has gone back to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines.holdings import Holdings
from headrace.pipelines.logwatch import LogWatch
from headrace.pipelines.presence import patiently
from headrace.pipelines.replay import Replay
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.streams import Streams

log = logging.getLogger(__name__)

FAR_RECORDS = 10_000
"""A shard that has more to read than the one of its partition that is farthest on, by so many,
learns apart: about a third of a second of learning, for which the others would wait."""
NEAR_RECORDS = 1_000
"""How far behind the others it may be when it joins: so much is read again for it."""
APART_MAX = 2
"""Shards of a worker that learn apart at a time: each takes as much of the core as the stream, and
a connection. The others wait for their turn, and answer meanwhile."""
PIECE_RECORDS = 500
"""Offsets learned at a time: commands, flushes and a close come in between."""
IDLE_S = 0.02
"""Before a log that brought nothing, or a shard that did not take it all, is looked at again."""


class Host(Protocol):
    """The worker, as far as who learns apart needs it."""

    streams: Streams
    logwatch: LogWatch

    def over(self) -> bool: ...  # it is going down

    def end_without_flush(self, error: UnavailableError) -> None: ...  # raises it unless so

    async def keep_memory(self) -> None: ...  # let go of models before more is learned


class Bounds(NamedTuple):
    """How far behind a shard learns apart, how far behind it joins, and how much it learns at once,
    in records.
    """

    far: int = FAR_RECORDS
    near: int = NEAR_RECORDS
    piece: int = PIECE_RECORDS


class CatchUp:
    """Order of calls: `place` when shards have been opened, before the next chunk is used."""

    def __init__(self, shards: Shards, holdings: Holdings, host: Host) -> None:
        self.bounds = Bounds()
        self._shards = shards
        self._holdings = holdings
        self._host = host
        self._learning: set[Shard] = set()  # those whose turn it is, of those that are apart

    def place(self, opened: Collection[Shard]) -> None:
        """Let those of them that are far behind the others of their partition learn apart."""
        for shard in opened:
            there = [s for s in self._shards.joined(shard.partition) if s not in opened]
            beside = [s for s in opened if s.partition == shard.partition]
            stands = _least(there) if there else max(s.next_offset for s in beside)
            if not shard.apart and stands - shard.next_offset > self.bounds.far:
                shard.apart = True
                log.info("shard.apart", extra=_fields(shard, behind=stands - shard.next_offset))
        self._begin()

    def _begin(self) -> None:
        for shard in self._shards.all():
            if len(self._learning) >= APART_MAX:
                return
            if shard.apart and shard not in self._learning and not self._is_over(shard):
                self._learning.add(shard)
                self._holdings.in_background(shard, self._learn_apart(shard))

    async def _learn_apart(self, shard: Shard) -> None:
        """Until it has joined, or is being closed. Then it is the next one's turn; but not after a
        failure that ends the process.
        """
        try:
            await self._until_near(shard)
        except StateError as error:
            await self._holdings.drop(shard, error)
        except UnavailableError:
            if not self._is_over(shard):
                raise
        self._learning.discard(shard)
        self._begin()

    async def _until_near(self, shard: Shard) -> None:
        while shard.apart and not self._is_over(shard):
            if self._is_near(shard):
                await self._join(self._to_join(shard))
                continue
            await patiently(lambda: self._learn_some(shard), lambda: self._is_over(shard))
            await asyncio.sleep(IDLE_S)

    async def _join(self, shard: Shard) -> None:
        """Count for the stream from now on, also where no chunk comes that would show the lack."""
        shard.apart = False
        log.info("shard.joined", extra=_fields(shard))
        await self._host.streams.rewind(shard.partition, shard.next_offset)

    async def _learn_some(self, shard: Shard) -> None:
        """From where it stands on, until it is near, or has not taken all of what there was."""
        logs = self._shards.site.logs
        async with logs.replay(shard.partition, shard.next_offset) as replay:
            while not (self._is_over(shard) or self._is_near(shard)):
                if not await self._learn_piece(shard, replay):
                    return

    async def _learn_piece(self, shard: Shard, replay: Replay) -> bool:
        """False: the replay does not go on where the shard stands."""
        try:
            chunk = await replay.upto(shard.next_offset + self.bounds.piece)
        except StateError:  # the log does not have that position: why, is found as in the stream
            await self._host.logwatch.look_closely([shard])
            return False
        if chunk is None:
            await asyncio.sleep(IDLE_S)
            return True
        try:
            await shard.process(chunk, lambda: not shard.leaving)
        except UnavailableError as error:  # the broker was waited for, until the stop
            self._host.end_without_flush(error)
            return False
        await self._host.keep_memory()
        return shard.next_offset >= chunk.next_offset

    def _is_near(self, shard: Shard) -> bool:
        """Whether the stream need not go back far for it, or nobody has the stream."""
        joined = self._shards.joined(shard.partition)
        return not joined or _least(joined) - shard.next_offset <= self.bounds.near

    def _to_join(self, shard: Shard) -> Shard:
        """That one; but where nobody has the stream, as the others have left, the farthest on of
        those that are apart, whether it has its turn or not.
        """
        if self._shards.joined(shard.partition):
            return shard
        there = [s for s in self._shards.of_partition(shard.partition) if not s.leaving]
        return max(there, key=lambda each: each.next_offset)

    def _is_over(self, shard: Shard) -> bool:
        return shard.leaving or self._host.over()


def _least(shards: Iterable[Shard]) -> int:
    return min(shard.next_offset for shard in shards)


def _fields(shard: Shard, **more: object) -> dict[str, object]:
    at = shard.origin
    return fields(
        agent=at.agent,
        topic=at.topic,
        partition=at.partition,
        next_offset=shard.next_offset,
        **more,
    )
