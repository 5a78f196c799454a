"""The agents that a hostile afternoon is spent on, and the good events that it is spent between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from headrace.models.spec import Spec, load_spec

KEYS = 40


class Target(NamedTuple):
    """An agent's spec, its good events, and which fields must be there (paths of names)."""

    text: str
    good: Callable[[int], dict[str, Any]]
    numbers: tuple[tuple[str, ...], ...]  # required, within ±1e15
    texts: tuple[tuple[str, ...], ...]  # required, at most 256 characters
    key: tuple[str, ...]

    @property
    def spec(self) -> Spec:
        return load_spec(self.text)


def key_of(number: int) -> str:
    return f"k{number * number % KEYS}"


def _fraud(number: int) -> dict[str, Any]:
    return {
        "card": {"id": key_of(number)},
        "tx": {"amount": number % 97 * 10.5, "currency": "EUR"},
        "balance": number % 13 - 6,
        "merchant": f"shop {number % 7}",
        "online": number % 3 == 0,
        "at": 1_700_000_000 + number,
        "fraud": number % 5 == 0,
        "note": ["not", {"looked": "at"}],
    }


def _heater(number: int) -> dict[str, Any]:
    return {"id": key_of(number), "T": 20.0 + number % 9, "q": float(number % 100), "want": 25}


def _rating(number: int) -> dict[str, Any]:
    return {"user": key_of(number), "film": f"f{number % 23}", "stars": 1 + number % 5}


FRAUD = Target(
    """
agent: hostile-cards
source: {topic: hostile-cards, key: $.card.id, time: $.at, start: earliest}
features:
  amount: {type: number, path: $.tx.amount, range: [0, 1e6]}
  balance: number
  merchant: {type: category, encode: hash, buckets: 32}
  online: {type: boolean, missing: skip}
model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
label: {field: $.fraud}
decide: {verdict: {block: 0.9, else: allow}}
""",
    _fraud,
    numbers=(("tx", "amount"), ("balance",)),
    texts=(("merchant",),),
    key=("card", "id"),
)
HEATERS = Target(
    """
agent: hostile-heaters
source: {topic: hostile-heaters, key: $.id, start: earliest}
features: {T: number, q: {type: number, range: [0, 100]}}
model: [preprocessing.StandardScaler, linear_model.LinearRegression]
label: {later: $.T, after: 3s, as: change}
decide: {adjust: {actuator: q, setpoint: $.want, range: [0, 100], cold: {value: 50}, safe: 0}}
""",
    _heater,
    numbers=(("T",), ("q",), ("want",)),
    texts=(),
    key=("id",),
)
RATINGS = Target(
    """
agent: hostile-films
source: {topic: hostile-films, key: $.user, start: earliest}
item: $.film
model: {reco.BiasedMF: {n_factors: 4}}
scope: shared
label: {field: $.stars, range: [1, 5]}
decide: score
""",
    _rating,
    numbers=(),
    texts=(("film",),),
    key=("user",),
)
TARGETS = {"cards": FRAUD, "heaters": HEATERS, "films": RATINGS}


def raw(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)
