"""The events that are measured on: made from a seed, the same for everybody who is compared.

Each has a key, ten numbers and a truth that they say something about, as JSON of some 170 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

FEATURES = tuple(f"x{number}" for number in range(10))
PARTITIONS = 4
START_MS = 1_764_000_000_000
SEED = 20261125
MODEL = ("preprocessing.StandardScaler", "linear_model.LogisticRegression")


class Sent(NamedTuple):
    """An event as it lies in a topic."""

    key: bytes
    value: bytes


def zipf_keys(count: int, keys: int, seed: int = SEED) -> list[str]:
    """Names drawn by Zipf's law: the n-th of `keys` comes a n-th as often as the first.

    >>> drawn = zipf_keys(10_000, 100)
    >>> round(drawn.count("k0") / drawn.count("k9")), len(set(drawn))
    (10, 100)
    """
    shares = 1 / np.arange(1, keys + 1)
    drawn = np.random.default_rng(seed).choice(keys, size=count, p=shares / shares.sum())
    return [f"k{number}" for number in drawn]


def uniform_keys(count: int, keys: int, seed: int = SEED) -> list[str]:
    """Names of `keys`, each as likely as the others."""
    return [f"k{number}" for number in np.random.default_rng(seed).integers(keys, size=count)]


def each_key(keys: int, times: int) -> list[str]:
    """Every one of `keys` names so many times: all of them, and then all of them again."""
    return [f"k{number}" for _ in range(times) for number in range(keys)]


def events_for(keys: Sequence[str], seed: int = SEED) -> list[Sent]:
    """One event for each of the keys, in their order."""
    random = np.random.default_rng(seed + 1)
    numbers = random.normal(size=(len(keys), len(FEATURES))).round(4)
    scales = random.uniform(0.1, 50, size=len(FEATURES)).round(2)
    weights = random.normal(size=len(FEATURES))
    truths = numbers @ weights + random.normal(size=len(keys)) > 0
    events: list[Sent] = []
    rows = (numbers * scales).round(4).tolist()
    for key, row, truth in zip(keys, rows, truths.tolist(), strict=True):
        event = {"id": key, "y": truth, **dict(zip(FEATURES, row, strict=True))}
        events.append(Sent(key.encode(), msgspec.json.encode(event)))
    return events


def spec_for(agent: str, topic: str, **state: Any) -> bytes:
    """The agent that is measured: a scaler and a logistic regression per key, a verdict per event.

    `state`: bounds that differ from the defaults; the flush interval of one second is one of them.
    """
    spec = {
        "agent": agent,
        "source": {"topic": topic, "key": "$.id", "start": "earliest"},
        "features": {name: {"type": "number"} for name in FEATURES},
        "model": list(MODEL),
        "label": {"field": "$.y", "type": "boolean"},
        "decide": {"verdict": {"block": 0.9, "review": 0.6, "else": "allow"}},
        "state": state,
    }
    return msgspec.json.encode(spec)


def save(events: Sequence[Sent], path: Path) -> None:
    """Write events for a process that is started later."""
    path.write_bytes(msgspec.msgpack.encode(events))


def saved(path: Path) -> list[Sent]:
    """What `save` wrote."""
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Sent])
