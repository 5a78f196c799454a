"""Keys' rows as they are stored, read and written without making a model of the model's bytes.

What moves rows about (a rollback, a migration, a comparison) asks what waits in a row, and puts
other parts around the same model. To decode the model would cost most of the time and serve nobody.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from headrace.models.memory_rows import MemoryRows
from headrace.models.row_reading import RowReading
from headrace.models.slots import HEAD, KEY_ROW, SHARED_ROW, Slot, SlotLimits, Slots

__all__ = ["is_same_model", "key_digest", "key_of", "read", "waits", "written"]

_NOTHING_WAITS = msgspec.msgpack.encode([])
_DIGEST_BYTES = 32  # of SHA-256, before the row's body: `Slots.pack`


class _Bytes:
    """The form of slots whose models stay the bytes that they are stored as."""

    def new(self, key: str) -> bytes:
        return b""

    def encode(self, model: bytes) -> bytes:
        return model

    def decode(self, data: bytes) -> bytes:
        return data


_SLOTS = Slots(MemoryRows(), _Bytes(), SlotLimits(1, None, shared=True))


def key_of(row: bytes) -> str:
    """The key that the row of this name belongs to; empty for the model that all keys share."""
    return "" if row == SHARED_ROW else row[len(KEY_ROW) :].decode()


def read(row: bytes, data: bytes) -> Slot:
    """The slot in the row of this name, its model as bytes (None: it has none).

    Raises CorruptStateError for bytes that are not what was written.

    >>> ada = Slot("ada", b"a model's bytes", updates=3, last_seen=1_000)
    >>> again = read(b"k/ada", written(ada))
    >>> again.model, again.updates, again.last_seen
    (b"a model's bytes", 3, 1000)
    """
    with RowReading():
        return _SLOTS.unpack(key_of(row), data)


def written(slot: Slot) -> bytes:
    """The row of a slot as `read` gives it: the same bytes for the same content."""
    return _SLOTS.pack(slot)


def waits(data: bytes) -> bool:
    """Whether labels wait in a key's row. Quicker than `read`: the digest is not looked at.

    >>> waits(written(Slot("ada", b"a model's bytes")))
    False
    """
    with RowReading():
        waiting = HEAD.decode(memoryview(data)[_DIGEST_BYTES:]).waiting
        return bytes(waiting) != _NOTHING_WAITS


def key_digest(row: bytes, data: bytes) -> str:
    """SHA-256, hexadecimal, of what a rollback puts back of a key: all but when it was seen last
    and what waits for its label.

    >>> ada = Slot("ada", b"a model's bytes", updates=3)
    >>> before = key_digest(b"k/ada", written(ada))
    >>> ada.last_seen = 1_000
    >>> key_digest(b"k/ada", written(ada)) == before
    True
    >>> ada.updates = 4
    >>> key_digest(b"k/ada", written(ada)) == before
    False
    """
    slot = read(row, data)
    parts = (slot.updates, slot.last_learned, slot.full, slot.baseline, slot.model or b"")
    return sha256(msgspec.msgpack.encode(parts)).hexdigest()


def is_same_model(row: bytes, one: bytes, other: bytes) -> bool:
    """Whether a key's model is the same in both: what it answers with, how often it has learned.

    When it last learned is not looked at. That is log time, which is another one by a few
    milliseconds for all keys once some records are left out; no model differs by it.

    >>> ada = Slot("ada", b"a model's bytes", updates=3, last_learned=1_000)
    >>> before = written(ada)
    >>> ada.last_learned = ada.last_seen = 1_001
    >>> is_same_model(b"k/ada", before, written(ada))
    True
    >>> ada.updates = 4
    >>> is_same_model(b"k/ada", before, written(ada))
    False
    """
    if one == other:
        return True
    left, right = read(row, one), read(row, other)
    return (left.model, left.updates, left.full) == (right.model, right.updates, right.full)
