"""A batch that no client can read: passed over, told, and never the end of a stream."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from headrace.models.guard import Refusal
from headrace.pipelines.readable import readable
from tests.models.guarding import GUARD

CRC, ATTRIBUTES, RECORDS = 17, 21, 61  # where they begin in a batch
GZIP, UNKNOWN = 1, 7


def batch(first: int, count: int) -> bytearray:
    """A good batch of records at offsets from `first` on."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 16_384)
    for number in range(count):
        builder.append(number, 1_000 + number, b"42", b"{}", [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, first)
    return data


def sealed(data: bytearray) -> bytearray:
    """The batch with a checksum that fits."""
    struct.pack_into(">I", data, CRC, calc_crc32c(bytes(data[ATTRIBUTES:])))
    return data


def compressed(codec: int) -> Callable[[bytearray], bytearray]:
    def claim(data: bytearray) -> bytearray:
        struct.pack_into(">h", data, ATTRIBUTES, codec)
        return sealed(data)

    return claim


def cut(data: bytearray) -> bytearray:
    data[RECORDS] = 0x7E  # a first record longer than all there is
    return sealed(data)


def read(data: bytes) -> list[Any]:
    at, committed = TopicPartition("t", 0), 1
    records = PartitionRecords(at, MemoryRecords(data), [], 0, None, None, True, committed)
    readable(records)
    return list(records)


@pytest.mark.parametrize("break_it", [compressed(GZIP), compressed(UNKNOWN), compressed(4), cut])
def test_an_unreadable_batch_is_one_record(break_it: Callable[[bytearray], bytearray]) -> None:
    """It stands at the last offset of the batch, without a value; the good ones around it stay."""
    data = batch(0, 2) + break_it(batch(2, 3)) + batch(5, 1)
    found = read(bytes(data))
    assert [(r.offset, r.value) for r in found] == [(0, b"{}"), (1, b"{}"), (4, None), (5, b"{}")]
    refusal = GUARD.admit(found[2])
    assert isinstance(refusal, Refusal)
    assert (refusal.offset, refusal.code) == (4, "unreadable")
    assert "offsets 2 to 4 cannot be read" in refusal.text
    assert (found[2].topic, found[2].partition) == ("t", 0)
    assert vars(found[2]) == vars(read(bytes(data))[2]), "a replay finds the same"


def test_a_batch_that_was_changed_on_its_way_is_not_passed_over() -> None:
    """Where the checksum is wrong nobody knows what the producer wrote."""
    data = batch(0, 2)
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        read(bytes(data))
