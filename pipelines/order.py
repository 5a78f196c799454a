"""The order of one partition's chunks: nothing twice, nothing missing.

Pure: it is told what was fetched and says what may be handed on.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.ports import Record


class Chunk(msgspec.Struct, frozen=True):
    """The records that one fetch brought for one partition, in offset order; never empty.

    The next chunk begins at `next_offset`, which may lie above the last record's offset + 1 when
    transaction markers follow it. Between `begins` and the first record there is nothing to read.
    """

    topic: str
    partition: int
    records: Sequence[Record]
    next_offset: int
    begins: int = 0
    reading: int = 0  # which reading of the partition it belongs to: every seek begins another


class PartitionOrder:
    """Guards one reading of a partition. For each fetched chunk: `missing`, and if not, `fresh`.

    Faust may lose a chunk around a rebalance, so each must begin where the last one ended. At a
    gap the caller seeks back to `next_offset`. If the very same gap comes again, it is in the log
    itself (compaction, transaction markers) and is accepted.
    """

    def __init__(self, next_offset: int, reading: int) -> None:
        self.next_offset = next_offset
        self.reading = reading
        self.in_flight = 0  # chunks handed over and not finished
        self._gap: tuple[int, int] | None = None

    def missing(self, chunk: Chunk) -> bool:
        """Whether records before this chunk may have been lost: seek back to `next_offset`."""
        first = chunk.records[0].offset
        if first <= self.next_offset:
            return False
        seen, self._gap = self._gap, (self.next_offset, first)
        return seen != self._gap

    def fresh(self, chunk: Chunk) -> Chunk | None:
        """The chunk without what was read before; None if nothing is left.

        Advances `next_offset`: call it only when `missing` said no.
        """
        begins, self._gap = self.next_offset, None
        if chunk.next_offset <= begins:
            return None
        self.next_offset = chunk.next_offset
        records = chunk.records
        if records[0].offset < begins:
            records = [r for r in records if r.offset >= begins]
            if not records:
                return None
        return Chunk(chunk.topic, chunk.partition, records, chunk.next_offset, begins, self.reading)
