"""Plain msgpack values to objects: the way back, through the closed table only."""

from __future__ import annotations

import collections
import datetime
import functools
import operator
import random
from collections.abc import Callable, Iterator
from sys import intern
from typing import Any, Final

import numpy as np
from river.utils import VectorDict

from headrace.models.codec import tags as tag
from headrace.models.codec.class_table import ClassTable, Plan
from headrace.models.codec.encoder import RUST
from headrace.models.codec.unseeded import UNSEEDED, UNSEEDED_STATE

_DTYPE_KINDS: Final = frozenset("biufcUS")
_UNMADE: Final = object()


class Decoder:
    """One run of the decoder over one envelope. Raises ValueError, KeyError, … on bad values."""

    __slots__ = ("memo", "open", "plans", "sets", "table", "unfinished")

    def __init__(self, table: ClassTable, plans: tuple[Plan, ...], sets: type[set[Any]]) -> None:
        self.sets = sets
        self.table = table
        self.plans = plans
        self.memo: list[Any] = []
        self.unfinished: list[tuple[Callable[[Any], None], Any]] = []
        self.open: list[tuple[Any, str]] = []  # attributes whose value is a deferred part

    def root(self, value: Any, deferred: list[Any]) -> Any:
        made = self.value(value)
        for index, part in enumerate(deferred):
            owner, name = self.open[index]
            _put(owner, name, self.value(part))
        if len(self.open) != len(deferred):
            raise ValueError("deferred parts and their places differ in number")
        for finish, owner in self.unfinished:
            finish(owner)
        return made

    def value(self, node: Any) -> Any:
        kind = type(node)
        if kind is list:
            first = node[0]
            if first >= 32:
                return self._object(node, self.plans[first - 32])
            return _DECODERS[first](self, node)
        if kind is dict:
            made = {intern(key): value for key, value in node.items()}
            self.memo.append(made)
            return made
        return node

    def _object(self, node: list[Any], plan: Plan) -> Any:
        fields = plan.fields
        if len(node) != len(fields) + 1:
            raise ValueError("an instance and its field list differ in length")
        cls: Any = plan.cls
        made = cls.__new__(cls)
        self.memo.append(made)
        put = _put if plan.by_dict else setattr
        index = 1
        for name in fields:
            value = node[index]
            index += 1
            kind = type(value)
            if kind is list:
                if value[0] == 1:
                    self.open.append((made, name))
                    continue
                value = self.value(value)
            elif kind is dict:
                value = {intern(key): item for key, item in value.items()}
                self.memo.append(value)
            put(made, name, value)
        if plan.after is not None:
            self.unfinished.append((plan.after, made))
        return made

    def keep(self, made: Any) -> Any:
        self.memo.append(made)
        return made

    def reserve(self) -> int:
        """Take a number for what can only be made after its parts."""
        self.memo.append(_UNMADE)
        return len(self.memo) - 1

    def items(self, node: list[Any], start: int) -> list[Any]:
        value = self.value
        return [
            value(item) if type(item) is list or type(item) is dict else item
            for item in node[start:]
        ]

    def pairs(self, node: list[Any], start: int) -> Iterator[tuple[Any, Any]]:
        if (len(node) - start) % 2:
            raise ValueError("a key without a value")
        value = self.value
        for index in range(start, len(node), 2):
            key = node[index]
            item = node[index + 1]
            yield (
                intern(key) if type(key) is str else value(key),
                value(item) if type(item) is list or type(item) is dict else item,
            )


def _put(owner: Any, name: str, value: Any) -> None:
    held = getattr(owner, "__dict__", None)
    if held is None:
        setattr(owner, name, value)
    else:
        held[name] = value


def _reference(decoder: Decoder, node: list[Any]) -> Any:
    _, number = node
    made = decoder.memo[number] if number >= 0 else _UNMADE
    if made is _UNMADE:
        raise ValueError("a reference to what is not made yet")
    return made


def _dict(decoder: Decoder, node: list[Any]) -> Any:
    made = decoder.keep({})
    made.update(decoder.pairs(node, 1))
    return made


