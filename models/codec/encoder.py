"""Objects to plain msgpack values: the walk of a model's graph.

Order is part of a dict's state here: River sums over features in dictionary order, and floating
point sums depend on it, so a dict keeps its order and two dicts in different order are different
states. A set's order depends on hashes and on history, so it cannot be kept; sets are sorted by
the bytes of their items, and what iterates a set in a way that matters is not in the catalog
(`headrace.models.checks.set_order_is_irrelevant`). The order of attributes never matters.

Containers and instances are numbered as they appear; a second appearance is a reference. Tuples
and numbers have no identity that River looks at, so they are written out each time.
"""

from __future__ import annotations

import collections
import copy
import datetime
import functools
import operator
import random
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

import msgspec
import numpy as np
from river._river_rust import drift, stats
from river.utils import VectorDict

from headrace.models.codec import tags as tag
from headrace.models.codec.class_table import ClassTable
from headrace.models.codec.unseeded import UNSEEDED, UNSEEDED_STATE

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
DEFER_DEPTH: Final = 60  # attributes nested deeper than this are written after the rest
MAX_DEPTH: Final = 160  # lists in lists beyond this are refused; keeps clear of Python's own limit
INT_RANGE: Final = (-(2**63), 2**64 - 1)

RUST: Final = {
    f"rust.{cls.__name__}": cls
    for cls in (
        drift.AdaptiveWindowing,
        *(thing for name, thing in sorted(vars(stats).items()) if name.startswith("Rs")),
    )
}
_RUST_NAMES: Final = {cls: name for name, cls in RUST.items()}


class ReversedSet(set[Any]):
    """A set that is walked backwards. What then comes out otherwise depends on sets' order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(list(super().__iter__())[::-1])


class UnsupportedType(TypeError):
    """An object that the codec cannot write; the text names it and where it hangs."""


class Encoder:
    """One run of the encoder. Call `envelope` once."""

    def __init__(self, table: ClassTable, *, big_ints: bool) -> None:
        self.table = table
        self.big_ints = big_ints  # look at each int: slow, so only when msgpack refused one
        self.memo: dict[int, int] = {}
        self.keep: list[Any] = []  # what is numbered must not be freed, or its id could recur
        self.classes: dict[tuple[type, tuple[str, ...]], tuple[int, tuple[str, ...]]] = {}
        self.header: list[list[Any]] = []
        self.deferred: collections.deque[Any] = collections.deque()

    def envelope(self, root: Any) -> list[Any]:
        """All of `root`: version, classes, the root's value, deferred parts in order."""
        value = self.value(root, 0)
        parts = []
        while self.deferred:
            parts.append(self.value(self.deferred.popleft(), 0))
        return [tag.CODEC_VERSION, self.header, value, parts]

    def value(self, item: Any, depth: int) -> Any:
        kind = type(item)
        if kind in SCALARS:
            if self.big_ints and kind is int and not INT_RANGE[0] <= item <= INT_RANGE[1]:
                size = item.bit_length() // 8 + 1
                return [tag.BIGINT, item.to_bytes(size, "little", signed=True)]
            return item
        number = self.memo.get(id(item))
        if number is not None:
            return [tag.REFERENCE, number]
        if depth > MAX_DEPTH:
            raise UnsupportedType(f"more than {MAX_DEPTH} containers inside each other")
        write = _ENCODERS.get(kind)
        if write is None:
            write = _ENCODERS[kind] = self._encoder_of(kind)
        return write(self, item, depth + 1)

    def number(self, item: Any) -> None:
        self.memo[id(item)] = len(self.memo)
        self.keep.append(item)

    def _encoder_of(self, kind: type) -> Callable[[Encoder, Any, int], Any]:
        name = self.table.name_of(kind)
        if kind in _RUST_NAMES:
            return _rust
        if issubclass(kind, type):
            return _name
        if kind is ReversedSet:
            return _set
        if name is None:
            raise UnsupportedType(f"{kind.__module__}.{kind.__qualname__} is not in the table")
        if issubclass(kind, tuple):
            return _namedtuple
        if issubclass(kind, collections.deque):
            return _deque_of
        if issubclass(kind, dict | list | set | BaseException):
            raise UnsupportedType(f"{name} is a container of its own kind")
        return _object


