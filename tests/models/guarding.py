"""Specs, a good event and short forms for the tests of the guard."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headrace.models.guard import REASONS, Event, Guard, Refusal
from headrace.models.spec import load_spec

SPEC = load_spec("""
agent: card-fraud
source: {topic: transactions, key: $.card.id, time: $.at}
features:
  amount: {type: number, path: $.tx.amount, range: [0, 1e6]}
  balance: number
  hour: {type: number, range: [0, 24], missing: 12}
  merchant: {type: category, encode: hash, buckets: 32, missing: skip}
  country: {type: category, encode: onehot, missing: {value: unknown}}
  online: {type: boolean, missing: skip}
model: linear_model.LogisticRegression
label: {field: $.truth.fraud}
""")
GUARD = Guard(SPEC)
GOOD: dict[str, Any] = {
    "card": {"id": 42},
    "tx": {"amount": 9.5, "currency": "EUR"},
    "balance": -3,
    "hour": 23,
    "merchant": "corner shop",
    "country": "CH",
    "online": True,
    "at": "2023-11-14T22:13:20Z",
    "truth": {"fraud": 1},
    "not listed": [1, {"a": None}],
}
ADJUST = load_spec("""
agent: heaters
source: {topic: readings, key: $.id}
features: {T: number, q: {type: number, range: [0, 100]}}
model: linear_model.LinearRegression
label: {later: $.T, after: 30s, as: change}
decide: {adjust: {actuator: q, setpoint: $.want, range: [0, 100], cold: {value: 50}, safe: 0}}
""")
RANKER = load_spec("""
agent: top
source: {topic: ratings, key: $.user}
item: $.item
model: reco.BiasedMF
scope: shared
label: {field: $.stars, range: [1, 5]}
decide: {recommend: {candidates: $.shown, exclude: $.hidden}}
""")


class Rec(msgspec.Struct):
    """A record as the broker hands it over."""

    value: bytes | None
    key: bytes | None = b"42"
    offset: int = 7
    timestamp: int = 0


def admit(document: Any, key: bytes | None = b"42", guard: Guard = GUARD) -> Event | Refusal:
    """What the guard makes of a document, given as bytes or as data."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return guard.admit(Rec(raw, key))


def event(document: Any, key: bytes | None = b"42", guard: Guard = GUARD) -> Event:
    """The same where it must be an event."""
    admitted = admit(document, key, guard)
    assert isinstance(admitted, Event), admitted
    return admitted


def refused(document: Any, key: bytes | None = b"42", guard: Guard = GUARD) -> tuple[str, str]:
    """The same where it must be refused: code and path."""
    admitted = admit(document, key, guard)
    assert isinstance(admitted, Refusal), admitted
    assert admitted.code in REASONS
    assert admitted.offset == 7
    return admitted.code, admitted.path


def without(*path: str) -> dict[str, Any]:
    """The good event without a field."""
    document = json.loads(json.dumps(GOOD))
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return dict(document)
