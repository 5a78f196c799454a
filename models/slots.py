"""Live models: a bounded set of hot ones as River objects, all others as rows of bytes.

A slot is one key's state. It remembers what it learned since the last flush, so that a model which
an event broke can be made again from its durable row and these operations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from sys import getsizeof
from typing import Any, NamedTuple, Protocol

import msgspec

from headrace.errors import CorruptStateError
from headrace.models.baselines import Baseline
from headrace.models.labels import Parked
from headrace.models.row_reading import RowReading
from headrace.ports import Rows

KEY_ROW = b"k/"
SHARED_ROW = b"s/model"
# Learn operations kept per slot, and their bytes, before the model is encoded as the new starting
# point: bounds the memory of a slot that learns very often, or from large events, between two
# flushes. One batch of operations may go beyond it.
JOURNAL_MAX = 8_192
JOURNAL_BYTES_MAX = 4 << 20
# A live model and what belongs to it take 6 to 10 times the bytes of its row (measured: compiled
# linear models 5.6, River's linear ones 8.6, trees of 48 KB 8.2, nearest neighbours 10.4).
LIVE_PER_STORED = 10
READ_CACHE_MAX = 256  # cold slots kept decoded for reading


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An event as it was learned: its bytes take a third of the memory of its features."""

    key: str
    value: bytes


# A learn operation: the event where it can be read again, else features and label.
Operation = Seen | tuple[Any, Any]
Replay = Callable[[Any, Operation], None]


class _Row(msgspec.Struct, array_like=True):
    """What a row holds; `_pack` puts a SHA-256 before it."""

    layout: int
    last_seen: int
    last_learned: int
    updates: int
    full: bool
    baseline: Baseline
    waiting: Sequence[Parked]
    model: bytes


class Head(msgspec.Struct, array_like=True):
    """What a row holds before the model's bytes, told without reading those."""

    layout: int
    last_seen: int
    last_learned: int
    updates: int
    full: bool
    baseline: msgspec.Raw
    waiting: msgspec.Raw


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Row)
HEAD = msgspec.msgpack.Decoder(Head)
_LAYOUT = 1


