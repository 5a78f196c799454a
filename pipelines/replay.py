"""Reading one partition again from some offset on, beside the group that reads it now."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from headrace.errors import StateError, UnavailableError
from headrace.pipelines import clients
from headrace.pipelines.order import Chunk
from headrace.pipelines.readable import as_used
from headrace.ports import Record
from headrace.views import Partition

POLL_MS = 300
"""How long one look waits for records."""
IDLE_S = 0.02
"""Before whoever has learned all that a replay brought looks again."""
FETCHED_MAX = 500
"""Records made of what was fetched at a time: to make more of them would stop the loop for long."""


class Replay(Protocol):
    """Order of calls: `upto` again and again, with offsets that do not fall."""

    async def upto(self, offset: int) -> Chunk | None:
        """The next records below `offset`, all that there are from `begins` to `next_offset`.

        None: nothing has come for a moment. Raises StateError if the log does not reach back.
        """
        ...


@asynccontextmanager
async def replaying(bootstrap: str, partition: Partition, begin: int) -> AsyncIterator[Replay]:
    """A replay from `begin` on. It and its `upto` raise UnavailableError `broker_away`; what its
    user meets with meanwhile passes through as it is.
    """
    consumer = clients.log_reader(bootstrap, auto_offset_reset="none")
    consumer.make = as_used
    tp = TopicPartition(*partition)
    try:
        with _reading():
            await clients.start(consumer)
        consumer.assign([tp])
        consumer.seek(tp, begin)
        yield _KafkaReplay(consumer, partition, begin)
    finally:
        await clients.stop(consumer)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise UnavailableError("broker_away", f"the broker cannot be read: {error}") from error


class _KafkaReplay:
    def __init__(self, consumer: AIOKafkaConsumer, partition: Partition, begin: int) -> None:
        self._consumer = consumer
        self._tp = TopicPartition(*partition)
        self._pieces = Pieces(partition, begin)

    async def upto(self, offset: int) -> Chunk | None:
        if not self._pieces.reach(offset):
            with _reading():
                await self._fetch()
        return self._pieces.upto(offset)

    async def _fetch(self) -> None:
        try:
            fetched = await self._consumer.getmany(
                self._tp, timeout_ms=POLL_MS, max_records=FETCHED_MAX
            )
        except OffsetOutOfRangeError as error:
            raise StateError(
                f"{self._tp.topic}[{self._tp.partition}] does not reach back to offset "
                f"{self._pieces.begins} any more: retention has cut it. Go back to a newer snapshot"
            ) from error
        position: int = await self._consumer.position(self._tp)
        self._pieces.add(fetched.get(self._tp, ()), position)


class Pieces:
    """Records that were fetched and not asked for yet.

    >>> from types import SimpleNamespace as Row
    >>> pieces = Pieces(Partition("t", 0), 5)
    >>> pieces.add([Row(offset=5), Row(offset=6), Row(offset=9)], 12)
    >>> chunk = pieces.upto(8)
    >>> chunk.begins, [row.offset for row in chunk.records], chunk.next_offset
    (5, [5, 6], 8)
    >>> pieces.upto(8) is None, pieces.upto(20).next_offset
    (True, 12)
    """

    def __init__(self, partition: Partition, begin: int) -> None:
        self._partition = partition
        self.begins = begin  # of the next chunk
        self._end = begin  # there is nothing below it but what is in `_records`
        self._records: deque[Record] = deque()

    def reach(self, offset: int) -> bool:
        """Whether all below that offset has been fetched."""
        return self._end >= offset

    def add(self, records: Sequence[Record], end: int) -> None:
        """More of them; from the last one to `end` there is nothing."""
        self._records.extend(records)
        self._end = max(self._end, end)

    def upto(self, offset: int) -> Chunk | None:
        """What there is below `offset`; None: nothing more."""
        begins, end = self.begins, min(self._end, offset)
        if end <= begins:
            return None
        records = []
        while self._records and self._records[0].offset < end:
            records.append(self._records.popleft())
        self.begins = end
        return Chunk(*self._partition, records, end, begins)