def _object(encoder: Encoder, item: Any, depth: int) -> list[Any]:
    encoder.number(item)
    kind = type(item)
    held: dict[str, Any] = getattr(item, "__dict__", _NOTHING)
    slots: tuple[str, ...] = _slots(kind)  # type: ignore[arg-type]  # a class is hashable
    if slots:
        held = {
            **held,
            **{name: getattr(item, name) for name in slots if hasattr(item, name)},
        }
    entry = encoder.classes.get((kind, tuple(held)))
    if entry is None:
        skip = encoder.table.derived.get(kind, frozenset())
        fields = tuple(sorted(name for name in held if name not in skip))
        # Attributes set in another order are the same state: they share the entry.
        entry = encoder.classes.get((kind, ("", *fields)))
        if entry is None:
            encoder.header.append([encoder.table.name_of(kind), fields])
            entry = (tag.OBJECT + len(encoder.header) - 1, fields)
            encoder.classes[kind, ("", *fields)] = entry
        encoder.classes[kind, tuple(held)] = entry
    out: list[Any] = [entry[0]]
    for name in entry[1]:
        value = held[name]
        if type(value) in SCALARS and not encoder.big_ints:
            out.append(value)
        elif isinstance(value, _CHANCE) and "seed" in held and held["seed"] is None:
            out.append([tag.UNSEEDED, int(isinstance(value, np.random.RandomState))])
        elif depth > DEFER_DEPTH and type(value) not in SCALARS:
            encoder.deferred.append(value)
            out.append([tag.DEFERRED])
        else:
            try:
                out.append(encoder.value(value, depth))
            except UnsupportedType as error:
                raise UnsupportedType(f"{kind.__name__}.{name}: {error}") from None
    return out


_NOTHING: Final[dict[str, Any]] = {}
_CHANCE: Final = (random.Random, np.random.RandomState)


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                hidden = name.startswith("__") and not name.endswith("__")
                names.append(f"_{cls.__name__.lstrip('_')}{name}" if hidden else name)
    return tuple(names)


def _pairs(encoder: Encoder, items: Iterable[tuple[Any, Any]], out: list[Any], depth: int) -> Any:
    for key, value in items:
        out.append(encoder.value(key, depth))
        out.append(encoder.value(value, depth))
    return out


def _plain(encoder: Encoder, item: dict[Any, Any]) -> bool:
    """A dict that is written as a msgpack map: text keys, scalar values."""
    return (
        not encoder.big_ints
        and all(type(key) is str for key in item)
        and all(type(value) in SCALARS for value in item.values())
    )


def _dict(encoder: Encoder, item: dict[Any, Any], depth: int) -> Any:
    encoder.number(item)
    if _plain(encoder, item):
        return item
    return _pairs(encoder, item.items(), [tag.DICT], depth)