class ModelForm(Protocol):
    """Makes models and turns them into bytes and back; see `headrace.models.forms`."""

    def new(self, key: str) -> Any: ...

    def encode(self, model: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...


class NoModel:
    """The form of slots whose keys have no model of their own."""

    def new(self, key: str) -> None:
        return None

    def encode(self, model: None) -> bytes:
        return b""

    def decode(self, data: bytes) -> None:
        return None


class SlotLimits(NamedTuple):
    """The bounds of a shard's slots."""

    hot_max: int
    idle_ms: int | None
    shared: bool


class Slot(msgspec.Struct, gc=False):
    """One key's live state. `model` is None where all keys share one.

    The garbage collector passes it over: nothing in it leads back to it.
    """

    key: str
    model: Any
    updates: int = 0  # how often the model has learned
    last_seen: int = -1  # log time of the last accepted event; -1: none yet
    last_learned: int = 0  # log time of the last update; 0: never
    baseline: Baseline = msgspec.field(default_factory=Baseline)
    waiting: Sequence[Parked] = ()
    full: bool = False  # its row has outgrown the spec's bound: it learns no more
    dirty: bool = False
    # Where a broken model starts again: `base` bytes if there are any, a new model if `fresh`,
    # else the durable row; then the journal's operations.
    base: bytes | None = None
    fresh: bool = True
    journal: list[Operation] | None = None
    journal_bytes: int = 0

    def begin_at(self, base: bytes | None) -> None:
        """Make `base` the starting point (None: the durable row); the journal begins anew."""
        self.base = base
        self.journal = None
        self.journal_bytes = 0


class Slots:
    """The slots of a shard. Order of calls: `touch`, then `mark` once the event is through; at a
    flush `changed`, and `flushed` when those rows are durable. `peek` reads at any time.

    With `shared`, one model serves all keys: it is the slot `shared`, and the keys' own slots
    have none.

    >>> from headrace.models.memory_rows import MemoryRows
    >>> slots = Slots(MemoryRows(), NoModel(), SlotLimits(10, 1000, shared=False))
    >>> slots.expires = True  # log time is settled
    >>> slot = slots.touch("ada", 5)
    >>> slot.last_seen = 5
    >>> slot.baseline.learn_number(4.0)
    >>> slots.mark(slot)
    >>> (row, data), = slots.changed()
    >>> row, slots.unpack("ada", data).baseline.mean, slots.peek("ada", 2000)
    (b'k/ada', 4.0, None)
    """

    def __init__(self, rows: Rows, form: ModelForm, limits: SlotLimits) -> None:
        self._rows = rows
        self._new, self._encode, self._decode = form.new, form.encode, form.decode
        self._hot_max = limits.hot_max
        self._idle_ms = limits.idle_ms
        self._hot: OrderedDict[str, Slot] = OrderedDict()
        self._dirty: dict[str, Slot] = {}
        self._read: OrderedDict[str, Slot] = OrderedDict()
        # Of a key: of a new one at first, then as the last flush found them.
        self._row_bytes = float(len(self.pack(Slot("", None if limits.shared else self._new("")))))
        self.expires = False  # whether keys can be idle yet; see `LogTime.settled`
        self.shared: Slot | None = None
        if limits.shared:
            durable = rows.get(SHARED_ROW)
            self.shared = self.unpack("", durable) if durable else Slot("", self._new(""))

    @property
    def hot(self) -> int:
        """How many keys are held as live objects."""
        return len(self._hot)

    @property
    def hot_bytes(self) -> int:
        """About how much memory they take: see LIVE_PER_STORED."""
        return int(len(self._hot) * self._row_bytes * LIVE_PER_STORED)

    @property
    def dirty(self) -> int:
        """How many keys changed since the last flush."""
        return len(self._dirty)

    def touch(self, key: str, now: int) -> Slot:
        """The key's slot, for writing; a new one if it is unknown or has been idle too long."""
        slot = self._hot.get(key)
        if slot is not None:
            self._hot.move_to_end(key)
            if not self._idle(slot, now):
                return slot
            slot = None
        else:
            slot = self._read.pop(key, None) or self._load(key)
            if slot is not None and self._idle(slot, now):
                slot = None
            self._make_room()
        if slot is None:
            slot = Slot(key, None if self.shared is not None else self._new(key))
        self._hot[key] = slot
        return slot

    def mark(self, slot: Slot) -> None:
        """Note that a slot changed, so that the next flush writes it."""
        if not slot.dirty:
            slot.dirty = True
            self._dirty[slot.key] = slot

    def peek(self, key: str, now: int) -> Slot | None:
        """The key's slot, for reading only; None if it is unknown or has been idle too long.

        Changes neither the hot slots nor their order.
        """
        slot = self._hot.get(key) or self._read.get(key)
        if slot is None:
            slot = self._load(key)
            if slot is None:
                return None
            self._read[key] = slot
            if len(self._read) > READ_CACHE_MAX:
                self._read.popitem(last=False)
        return None if self._idle(slot, now) else slot

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of what changed since the last `flushed`, encoded one by one."""
        if self.shared is not None and self.shared.dirty:
            yield SHARED_ROW, self.pack(self.shared)
        size = 0
        for key, slot in self._dirty.items():
            data = self.pack(slot)
            size += len(data)
            yield KEY_ROW + key.encode(), data
        if size:
            self._row_bytes = size / len(self._dirty)

    def flushed(self) -> list[Any]:
        """Those rows are durable: forget the journals, and cool down the longest unused keys.

        Returns what is spent: the caller lets go of it piece by piece, because to free what a
        second has left behind takes milliseconds.
        """
        spent: list[Any] = []
        for slot in self._dirty.values():
            spent.append(slot.journal)
            _settle(slot)
        if self.shared is not None and self.shared.dirty:
            spent.append(self.shared.journal)
            _settle(self.shared)
        self._dirty.clear()
        while len(self._hot) > self._hot_max:
            spent.append(self._hot.popitem(last=False))
        return spent

    def cool(self, count: int) -> int:
        """Let go of the longest unused keys, `count` of them less those that changed; how many.

        It may happen at any time: they are read again from their rows when they are needed.
        """
        idle = [key for key, slot in islice(self._hot.items(), count) if not slot.dirty]
        for key in idle:
            del self._hot[key]
        return len(idle)

    def forget(self, key: str) -> None:
        """Let go of a key, changed or not: its row is being deleted."""
        for held in (self._hot, self._dirty, self._read):
            held.pop(key, None)

    def rebuild(self, slot: Slot, replay: Replay) -> None:
        """Make a slot's model again, as it was before the operation that broke it.

        What came out is the new starting point: if every event breaks the model, no operation is
        done again more than once.
        """
        if slot.base is not None:
            model = self._decode(slot.base)
        elif slot.fresh:
            model = self._new(slot.key)
        else:
            name = SHARED_ROW if slot is self.shared else KEY_ROW + slot.key.encode()
            durable = self._rows.get(name)
            assert durable is not None
            with RowReading():
                model = self._decode(_open(slot.key, durable).model)
        for operation in slot.journal or ():
            replay(model, operation)
        if slot.journal:
            slot.begin_at(self._encode(model))
        slot.model = model

    def record(self, slot: Slot, operations: Iterable[Operation]) -> None:
        """Put learn operations into the journal; a long journal becomes a new starting point."""
        journal = slot.journal
        if journal is None:
            journal = slot.journal = []
        for operation in operations:
            journal.append(operation)
            if isinstance(operation, Seen):
                slot.journal_bytes += len(operation.value)
            else:
                slot.journal_bytes += _size(operation[0])
        if len(journal) >= JOURNAL_MAX or slot.journal_bytes >= JOURNAL_BYTES_MAX:
            slot.begin_at(self._encode(slot.model))

    def pack(self, slot: Slot) -> bytes:
        """The slot's row: canonical bytes with their SHA-256 before them."""
        body = _ENCODER.encode(
            _Row(
                _LAYOUT,
                slot.last_seen,
                slot.last_learned,
                slot.updates,
                slot.full,
                slot.baseline,
                slot.waiting,
                b"" if slot.model is None else self._encode(slot.model),
            )
        )
        return sha256(body).digest() + body

    def unpack(self, key: str, data: bytes) -> Slot:
        """The slot of a row. Raises CorruptStateError for bytes that are not what was written."""
        row = _open(key, data)
        slot = Slot(key, self._decode(row.model) if row.model else None)
        slot.last_seen = row.last_seen
        slot.last_learned = row.last_learned
        slot.updates = row.updates
        slot.full = row.full
        slot.baseline = row.baseline
        slot.waiting = row.waiting or ()
        slot.fresh = False
        return slot

    def sweep(self, rows: Iterable[tuple[bytes, bytes]], now: int) -> list[bytes]:
        """Those of the durable rows that are idle too long and that no later event brought back."""
        idle: list[bytes] = []
        for row, data in rows:
            if self._idle_ms is None or not row.startswith(KEY_ROW):
                continue
            key = row[len(KEY_ROW) :].decode()
            if key in self._dirty:
                continue
            with RowReading():
                last_seen = HEAD.decode(data[32:]).last_seen
            if not self._is_over(last_seen, now):
                continue
            self._hot.pop(key, None)
            self._read.pop(key, None)
            idle.append(row)
        return idle

    def _idle(self, slot: Slot, now: int) -> bool:
        return self._is_over(slot.last_seen, now) and slot.last_seen >= 0

    def _is_over(self, last_seen: int, now: int) -> bool:
        # Only once log time cannot fall any more: what a sweep deletes must stay idle for good.
        return self._idle_ms is not None and self.expires and now - last_seen > self._idle_ms

    def _load(self, key: str) -> Slot | None:
        data = self._rows.get(KEY_ROW + key.encode())
        if data is None:
            return None
        with RowReading():
            return self.unpack(key, data)

    def _make_room(self) -> None:
        # Only one slot comes in at a time, so one going out keeps the bound. The longest unused is
        # clean unless all are dirty; dirty ones wait for the flush, which is bounded by keys.
        if len(self._hot) >= self._hot_max:
            key, slot = next(iter(self._hot.items()))
            if not slot.dirty:
                del self._hot[key]


def _size(x: dict[str, Any]) -> int:
    """Bytes in memory: of the dictionary, the names and the values."""
    return getsizeof(x) + sum(map(getsizeof, x)) + sum(map(getsizeof, x.values()))


def _settle(slot: Slot) -> None:
    slot.dirty = False
    slot.fresh = False
    slot.begin_at(None)


def _open(key: str, data: bytes) -> _Row:
    if sha256(data[32:]).digest() != data[:32]:
        raise CorruptStateError(f"the row of key {key!r} does not match its digest")
    row = _DECODER.decode(data[32:])
    if row.layout != _LAYOUT:
        raise CorruptStateError(f"the row of key {key!r} has the unknown layout {row.layout}")
    return row
