"""The guard of one partition's order, without Kafka."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from headrace.pipelines.order import Chunk, PartitionOrder


class Event(NamedTuple):
    """A record as far as order is concerned."""

    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None


def fetched(*offsets: int, next_offset: int | None = None) -> Chunk:
    end = offsets[-1] + 1 if next_offset is None else next_offset
    return Chunk("t", 0, [Event(o) for o in offsets], end)


def offsets(chunk: Chunk | None) -> list[int]:
    return [] if chunk is None else [r.offset for r in chunk.records]


def test_chunks_that_join_pass_whole() -> None:
    """A chunk that begins where the last one ended is handed on as it is."""
    order = PartitionOrder(5, reading=1)
    first, second = fetched(5, 6), fetched(7)
    assert not order.missing(first)
    assert order.fresh(first) == Chunk("t", 0, first.records, 7, begins=5, reading=1)
    assert not order.missing(second)
    assert offsets(order.fresh(second)) == [7]
    assert order.next_offset == 8


def test_what_was_read_before_is_dropped() -> None:
    """A chunk below the expected offset is void; one that reaches beyond it is cut."""
    order = PartitionOrder(5, reading=1)
    assert not order.missing(fetched(2, 3, 4))
    assert order.fresh(fetched(2, 3, 4)) is None
    assert offsets(order.fresh(fetched(3, 4, 5, 6))) == [5, 6]


def test_a_gap_is_legal_when_it_comes_again() -> None:
    """First seek back; the same gap after that is a hole in the log itself."""
    order = PartitionOrder(5, reading=1)
    assert order.missing(fetched(9, 10))
    assert order.next_offset == 5
    assert not order.missing(fetched(9, 10))
    accepted = order.fresh(fetched(9, 10))
    assert offsets(accepted) == [9, 10]
    assert accepted is not None
    assert accepted.begins == 5


def test_a_lost_chunk_comes_after_the_seek() -> None:
    """Where the gap was a loss, the records are there the second time."""
    order = PartitionOrder(5, reading=1)
    assert order.missing(fetched(9, 10))
    assert not order.missing(fetched(5, 6, 7, 8))
    assert offsets(order.fresh(fetched(5, 6, 7, 8))) == [5, 6, 7, 8]
    assert not order.missing(fetched(9, 10))


def test_another_gap_is_another_seek() -> None:
    """Only the very same gap is taken for legal: a second loss is not hidden by the first."""
    order = PartitionOrder(5, reading=1)
    assert order.missing(fetched(9))
    assert order.missing(fetched(12))
    assert not order.missing(fetched(12))
    assert offsets(order.fresh(fetched(12))) == [12]
    assert order.missing(fetched(20))


@pytest.mark.parametrize("begin", [5, 3])
def test_markers_behind_the_records_leave_no_gap(begin: int) -> None:
    """The position after a chunk counts, not its last record: transaction markers follow it."""
    order = PartitionOrder(5, reading=1)
    assert offsets(order.fresh(fetched(*range(begin, 7), next_offset=8))) == [5, 6]
    assert not order.missing(fetched(8))


def test_only_markers_are_new() -> None:
    """Old records with new markers behind them move the position and nothing else."""
    order = PartitionOrder(5, reading=1)
    assert order.fresh(fetched(3, 4, next_offset=7)) is None
    assert order.next_offset == 7
