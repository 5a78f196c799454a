"""Ways to make a good event bad. Each result is bad by how it is made, whatever a guard thinks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.hostile.fuzzer import Fuzzer
from tests.hostile.targets import Target, raw

DEEPEST = 64  # levels that an event may be nested
LARGEST = 1 << 20  # bytes that an event may have


class Bad(NamedTuple):
    """A bad event as a producer would send it."""

    how: str
    key: bytes | None
    value: bytes | None


class Patient(NamedTuple):
    """A good event that is about to be made bad."""

    target: Target
    document: dict[str, Any]
    key: bytes
    chance: Random

    def put(self, path: tuple[str, ...], value: Any) -> bytes:
        """The event with another value at the path."""
        inner = self.document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        return _json(self.document)

    def required(self) -> tuple[str, ...]:
        return self.chance.choice(self.target.numbers + self.target.texts)


Wound = Callable[[Patient], bytes | None]


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _gone(patient: Patient) -> bytes:
    path = patient.required()
    inner = patient.document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return _json(patient.document)


def _wrong_type(patient: Patient) -> bytes:
    path = patient.required()
    values: list[Any] = [None, True, [], {}, [1], {"a": 1}, [[]], False]
    values += ["1", "", "NaN"] if path in patient.target.numbers else [1.5, -0.0, 1e300]
    return patient.put(path, patient.chance.choice(values))


def _not_finite(patient: Patient) -> bytes:
    path = patient.required()
    text = patient.put(path, "@@")
    number = patient.chance.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e400"])
    return text.replace(b'"@@"', number)


def _out_of_range(patient: Patient) -> bytes:
    numbers = patient.target.numbers
    path = patient.chance.choice(numbers) if numbers else patient.target.texts[0]
    return patient.put(path, patient.chance.choice([1e16, -1e16, 10**30, -(10**300), 1e308, 2**64]))


def _too_long(patient: Patient) -> bytes:
    long = patient.chance.choice(["x" * 257, "é" * 300, "\u0000" * 5000, "𝄞" * 1000])
    paths = patient.target.texts
    if not paths:
        return patient.put(patient.target.key, "x" * patient.chance.choice([513, 5000]))
    return patient.put(patient.chance.choice(paths), long)


def _surrogate(patient: Patient) -> bytes:
    path = patient.chance.choice((patient.target.key, *patient.target.texts))
    return patient.put(path, "half \ud83d")


def _other_key(patient: Patient) -> bytes:
    values: list[Any] = [None, True, 1.0, [], {}, "", "nobody", -1, 10**25, "k1 ", "\u0000"]
    return patient.put(patient.target.key, patient.chance.choice(values))


def _no_object(patient: Patient) -> bytes:
    values: list[Any] = [None, True, 0, -1.5, "text", [], [patient.document], [[[1]]]]
    return _json(patient.chance.choice(values))


def _torn(patient: Patient) -> bytes:
    text = raw(patient.document)
    return text[: patient.chance.randrange(len(text))]


def _no_json(patient: Patient) -> bytes:
    text = raw(patient.document)
    kind = patient.chance.randrange(7)
    if kind == 0:
        return text.replace(b'"', b"'")
    if kind == 1:
        return text[:-1] + b",}"
    if kind == 2:
        return b"\xef\xbb\xbf" + text
    if kind == 3:
        return text + patient.chance.choice([b"}", b"{}", b"x", b"\x00", text])
    if kind == 4:
        return b"// " + text
    number = patient.chance.choice([b"01", b"+1", b".5", b"1.", b"0x10", b"1_000", b"1e", b"--1"])
    return patient.put(("odd",), "@@").replace(b'"@@"', number)


def _no_utf8(patient: Patient) -> bytes:
    text = bytearray(raw(patient.document))
    at = text.index(b'"') + 1
    text[at:at] = patient.chance.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5", b"\x80"])
    return bytes(text)


def _deep(patient: Patient) -> bytes:
    depth = patient.chance.choice([DEEPEST, 200, 5_000])
    begin, end = patient.chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    deep = begin * depth + b"1" + end * depth
    return patient.put(("deep",), "@@").replace(b'"@@"', deep)


def _noise(patient: Patient) -> bytes:
    return b"\x00" + patient.chance.randbytes(patient.chance.choice([0, 1, 20, 300, 4000]))


def _large(patient: Patient) -> bytes:
    return patient.put(("large",), "x" * LARGEST)


def _nothing(patient: Patient) -> bytes | None:
    return patient.chance.choice([None, b"", b" "])


WOUNDS: Mapping[str, Wound] = MappingProxyType(
    {
        wound.__name__.strip("_"): wound
        for wound in (
            _gone, _wrong_type, _not_finite, _out_of_range, _too_long, _surrogate, _other_key,
            _no_object, _torn, _no_json, _no_utf8, _deep, _noise, _nothing,
        )
    }
)  # fmt: skip
FOREIGN_KEYS = (None, b"", b"k1 ", b"\xff\xfe", b"nobody", b"K1", b"1" * 4000, b"\x00")
LARGE_EVERY = 2_000  # how rare the megabytes are: they cost a hundred times as much as the others


class Wounder:
    """Makes bad events of a target; the same seed makes the same ones."""

    def __init__(self, target: Target, seed: int | str) -> None:
        self._target = target
        self._fuzzer = Fuzzer(seed)
        self._made = 0

    def bad(self, number: int) -> Bad:
        """One bad event, made of the good one of that number."""
        chance = self._fuzzer.chance
        document = self._target.good(number)
        key = self._key(document)
        patient = Patient(self._target, document, key, chance)
        self._made += 1
        if self._made % LARGE_EVERY == 0:
            return Bad("large", key, _large(patient))
        how = chance.choice([*WOUNDS, "foreign_key"])
        if how == "foreign_key":
            return Bad(how, chance.choice(FOREIGN_KEYS), raw(document))
        return Bad(how, key, WOUNDS[how](patient))

    def spoilt(self, number: int) -> Bad:
        """A good event with faults in its bytes: it may be good still."""
        document = self._target.good(number)
        others = (raw(self._target.good(number + 1)),)
        return Bad("spoilt", self._key(document), self._fuzzer.spoil(raw(document), others))

    def _key(self, document: dict[str, Any]) -> bytes:
        value: Any = document
        for name in self._target.key:
            value = value[name]
        return str(value).encode()