def _counter(decoder: Decoder, node: list[Any]) -> Any:
    made = decoder.keep(collections.Counter())
    dict.update(made, decoder.pairs(node, 1))
    return made


def _defaultdict(decoder: Decoder, node: list[Any]) -> Any:
    made: Any = decoder.keep(collections.defaultdict())
    made.default_factory = decoder.value(node[1])
    made.update(decoder.pairs(node, 2))
    return made


def _ordereddict(decoder: Decoder, node: list[Any]) -> Any:
    made: Any = decoder.keep(collections.OrderedDict())
    made.update(decoder.pairs(node, 1))
    return made


def _list(decoder: Decoder, node: list[Any]) -> Any:
    made = decoder.keep([])
    made += decoder.items(node, 1)
    return made


def _tuple(decoder: Decoder, node: list[Any]) -> Any:
    return tuple(decoder.items(node, 1))


def _namedtuple(decoder: Decoder, node: list[Any]) -> Any:
    cls = decoder.table.named(node[1])
    if not issubclass(cls, tuple) or len(node) - 2 != len(cls._fields):
        raise ValueError(f"{node[1]} is no named tuple of that length")
    return tuple.__new__(cls, decoder.items(node, 2))


def _deque(decoder: Decoder, node: list[Any]) -> Any:
    made: Any = decoder.keep(collections.deque(maxlen=node[1]))
    made.extend(decoder.items(node, 2))
    return made


def _deque_of(decoder: Decoder, node: list[Any]) -> Any:
    _, name, maxlen, attributes, *_ = node
    cls = decoder.table.named(name)
    if not issubclass(cls, collections.deque):
        raise TypeError(f"{name} is no deque")
    made: Any = cls.__new__(cls)
    collections.deque.__init__(made, maxlen=maxlen)
    decoder.keep(made)
    vars(made).update(decoder.pairs(attributes, 1))
    made.extend(decoder.items(node, 4))
    return made


def _set(decoder: Decoder, node: list[Any]) -> Any:
    made: Any = decoder.keep(decoder.sets())
    made.update(decoder.items(node, 1))
    return made


def _frozenset(decoder: Decoder, node: list[Any]) -> Any:
    return frozenset(decoder.items(node, 1))


