"""A shard without Kafka and without a disk: its records, its sink, its store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec, load_spec
from headrace.pipelines.shard import Shard
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.ports import Record
from headrace.state.memory import MemoryStore
from headrace.state.store import ShardMeta
from headrace.views import Partition

SPEC = """
agent: warmth
source: {topic: readings, key: $.id}
features: {power: {type: number, range: [0, 100]}}
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
label: {field: $.temp}
"""
DECISIONS = Partition("decisions.warmth", 0)
QUARANTINE = Partition("app.quarantine", 0)


class Event(NamedTuple):
    """A record of the in-process log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Chunk(NamedTuple):
    """Records of the log, where the next chunk begins, and where this one does."""

    records: Sequence[Record]
    next_offset: int
    begins: int = 0


class Sink:
    """Keeps what was appended; `journal` tells in which order things became durable."""

    def __init__(self) -> None:
        self.appended: list[tuple[Partition, bytes]] = []
        self.journal: list[str] = []
        self.broken = False

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        self.appended.append((to, value))

    async def flow(self) -> None:
        """Never full, and sent at once."""

    send = flow

    async def drain(self) -> None:
        if self.broken:
            raise ConnectionError("the broker is away")
        self.journal.append("acknowledged")

    def of(self, to: Partition) -> list[bytes]:
        return [value for there, value in self.appended if there == to]


class Store(MemoryStore):
    """A memory store that writes into the sink's journal."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        super().write(rows, meta)
        self._sink.journal.append(f"written {meta.next_offset}")


def event(offset: int, key: str = "a", power: object = None, at: int | None = None) -> Event:
    body = {"id": key, "power": offset % 7 if power is None else power, "temp": 20 + offset % 5}
    at = 1_000 * offset if at is None else at
    return Event(offset, at, key.encode(), msgspec.json.encode(body))


def chunk(*records: Event, next_offset: int | None = None) -> Chunk:
    return Chunk(records, records[-1].offset + 1 if next_offset is None else next_offset)


def open_shard(
    sink: Sink,
    store: MemoryStore,
    text: str = SPEC,
    flush_keys: int = 1000,
    decided_below: int = 0,
) -> Shard:
    spec: Spec = load_spec(text)
    limits = msgspec.structs.replace(spec.state, flush_keys=flush_keys)
    spec = msgspec.structs.replace(spec, state=limits)
    meta = store.meta
    at = ShardStart(meta.next_offset if meta else 0, decided_below, "c", spec.digest)
    learner = Learner(spec, Origin("warmth", 1, 1, "readings", 0), store)
    return Shard(learner, store, Outlets(sink, DECISIONS, QUARANTINE), at)


async def as_logged(offset: int) -> int:
    return offset


def rows(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b""))
