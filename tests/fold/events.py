"""Made-up events that fit every oracle, and bad ones among them; one seed, one log."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from tests.fold.oracles import COLUMNS

BEGAN_MS = 1_764_000_000_000


@dataclass(frozen=True)
class Row:
    """A record of a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def good(chance: random.Random, key: str) -> dict[str, Any]:
    """An event of a key. Some fields are now and then missing where that is allowed."""
    event: dict[str, Any] = {"k": key, "at": BEGAN_MS / 1000 + chance.randrange(10_000) / 100}
    for name in COLUMNS:
        event[name] = round(chance.random(), 4)
    event["y"] = event["v0"] + chance.gauss(0, 0.2) > event["v1"]
    event["land"] = chance.choice(["here", "there", "élan", 7, "far"])
    event["night"] = chance.random() < 0.3
    event["at_shop"] = {"name": f"shop {chance.randrange(30)}", "size": None}
    for name in ("y", "land", "night", "at_shop"):
        if chance.random() < 0.07:
            event[name] = None if chance.random() < 0.5 else event.pop(name) and None
    if chance.random() < 0.1:
        event["unread"] = chance.choice([[1, {"a": []}], 1e300, "text \U0001f600", {"k": "other"}])
    if key.isdigit() and chance.random() < 0.5:
        event["k"] = int(key)
    return event


def bad(chance: random.Random, key: str) -> tuple[bytes | None, bytes | None]:
    """Key and value of a record that at least one oracle refuses."""
    event = good(chance, key)
    field = chance.choice(("v0", "v1", "v2"))
    kind = chance.randrange(len(_SPOILS) + len(_RAW))
    if kind < len(_RAW):
        raw = json.dumps(event).encode()
        return _RAW[kind](key.encode(), raw, field.encode())
    spoil = _SPOILS[kind - len(_RAW)]
    event.update(spoil(event, field))
    return key.encode(), json.dumps(event).encode()


# What is wrong with one field, as far as JSON (with Python's NaN) can say it.
_SPOILS = (
    lambda event, field: {field: float("nan")},
    lambda event, field: {field: float("-inf")},
    lambda event, field: {field: "12"},
    lambda event, field: {field: True},
    lambda event, field: {field: None},
    lambda event, field: {field: [1.0]},
    lambda event, field: {field: 1e16},
    lambda event, field: {field: 10**30},
    lambda event, field: {field: 10**400},
    lambda event, field: {field: 3e6},
    lambda event, field: {field: -9e14},
    lambda event, field: {"y": 2, "land": ["x"]},
    lambda event, field: {"y": "true", "night": 1},
    lambda event, field: {"at": "yesterday"},
    lambda event, field: {"at": True},
    lambda event, field: {"at": 1e19},
    lambda event, field: {"at_shop": "corner"},
    lambda event, field: {"at_shop": {"name": "x" * 300}},
    lambda event, field: {"land": "\ud800"},
    lambda event, field: {"land": 10**20},
    lambda event, field: {"k": 1.5},
    lambda event, field: {"k": "another"},
    lambda event, field: {"k": ""},
    lambda event, field: {"k": "x" * 513},
    lambda event, field: {"unread": float("nan")},
)
# What is wrong with the bytes, or with the record's key: from key, value and a field's name.
_RAW = (
    lambda key, raw, field: (
        b"",
        raw.replace(b'"k": ' + json.dumps(key.decode()).encode(), b'"k": ""'),
    ),
    lambda key, raw, field: (key, None),
    lambda key, raw, field: (key, b""),
    lambda key, raw, field: (key, raw[:-1]),
    lambda key, raw, field: (key, raw + b"]"),
    lambda key, raw, field: (key, b"[" + raw + b"]"),
    lambda key, raw, field: (key, b"null"),
    lambda key, raw, field: (key, raw.replace(b'"land"', b'"la\xffnd"', 1)),
    lambda key, raw, field: (key, raw.replace(b"shop ", b"\xc3\x28 ", 1)),
    lambda key, raw, field: (key, raw[:-1] + b', "deep": ' + b"[" * 70 + b"]" * 70 + b"}"),
    lambda key, raw, field: (key, raw[:-1] + b', "deep": ' + b"[" * 63 + b"]" * 63 + b"}"),
    lambda key, raw, field: (key, raw[:-1] + b', "big": ' + b"9" * 5_000 + b"}"),
    lambda key, raw, field: (key, raw[:-1] + b', "' + field + b'": 1e999}'),
    lambda key, raw, field: (key, raw[:-1] + b', "' + field + b'": 0.25}'),
    lambda key, raw, field: (key, raw[:-1] + b', "wide": "' + b"x" * (1 << 20) + b'"}'),
    lambda key, raw, field: (None, raw),
    lambda key, raw, field: (b"", raw),
    lambda key, raw, field: (b"someone else", raw),
    lambda key, raw, field: (b"\xff\xfe", raw),
    lambda key, raw, field: (key, b"\xef\xbb\xbf" + raw),
    lambda key, raw, field: (key, b"\x00" * 40),
)


def stamps(chance: random.Random, count: int, every_ms: int = 100) -> list[int]:
    """Record timestamps: mostly rising, now and then late, missing or from the far future."""
    now, found = BEGAN_MS, []
    for _ in range(count):
        now += chance.choice((0, every_ms // 2, every_ms, 2 * every_ms))
        odd = chance.random()
        if odd < 0.02:
            found.append(4_102_444_800_000)
        elif odd < 0.04:
            found.append(-1)
        elif odd < 0.10:
            found.append(now - chance.randrange(20) * every_ms)
        else:
            found.append(now)
    return found


def log(seed: int, count: int, keys: int = 5, bad_share: float = 0.1) -> list[Row]:
    """A log of so many records; keys come in waves, so that some are away for long."""
    chance = random.Random(seed)
    names = [str(number) if number % 2 else f"kéy {number}" for number in range(keys)]
    rows = []
    for offset, stamp in enumerate(stamps(chance, count)):
        part = 2 * offset * keys // max(count, 1) % keys
        key = names[part] if chance.random() < 0.5 else chance.choice(names[: 1 + keys // 2])
        if chance.random() < bad_share:
            rows.append(Row(offset, stamp, *bad(chance, key)))
        else:
            value = json.dumps(good(chance, key)).encode()
            rows.append(Row(offset, stamp, key.encode(), value))
    return rows