def _dtype(text: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(text)
    if dtype.kind not in _DTYPE_KINDS or dtype.str != text:
        raise ValueError(f"no array of {text!r}")
    return dtype


def _array(decoder: Decoder, node: list[Any]) -> Any:
    _, text, order, shape, data = node
    # frombuffer makes a view of the bytes that came, so no length in them can allocate more.
    view = np.frombuffer(data, _dtype(text)) if data else np.empty(0, _dtype(text))
    return decoder.keep(view.reshape(shape, order=order).copy(order))


def _number(decoder: Decoder, node: list[Any]) -> Any:
    _, text, data = node
    return np.frombuffer(data, _dtype(text))[0]


def _float64(decoder: Decoder, node: list[Any]) -> Any:
    return np.float64(node[1])


def _random(decoder: Decoder, node: list[Any]) -> Any:
    _, version, words, gauss = node
    made = random.Random(0)
    made.setstate((version, tuple(np.frombuffer(words, "<u4").tolist()), gauss))
    return decoder.keep(made)


def _unseeded(decoder: Decoder, node: list[Any]) -> Any:
    return (UNSEEDED, UNSEEDED_STATE)[node[1]]


def _randomstate(decoder: Decoder, node: list[Any]) -> Any:
    _, words, position, has_gauss, gauss = node
    made = np.random.RandomState(0)
    made.set_state(("MT19937", np.frombuffer(words, "<u4"), position, has_gauss, gauss))
    return decoder.keep(made)


def _generator(decoder: Decoder, node: list[Any]) -> Any:
    _, value, increment, has_uint32, uinteger = node
    bits: Any = np.random.PCG64(0)
    words = {
        "state": int.from_bytes(value, "little"),
        "inc": int.from_bytes(increment, "little"),
    }
    state = {"bit_generator": "PCG64", "state": words}
    bits.state = {**state, "has_uint32": has_uint32, "uinteger": uinteger}
    return decoder.keep(np.random.Generator(bits))


def _partial(decoder: Decoder, node: list[Any]) -> Any:
    number = decoder.reserve()
    function, positional, keywords = decoder.items(node, 1)
    made = functools.partial(function, *positional, **keywords)
    decoder.memo[number] = made
    return made


def _name(decoder: Decoder, node: list[Any]) -> Any:
    return decoder.table.named(node[1])


def _method(decoder: Decoder, node: list[Any]) -> Any:
    return decoder.table.bound_method(decoder.value(node[1]), node[2])


def _bigint(decoder: Decoder, node: list[Any]) -> Any:
    return int.from_bytes(node[1], "little", signed=True)


def _datetime(decoder: Decoder, node: list[Any]) -> Any:
    return datetime.datetime.fromisoformat(node[1])


def _date(decoder: Decoder, node: list[Any]) -> Any:
    return datetime.date.fromisoformat(node[1])


def _timedelta(decoder: Decoder, node: list[Any]) -> Any:
    return datetime.timedelta(*node[1:])


def _rust(decoder: Decoder, node: list[Any]) -> Any:
    _, name, arguments, state = node
    cls: Any = RUST[name]
    made = cls.__new__(cls, *arguments)
    made.__setstate__(state)
    return decoder.keep(made)


def _vector(decoder: Decoder, node: list[Any]) -> Any:
    _, data, factory, mask = node
    number = decoder.reserve()
    if type(data) is dict:
        inner = {intern(key): value for key, value in data.items()}
    else:
        inner = dict(decoder.pairs(data, 1))
    made: Any = VectorDict(inner, decoder.value(factory), decoder.value(mask), False)
    decoder.memo[number] = made
    return made


def _iterator(decoder: Decoder, node: list[Any]) -> Any:
    number = decoder.reserve()
    made = iter(decoder.items(node, 1))
    decoder.memo[number] = made
    return made


def _itemgetter(decoder: Decoder, node: list[Any]) -> Any:
    return operator.itemgetter(decoder.value(node[1]))


def _complex(decoder: Decoder, node: list[Any]) -> Any:
    return complex(node[1], node[2])


_BY_TAG: Final[dict[int, Callable[[Decoder, list[Any]], Any]]] = {
    tag.REFERENCE: _reference,
    tag.LIST: _list,
    tag.TUPLE: _tuple,
    tag.DICT: _dict,
    tag.SET: _set,
    tag.FROZENSET: _frozenset,
    tag.DEQUE: _deque,
    tag.DEQUE_OF: _deque_of,
    tag.COUNTER: _counter,
    tag.DEFAULTDICT: _defaultdict,
    tag.ORDEREDDICT: _ordereddict,
    tag.ARRAY: _array,
    tag.NUMBER: _number,
    tag.FLOAT64: _float64,
    tag.RANDOM: _random,
    tag.UNSEEDED: _unseeded,
    tag.RANDOMSTATE: _randomstate,
    tag.GENERATOR: _generator,
    tag.PARTIAL: _partial,
    tag.NAME: _name,
    tag.METHOD: _method,
    tag.BIGINT: _bigint,
    tag.DATETIME: _datetime,
    tag.DATE: _date,
    tag.TIMEDELTA: _timedelta,
    tag.RUST: _rust,
    tag.VECTOR: _vector,
    tag.ITERATOR: _iterator,
    tag.NAMEDTUPLE: _namedtuple,
    tag.COMPLEX: _complex,
    tag.ITEMGETTER: _itemgetter,
}


def _unknown(decoder: Decoder, node: list[Any]) -> Any:
    raise ValueError(f"no such tag: {node[0]!r}")


# A list, because indexing one is the cheapest dispatch; a negative tag is unknown as well.
_DECODERS: Final = [_BY_TAG.get(number, _unknown) for number in range(tag.OBJECT)]
