"""Probes: does another build read a stored state as it was meant?

For up to 32 keys, and for a new model, they hold a few made-up inputs with the exact outputs of
predict → learn → predict, the digests of the states before and after, and the fields of each class
in a model. Where all of it comes out again bit for bit, the state goes on as if nothing had
changed; where River, numpy or Headrace compute otherwise, the difference is named.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Literal

import msgspec

from headrace.errors import CorruptStateError
from headrace.models import stored
from headrace.models.slots import KEY_ROW, SHARED_ROW
from headrace.models.spec import Spec
from headrace.models.spec.model import is_light
from headrace.models.trials import (
    Input,
    KeyedTrial,
    Outcome,
    RankedTrial,
    Trial,
    inputs_for,
    interactions,
)
from headrace.ports import Rows

__all__ = ["KEYS_MAX", "PROBES_BYTES_MAX", "check", "make"]

KEYS_MAX: Final = 32
"""Keys with a probe: those of the smallest SHA-256 among the first `SCANNED_MAX`."""

KEYS_SLOW_MAX: Final = 8  # where an estimator is not of the lightest class of cost
PROBES_BYTES_MAX: Final = 64 << 10  # of all probes of a shard; keys beyond it have none
SCANNED_MAX: Final = 2_000  # rows among which the keys are chosen
SCANNED_BYTES_MAX: Final = 4 << 20  # of those rows

MODEL_BYTES_MAX: Final = 128 << 10
"""Of the models that are tried, but for the first: large ones take long, so fewer keys are."""

ITEMS_PROBED_MAX: Final = 1_000
"""Of a recommender with more items only a new one is tried: to load it would take too long."""

EVENTS: Final = 3  # made-up ones for each model
_ITEMS: Final = 8  # of a recommender that its users are tried with
_SHOWN: Final = 20  # differences that are told
_ITEM_ROW: Final = b"i/"


class _Probe(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    of: str | None  # whose model: a key's, or "" for the shared one; None: a new model
    inputs: list[Input]
    outcomes: list[Outcome]


class _Probes(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    layout: Literal[1]
    spec_digest: str
    classes: dict[str, list[list[str]]]
    probes: list[msgspec.Raw]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Probes).decode
_unpack_one = msgspec.msgpack.Decoder(_Probe).decode


def make(spec: Spec, rows: Rows, limit: int = KEYS_MAX) -> bytes:
    """The probes of a shard's rows: opaque bytes, at most 64 KiB, always the same for the same
    rows. Changes nothing. Takes 10 to 30 ms for most models: of large or slow ones fewer are tried.

    Raises CorruptStateError for rows that are not what was written.

    >>> from headrace.models.memory_rows import MemoryRows
    >>> from headrace.models.spec import load_spec
    >>> spec = load_spec('''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}},
    ...  model: linear_model.LinearRegression, label: {field: $.y}}''')
    >>> check(make(spec, MemoryRows()), spec, MemoryRows())
    []
    """
    trial = _trial(spec, rows)
    made = _Probes(1, spec.digest, _classes(spec, trial), [])
    room = PROBES_BYTES_MAX - len(_pack(made)) - 8  # the length of a longer list
    for of, inputs, data in _subjects(spec, rows, limit):
        probe = _pack(_Probe(of, inputs, trial.run(data, inputs)))
        room -= len(probe)
        if room < 0:
            break
        made.probes.append(msgspec.Raw(probe))
    return _pack(made)


def check(probes: bytes, spec: Spec, rows: Rows) -> list[str]:
    """What does not come out of these rows as it did when the probes were made; empty: all does.

    A few sentences for people. Rows that are gone or damaged are differences, too.
    """
    try:
        kept = _unpack(probes)
        held = [_unpack_one(probe) for probe in kept.probes]
    except msgspec.MsgspecError as error:
        return [f"the probes cannot be read: {error}"]
    if kept.spec_digest != spec.digest:
        return ["this build reads the spec otherwise, or the probes were made for another one"]
    trial = _trial(spec, rows)
    found = list(_other_fields(kept.classes, _classes(spec, trial)))
    for probe in held:
        found += _differences(probe, trial, rows)
    beyond = len(found) - _SHOWN
    return found if beyond <= 0 else [*found[:_SHOWN], f"and {beyond} more"]


def _trial(spec: Spec, rows: Rows) -> Trial:
    return RankedTrial(spec, rows) if spec.kind == "ranker" else KeyedTrial(spec)


def _classes(spec: Spec, trial: Trial) -> dict[str, list[list[str]]]:
    """Fields by class; none of a recommender, whose rows have a form of their own."""
    return trial.classes(inputs_for(spec, "", EVENTS)) if isinstance(trial, KeyedTrial) else {}


def _subjects(
    spec: Spec, rows: Rows, limit: int
) -> Iterator[tuple[str | None, list[Input], bytes | None]]:
    """Whose models are tried, with which inputs, and their bytes: a new one first."""
    if spec.kind == "ranker":
        yield None, interactions(spec, ["a", "b", "a"], ["x", "y"]), None
        items = [row for row, _ in islice(rows.scan(_ITEM_ROW), ITEMS_PROBED_MAX + 1)]
        users = [stored.key_of(row) for row, _ in _chosen(rows, limit)]
        if users and 0 < len(items) <= ITEMS_PROBED_MAX:
            some = heapq.nsmallest(_ITEMS, items, key=_order)
            names = [row[len(_ITEM_ROW) :].decode() for row in some]
            yield "", interactions(spec, users, names), b""
        return
    yield None, inputs_for(spec, "", EVENTS), None
    if spec.shared:
        data = rows.get(SHARED_ROW)
        if data is not None:
            yield "", inputs_for(spec, "", EVENTS), stored.read(SHARED_ROW, data).model
        return
    size = 0
    for row, data in _chosen(rows, limit if is_light(spec.model) else min(limit, KEYS_SLOW_MAX)):
        model = stored.read(row, data).model
        size += len(model)
        if size > MODEL_BYTES_MAX and size > len(model):
            return
        key = stored.key_of(row)
        yield key, inputs_for(spec, key, EVENTS), model


def _chosen(rows: Rows, limit: int) -> list[tuple[bytes, bytes]]:
    return heapq.nsmallest(limit, _some(rows), key=lambda pair: _order(pair[0]))


def _some(rows: Rows) -> Iterator[tuple[bytes, bytes]]:
    size = 0
    for row, data in islice(rows.scan(KEY_ROW), SCANNED_MAX):
        yield row, data
        size += len(data)
        if size > SCANNED_BYTES_MAX:
            return


def _order(row: bytes) -> bytes:
    return sha256(row.partition(b"/")[2]).digest()


def _other_fields(
    kept: dict[str, list[list[str]]], found: dict[str, list[list[str]]]
) -> Iterator[str]:
    for name in sorted({*kept, *found}):
        if kept.get(name) != found.get(name):
            before, after = _fields(kept.get(name, ())), _fields(found.get(name, ()))
            gone, new = sorted(before - after), sorted(after - before)
            what = [f"no longer {', '.join(gone)}"] if gone else []
            what += [f"now {', '.join(new)}"] if new else []
            yield f"{name} has other fields: {' and '.join(what) or 'in another order'}"


def _fields(lists: Iterable[list[str]]) -> set[str]:
    return {field for fields in lists for field in fields}


def _differences(probe: _Probe, trial: Trial, rows: Rows) -> Iterator[str]:
    whose = "a new model"
    if probe.of is not None:
        whose = f"the model of key {probe.of!r}" if probe.of else "the shared model"
    try:
        data = _data(probe, trial, rows)
        if probe.of is not None and data is None:
            yield f"{whose} is not there"
            return
        outcomes = trial.run(data, probe.inputs)
    except CorruptStateError as error:
        yield f"{whose} cannot be read: {error}"
        return
    if len(outcomes) != len(probe.outcomes):
        yield f"{whose} has another form"
    for before, after in zip(probe.outcomes, outcomes, strict=False):
        text = _difference(before, after)
        if text:
            yield f"{whose} {text}"
            return


def _data(probe: _Probe, trial: Trial, rows: Rows) -> bytes | None:
    if probe.of is None:
        return None
    if isinstance(trial, RankedTrial):
        return b""
    row = KEY_ROW + probe.of.encode() if probe.of else SHARED_ROW
    data = rows.get(row)
    model: Any = None if data is None else stored.read(row, data).model
    return model  # type: ignore[no-any-return]


def _difference(before: Outcome, after: Outcome) -> str:
    """The first thing that is another one; by bytes, so that NaN equals itself and -0 not 0."""
    if before.begun != after.begun:
        return "is in another state"
    for number, (was, now) in enumerate(zip(before.steps, after.steps, strict=True), start=1):
        if _pack(was[0]) != _pack(now[0]):
            return f"predicts otherwise of event {number}"
        if _pack(was[1:]) != _pack(now[1:]):
            return f"predicts otherwise when it has learned event {number}"
    return "" if before.ended == after.ended else "learns otherwise"
