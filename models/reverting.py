"""Which row writes turn a copy of a shard's rows into its state after a rollback (`revert`).

Everything that is model is the base's: `k/`, `u/`, `i/` and `s/model`. Everything that belongs to
the log goes on from now: metrics, counters and log time (all other rows under `s/`), and the
labels that events are waiting for. So nothing is measured twice, time does not go back, and a
label that comes after the rollback teaches the model that is there then.

A key's baseline, `updates`, `last_learned` and `full` tell of its model, so they go back with it.
Of `last_seen` the later one counts in every row that is written: a key is not idle because it is
put back, and what waits must not be forgotten with it. Rows that are not written keep the base's.

A key that has been idle for too long, on its own side's log time, counts as one without a row:
whether a sweep has deleted it yet must make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from headrace.errors import RequestError
from headrace.models.forms import Form, form_of
from headrace.models.labels import Parked
from headrace.models.learner import LOGTIME_ROW
from headrace.models.logtime import LogTime
from headrace.models.row_reading import RowReading
from headrace.models.slots import KEY_ROW, SHARED_ROW, Slot
from headrace.models.spec import Spec
from headrace.models.stored import key_of, read, waits, written
from headrace.ports import Rows

__all__ = ["Write", "can_revert_keys", "of_keys", "whole"]

Write: TypeAlias = tuple[bytes, bytes | None]
"""A row's name and its new bytes; None deletes it."""

_SHARD_ROWS = b"s/"


def can_revert_keys(spec: Spec) -> bool:
    """Whether single keys can go back: each has a model of its own. Rankers are always shared.

    >>> from headrace.models.spec import load_spec
    >>> can_revert_keys(load_spec('''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}}, scope: shared,
    ...  model: linear_model.LinearRegression, label: {field: $.y}}'''))
    False
    """
    return not spec.shared


def whole(spec: Spec, base: Rows, now: Rows) -> Iterator[Write]:
    """The writes that turn a copy of `base` into the revert of the whole agent to it.

    `base` is the snapshot's state, `now` the flushed one that is left, both of this spec. All
    rows under `s/` but `s/model` become those of `now`. A spec without a later label has nothing
    waiting, so no key's row is read or written, however many there are; a key that was seen since
    the base is then as long idle as the base has it, and a base older than the spec's `idle_ttl`
    is a base of expired keys.

    With a later label every row of a key is looked at, and each in which something waits, in
    `base` or in `now`, is written: the base's model with the labels that wait now. A key that the
    base does not have gets a new model, as its first event would make it.

    The writes belong into one batch; they may be drawn piece by piece while neither side changes.
    Raises CorruptStateError.
    """
    yield from _of_the_shard(base, now)
    if spec.label is None or not spec.label.later:
        return
    merge = _Merge(spec, base, now)
    for row, newer in now.scan(KEY_ROW):
        if waits(newer):
            yield row, merge.row(row, base.get(row), newer)
    for row, older in base.scan(KEY_ROW):
        if waits(older):
            found = now.get(row)
            if found is None or not waits(found):
                yield row, merge.row(row, older, found)


def of_keys(spec: Spec, keys: Iterable[str], base: Rows, now: Rows) -> Iterator[Write]:
    """The writes that turn a copy of `now` into the revert of these keys to `base`.

    Their rows become those of `base`, with the labels that wait now; a key that the base does not
    have loses its row, or has a new model if labels wait for it. All other rows stay.

    Raises RequestError (`not_per_key`) where keys share a model, and, when drawn,
    CorruptStateError.
    """
    if not can_revert_keys(spec):
        text = (
            f"the keys of {spec.agent!r} share one model, which has learned from all of them: "
            "a single key cannot be put back; roll back the whole agent"
        )
        raise RequestError("not_per_key", text)
    return _of_keys(spec, keys, base, now)


def _of_keys(spec: Spec, keys: Iterable[str], base: Rows, now: Rows) -> Iterator[Write]:
    merge = _Merge(spec, base, now)
    for key in dict.fromkeys(keys):
        row = KEY_ROW + key.encode()
        newer = now.get(row)
        merged = merge.row(row, base.get(row), newer)
        if merged != newer:
            yield row, merged


def _of_the_shard(base: Rows, now: Rows) -> Iterator[Write]:
    """What the shard has measured, counted and seen of time: as in `now`."""
    kept = {SHARED_ROW}
    for row, data in now.scan(_SHARD_ROWS):
        if row != SHARED_ROW:
            kept.add(row)
            yield row, data
    for row, _ in base.scan(_SHARD_ROWS):
        if row not in kept:
            yield row, None


class Idleness:
    """Which keys of these rows have been idle for too long, at the log time of the rows."""

    def __init__(self, spec: Spec, rows: Rows) -> None:
        time = LogTime()
        with RowReading():
            saved = rows.get(LOGTIME_ROW)
            if saved is not None:
                time.load(saved)
        self._ttl_ms = spec.state.idle_ttl_ms
        self._now = time.now
        self._settled = time.settled

    def seen(self, slot: Slot) -> Slot | None:
        """The slot; None if nobody can see it any more."""
        if self._ttl_ms is None or not self._settled or slot.last_seen < 0:
            return slot
        return None if self._now - slot.last_seen > self._ttl_ms else slot


class _Merge:
    """Makes one row of the base's model and of what waits now."""

    def __init__(self, spec: Spec, base: Rows, now: Rows) -> None:
        self._spec = spec
        self._base = Idleness(spec, base)
        self._now = Idleness(spec, now)
        self._form: Form | None = None  # made when the first new model is

    def row(self, row: bytes, base: bytes | None, now: bytes | None) -> bytes | None:
        """The row as it becomes; None: there is none. `base` and `now`: as each side has it."""
        newer = None if now is None else self._now.seen(read(row, now))
        slot = None if base is None else self._base.seen(read(row, base))
        waiting: Iterable[Parked] = () if newer is None else newer.waiting
        if slot is None:
            if not waiting:
                return None
            slot = Slot(key_of(row), self._new_model(key_of(row)))
        slot.waiting = tuple(waiting)
        if newer is not None:
            slot.last_seen = max(slot.last_seen, newer.last_seen)
        return written(slot)

    def _new_model(self, key: str) -> bytes | None:
        if self._spec.shared:
            return None
        if self._form is None:
            self._form = form_of(self._spec)
        return self._form.encode(self._form.new(key))
