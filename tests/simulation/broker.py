"""Logs in memory, as a broker keeps them: what was appended stays, whoever dies."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from headrace.errors import StateError
from headrace.pipelines.order import Chunk
from headrace.pipelines.reader import LogSpan
from headrace.pipelines.replay import Pieces, Replay
from headrace.ports import Record
from headrace.state.repositories import open_repository
from headrace.state.repository import Repository
from headrace.views import Partition
from tests.fold.events import Row
from tests.simulation.loop import VirtualLoop

CLUSTER = "in-process"
QUARANTINE = Partition("sim.quarantine", 0)
WITHDRAWN = Partition("sim.withdrawn", 0)
CATALOGUE = Partition("sim.snapshots", 0)


@dataclass
class Log:
    """One partition. None stands for an offset without a record: a marker, or compacted.

    What lies below `begin` has been retired: the fold still sees it, no worker does.
    """

    entries: list[Row | None] = field(default_factory=list)
    begin: int = 0

    @property
    def end(self) -> int:
        return len(self.entries)

    def append(self, key: bytes | None, value: bytes | None, timestamp: int = 0) -> int:
        """Put a record at the end; its offset."""
        self.entries.append(Row(self.end, timestamp, key, value))
        return self.end - 1

    def skip(self, offsets: int) -> None:
        """Offsets that hold no record."""
        self.entries.extend([None] * offsets)

    def rows(self, begin: int = 0) -> list[Row]:
        """The records from `begin` on."""
        return [row for row in self.entries[begin:] if row is not None]


class SimBroker:
    """All topics, the group's offsets, and the delays of the network. Outlives every worker."""

    bootstrap = "in-process:0"
    url = "in-process"
    own = True
    durable = True
    can_transactions = True
    can_start_at_timestamp = True

    def __init__(self) -> None:
        self.logs: dict[Partition, Log] = defaultdict(Log)
        self.partitions: dict[str, int] = {QUARANTINE.topic: 1}
        self.committed: dict[Partition, int] = {}
        # Agent, epoch, partition: deleted at that offset, and nothing decided below may be missing.
        self.whole: set[tuple[str, int, Partition, int]] = set()
        self.repository: Repository = open_repository("memory://")  # of snapshots
        self.counts: dict[str, int] = defaultdict(int)  # what the world has seen, for its table

    async def start(self) -> None:
        """It is there."""

    async def stop(self) -> None:
        """It stays."""

    def ended(self) -> bool:
        """Never."""
        return False

    async def away(self, usual_s: float) -> None:
        """As long as the network takes."""
        await asyncio.sleep(cast(VirtualLoop, asyncio.get_running_loop()).delay(usual_s))

    def digest(self) -> str:
        """SHA-256 of all logs: two runs of one seed must give the same.

        But for the sums of RocksDB's files, which write down when they were made.
        """
        told = [
            (tuple(where), log.entries)
            for where, log in sorted(self.logs.items())
            if log.entries and where != CATALOGUE
        ]
        without_sums = re.sub(r'"digest":"[0-9a-f]{64}"', "", repr(told))
        return hashlib.sha256(without_sums.encode()).hexdigest()


class SimLogs:
    """`pipelines.reader.Logs` over the broker."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker

    async def span(self, partition: Partition) -> LogSpan:
        await self._broker.away(0.01)
        log = self._broker.logs[partition]
        return LogSpan(log.begin, log.end)

    async def record_at(self, partition: Partition, offset: int) -> Record | None:
        await self._broker.away(0.01)
        log = self._broker.logs[partition]
        return log.entries[offset] if log.begin <= offset < log.end else None

    async def offset_at_time(self, partition: Partition, timestamp_ms: int) -> int | None:
        await self._broker.away(0.01)
        log = self._broker.logs[partition]
        rows = log.rows(log.begin)
        return next((row.offset for row in rows if row.timestamp >= timestamp_ms), None)

    async def newest(self, partition: Partition, count: int) -> list[Record]:
        await self._broker.away(0.01)
        log = self._broker.logs[partition]
        return list(log.rows(max(log.begin, log.end - count)))

    @asynccontextmanager
    async def replay(self, partition: Partition, begin: int) -> AsyncIterator[Replay]:
        yield SimReplay(self._broker, partition, begin)


class SimReplay:
    """`pipelines.replay.Replay` over the broker."""

    def __init__(self, broker: SimBroker, partition: Partition, begin: int) -> None:
        self._broker = broker
        self._partition = partition
        self._next_offset = begin
        self._pieces = Pieces(partition, begin)

    async def upto(self, offset: int) -> Chunk | None:
        if not self._pieces.reach(offset):
            await self._broker.away(0.02)
            log = self._broker.logs[self._partition]
            if self._next_offset < log.begin:
                raise StateError("the log does not reach back")
            end = min(log.end, self._next_offset + 20)
            rows = [row for row in log.entries[self._next_offset : end] if row is not None]
            self._next_offset = end
            self._pieces.add(rows, end)
        return self._pieces.upto(offset)


class SimTopics:
    """What the worker asks about topics; see `pipelines.topics.Topics`."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker

    async def ensure(self, topic: str, *, partitions: int, ours: bool) -> None:
        await self._broker.away(0.01)
        self._broker.partitions.setdefault(topic, partitions)

    async def match(self, source: Partition, topic: str) -> None:
        if topic not in self._broker.partitions:
            await self.ensure(topic, partitions=self._broker.partitions[source.topic], ours=False)

    async def partition_count(self, topic: str) -> int:
        await self._broker.away(0.01)
        return self._broker.partitions.get(topic, 0)

    def known_partition_count(self, topic: str) -> int:
        return self._broker.partitions.get(topic, 0)