def _counter(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    return _pairs(encoder, item.items(), [tag.COUNTER], depth)


def _defaultdict(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    factory = encoder.value(item.default_factory, depth)
    return _pairs(encoder, item.items(), [tag.DEFAULTDICT, factory], depth)


def _ordereddict(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    return _pairs(encoder, item.items(), [tag.ORDEREDDICT], depth)


def _list(encoder: Encoder, item: list[Any], depth: int) -> Any:
    encoder.number(item)
    return [tag.LIST, *[encoder.value(part, depth) for part in item]]


def _tuple(encoder: Encoder, item: tuple[Any, ...], depth: int) -> Any:
    return [tag.TUPLE, *[encoder.value(part, depth) for part in item]]


def _namedtuple(encoder: Encoder, item: tuple[Any, ...], depth: int) -> Any:
    name = encoder.table.name_of(type(item))
    return [tag.NAMEDTUPLE, name, *[encoder.value(part, depth) for part in item]]


def _deque(encoder: Encoder, item: collections.deque[Any], depth: int) -> Any:
    encoder.number(item)
    return [tag.DEQUE, item.maxlen, *[encoder.value(part, depth) for part in item]]


def _deque_of(encoder: Encoder, item: collections.deque[Any], depth: int) -> Any:
    encoder.number(item)
    held = sorted(vars(item).items())
    attributes = [
        tag.DICT,
        *(encoder.value(part, depth) for pair in held for part in pair),
    ]
    name = encoder.table.name_of(type(item))
    parts = [encoder.value(part, depth) for part in item]
    return [tag.DEQUE_OF, name, item.maxlen, attributes, *parts]


def _sorted(encoder: Encoder, item: Iterable[Any], depth: int) -> list[Any]:
    before = len(encoder.memo)
    parts = [encoder.value(part, depth) for part in item]
    if len(encoder.memo) != before:
        raise UnsupportedType("a set of objects, whose order is that of their addresses")
    return sorted(parts, key=msgspec.msgpack.encode)


def _set(encoder: Encoder, item: set[Any], depth: int) -> Any:
    encoder.number(item)
    return [tag.SET, *_sorted(encoder, item, depth)]


def _frozenset(encoder: Encoder, item: frozenset[Any], depth: int) -> Any:
    return [tag.FROZENSET, *_sorted(encoder, item, depth)]


def _array(encoder: Encoder, item: np.ndarray[Any, Any], depth: int) -> Any:
    if item.dtype.hasobject or item.dtype.fields is not None:
        raise UnsupportedType(f"an array of {item.dtype}")
    encoder.number(item)
    # Sums over a Fortran array run in another order than over a C array: the layout is state.
    fortran = item.flags.f_contiguous and not item.flags.c_contiguous
    order: Literal["C", "F"] = "F" if fortran else "C"
    return [tag.ARRAY, item.dtype.str, order, list(item.shape), item.tobytes(order)]


def _number(encoder: Encoder, item: Any, depth: int) -> Any:
    return [tag.NUMBER, item.dtype.str, item.tobytes()]


def _random(encoder: Encoder, item: random.Random, depth: int) -> Any:
    encoder.number(item)
    version, words, gauss = item.getstate()
    return [tag.RANDOM, version, np.array(words, "<u4").tobytes(), gauss]


def _randomstate(encoder: Encoder, item: np.random.RandomState, depth: int) -> Any:
    encoder.number(item)
    state: Any = item.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise UnsupportedType(f"a RandomState over {state['bit_generator']}")
    words = np.asarray(state["state"]["key"], "<u4").tobytes()
    return [
        tag.RANDOMSTATE, words, int(state["state"]["pos"]), int(state["has_gauss"]),
        float(state["gauss"]),
    ]  # fmt: skip


def _generator(encoder: Encoder, item: np.random.Generator, depth: int) -> Any:
    encoder.number(item)
    state: Any = item.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise UnsupportedType(f"a Generator over {state['bit_generator']}")
    words = [state["state"][part].to_bytes(16, "little") for part in ("state", "inc")]
    return [tag.GENERATOR, *words, int(state["has_uint32"]), int(state["uinteger"])]


def _partial(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    return [
        tag.PARTIAL,
        *[encoder.value(p, depth) for p in (item.func, item.args, item.keywords)],
    ]


def _name(encoder: Encoder, item: Any, depth: int) -> Any:
    name = encoder.table.name_of(item)
    if name is None:
        raise UnsupportedType(f"{getattr(item, '__qualname__', item)} is not in the table")
    return [tag.NAME, name]


def _method(encoder: Encoder, item: Any, depth: int) -> Any:
    if item.__self__ is None or isinstance(item.__self__, types.ModuleType | type):
        return _name(encoder, item, depth)
    try:
        encoder.table.bound_method(item.__self__, item.__name__)
    except ValueError as error:
        raise UnsupportedType(str(error)) from None
    return [tag.METHOD, encoder.value(item.__self__, depth), item.__name__]


def _rust(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    arguments = item.__getnewargs__() if hasattr(item, "__getnewargs__") else ()
    return [tag.RUST, _RUST_NAMES[type(item)], list(arguments), item.__getstate__()]


def _vector(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    _, (data, factory, mask, _copy) = item.__reduce__()
    encoder.keep.append(data)
    inner = data if _plain(encoder, data) else _pairs(encoder, data.items(), [tag.DICT], depth)
    return [tag.VECTOR, inner, encoder.value(factory, depth), encoder.value(mask, depth)]


def _itemgetter(encoder: Encoder, item: Any, depth: int) -> Any:
    _, keys = item.__reduce__()
    if len(keys) != 1:
        raise UnsupportedType("an itemgetter of several keys")
    return [tag.ITEMGETTER, encoder.value(keys[0], depth)]


def _iterator(encoder: Encoder, item: Any, depth: int) -> Any:
    encoder.number(item)
    return [tag.ITERATOR, *[encoder.value(part, depth) for part in copy.copy(item)]]


_ENCODERS: Final[dict[type, Callable[[Encoder, Any, int], Any]]] = {
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    collections.deque: _deque,
    collections.Counter: _counter,
    collections.defaultdict: _defaultdict,
    collections.OrderedDict: _ordereddict,
    np.ndarray: _array,
    np.float64: lambda encoder, item, depth: [tag.FLOAT64, float(item)],
    **dict.fromkeys((np.bool_, np.float32, np.float16, np.int8, np.int16, np.int32), _number),
    **dict.fromkeys((np.int64, np.uint8, np.uint16, np.uint32, np.uint64), _number),
    np.random.RandomState: _randomstate,
    np.random.Generator: _generator,
    random.Random: _random,
    type(UNSEEDED): lambda encoder, item, depth: [tag.UNSEEDED, 0],
    type(UNSEEDED_STATE): lambda encoder, item, depth: [tag.UNSEEDED, 1],
    functools.partial: _partial,
    type: _name,
    types.FunctionType: _name,
    types.BuiltinFunctionType: _method,
    types.MethodType: _method,
    type(str.lower): _name,
    type(iter([])): _iterator,
    VectorDict: _vector,
    operator.itemgetter: _itemgetter,
    complex: lambda encoder, item, depth: [tag.COMPLEX, item.real, item.imag],
    datetime.datetime: lambda encoder, item, depth: [tag.DATETIME, item.isoformat()],
    datetime.date: lambda encoder, item, depth: [tag.DATE, item.isoformat()],
    datetime.timedelta: lambda encoder, item, depth: [
        tag.TIMEDELTA, item.days, item.seconds, item.microseconds,
    ],
}  # fmt: skip
