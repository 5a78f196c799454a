"""A consumer that gets past a batch of records which no client can read.

A producer may write a batch whose content is not what its header says: an unknown compression, a
broken one, records that are cut off. Its checksum is right, so its offsets are known; what was in
it nobody can tell. Kafka refuses most of these, other brokers do not. Such a batch is handed on as
one record without a value at the last of its offsets, which says why: the guard refuses it, and
quarantine has it. So no batch stops a stream, and a replay finds the same.

A batch whose checksum is wrong is another matter: then the disk or the network has changed what
somebody wrote, and nothing is passed over (`headrace.pipelines.fetchthread`).
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from cramjam import DecompressionError

# What aiokafka and its decompressors raise on bytes that are not what they should be.
_ERRORS = (
    *(KafkaError, DecompressionError, zlib.error, struct.error, EOFError, OSError, RuntimeError),
    *(ValueError, LookupError, OverflowError, AssertionError, NotImplementedError),
)

TURN_RECORDS = 256
"""Records of a batch that are read in one go. It may hold many thousands, for which answers shall
not wait."""


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """What is used of a record: making one takes a third of the time of aiokafka's own."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class ReadableConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's consumer, but for unreadable batches.

    `make` turns what a batch holds into records and hands on an `Unread` as it is. Set it before
    `start`; without it they are aiokafka's own. `give_way` is called now and then while a large
    batch is read: for a thread that is not in a hurry, never for the service's loop.
    """

    make: Callable[[TopicPartition, Any], Any] | None = None
    give_way: Callable[[], None] | None = None

    async def start(self) -> None:
        await super().start()
        fetched = self._fetcher._records
        self._fetcher._records = _Fetched(self.make, self.give_way)
        for tp, result in fetched.items():
            self._fetcher._records[tp] = result


class _Fetched(OrderedDict[Any, Any]):
    """aiokafka's table of what was fetched; what comes in is not unpacked yet."""

    def __init__(
        self,
        make: Callable[[TopicPartition, Any], Any] | None,
        give_way: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self._make = make
        self._give_way = give_way

    def __setitem__(self, tp: Any, result: Any) -> None:
        records = getattr(result, "_partition_records", None)  # an error has none
        if records is not None:
            readable(records, self._make, self._give_way)
        super().__setitem__(tp, result)


def as_used(_: TopicPartition, record: Any) -> FetchedRecord | Unread:
    """The record with what is used of it, for `ReadableConsumer.make`."""
    if record.__class__ is Unread:
        return record
    return FetchedRecord(record.offset, record.timestamp, record.key, record.value)


def readable(
    records: Any,
    make: Callable[[TopicPartition, Any], Any] | None = None,
    give_way: Callable[[], None] | None = None,
) -> None:
    """Let aiokafka's records of one fetched partition, none of them taken yet, be readable."""
    original = records._consumer_record

    def as_aiokafka(tp: TopicPartition, record: Any) -> Any:
        return record.at(tp) if isinstance(record, Unread) else original(tp, record)

    records._records = Batches(records._records, give_way)
    records._consumer_record = make or as_aiokafka


class Batches:
    """The batches of one fetched partition, each readable."""

    def __init__(self, records: Any, give_way: Callable[[], None] | None = None) -> None:
        self._records = records
        self._give_way = give_way
        self.has_next = records.has_next

    def next_batch(self) -> Batch:
        return Batch(self._records.next_batch(), self._give_way)


class Batch:
    """A batch that is read whole, or stands for itself as one record."""

    def __init__(self, batch: Any, give_way: Callable[[], None] | None) -> None:
        self._batch = batch
        self._give_way = give_way

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            records = []
            for record in self._batch:
                records.append(record)
                if self._give_way is not None and len(records) % TURN_RECORDS == 0:
                    self._give_way()
        except _ERRORS as error:
            return iter([Unread(self._batch, error)])
        return iter(records)


class Unread:
    """Stands for the records of a batch, at the last of their offsets. `unreadable` says why."""

    topic, partition = "", -1
    key = value = None
    headers = ()

    def __init__(self, batch: Any, error: BaseException) -> None:
        self.offset = int(batch.next_offset) - 1
        self.timestamp = int(batch.max_timestamp)
        why = f"{type(error).__name__}: {error}"[:200]
        begin = int(batch.base_offset)
        self.unreadable = f"the batch of offsets {begin} to {self.offset} cannot be read: {why}"

    def at(self, tp: TopicPartition) -> Unread:
        """The same, which knows where it stands."""
        self.topic, self.partition = tp.topic, tp.partition
        return self
