"""The agents of the campaigns, as their specs and as the oracles of the fold, and their events.

All agents read one topic of four partitions, so that after a crash one of them can be ahead of the
others. Each planted bad event is one for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from river import linear_model, optim, preprocessing

from tests.fold.oracle import Field, Oracle, Truth, Verdicts

PARTITIONS = 4
KEYS = 120
FIRST_MS = 1_700_000_000_000
STEP_MS = 250
STATE = "{flush_ms: 120, flush_keys: 40, snapshot_s: 1}"
SELDOM = "{flush_ms: 120, flush_keys: 40}"  # a snapshot every 30 s, or by name
AMOUNT = Field(name="amount", path=("amount",), low=0, high=1000)


@dataclass(frozen=True)
class Sent:
    """An event as it is sent. `planted`: why it must be refused; empty for a good one."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    planted: str = ""


@dataclass(frozen=True)
class Agent:
    """An agent of a campaign: its name, its source topic, and what it means."""

    name: str
    topic: str
    oracle: Oracle

    @property
    def emit_topic(self) -> str:
        return f"{self.topic}.{self.name}"


def source(prefix: str) -> str:
    """The topic that the agents of a campaign read."""
    return f"{prefix}.payments"


def agents(prefix: str, names: Iterable[str]) -> tuple[Agent, ...]:
    """The agents of these names; `prefix` is of the campaign's topics."""
    topic = source(prefix)
    makers = {"fraud": fraud, "price": price, "trend": trend, "brief": brief}
    return tuple(Agent(name, topic, makers[name](topic)) for name in names)


def fraud(topic: str) -> Oracle:
    """A verdict on each payment."""
    return Oracle(
        spec=f"""
agent: fraud
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  amount: {{type: number, range: [0, 1000]}}
  hour: {{type: number, range: [0, 24]}}
model:
  - preprocessing.StandardScaler
  - linear_model.LogisticRegression: {{optimizer: {{optim.SGD: {{lr: 0.05}}}}}}
label: {{field: $.fraud, type: boolean}}
decide: {{verdict: {{block: 0.7, review: 0.4, else: allow}}}}
emit: {{topic: {topic}.fraud}}
state: {STATE}
""",
        make=lambda _key: (
            preprocessing.StandardScaler()
            | linear_model.LogisticRegression(optimizer=optim.SGD(0.05))
        ),
        kind="binary",
        key=("id",),
        features=(
            AMOUNT,
            Field(name="hour", path=("hour",), low=0, high=24),
        ),
        label=Truth(path=("fraud",), type="boolean"),
        decide=Verdicts(thresholds=(("block", 0.7), ("review", 0.4)), otherwise="allow"),
    )


def price(topic: str) -> Oracle:
    """The fee of a payment."""
    return Oracle(
        spec=f"""
agent: price
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  amount: {{type: number, range: [0, 1000]}}
model:
  - preprocessing.StandardScaler
  - linear_model.LinearRegression: {{optimizer: {{optim.SGD: {{lr: 0.02}}}}}}
label: {{field: $.fee, type: number}}
emit: {{topic: {topic}.price}}
state: {SELDOM}
""",
        make=lambda _key: (
            preprocessing.StandardScaler()
            | linear_model.LinearRegression(optimizer=optim.SGD(0.02))
        ),
        kind="regressor",
        key=("id",),
        features=(AMOUNT,),
        label=Truth(path=("fee",), type="number"),
    )


def trend(topic: str) -> Oracle:
    """By how much later fees will differ: labels wait, and waiting must be durable."""
    return Oracle(
        spec=f"""
agent: trend
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  amount: {{type: number, range: [0, 1000]}}
model:
  - preprocessing.StandardScaler
  - linear_model.LinearRegression: {{optimizer: {{optim.SGD: {{lr: 0.01}}}}}}
label: {{later: $.fee, after: 20s, as: change}}
emit: {{topic: {topic}.trend}}
state: {STATE}
""",
        make=lambda _key: (
            preprocessing.StandardScaler()
            | linear_model.LinearRegression(optimizer=optim.SGD(0.01))
        ),
        kind="regressor",
        key=("id",),
        features=(AMOUNT,),
        label=Truth(path=("fee",), type="number", later=True, after_ms=20_000, change=True),
    )


def brief(topic: str) -> Oracle:
    """The fee again, passive-aggressive: the agent that is deleted and deployed again."""
    return Oracle(
        spec=f"""
agent: brief
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  amount: {{type: number, range: [0, 1000]}}
model:
  - preprocessing.StandardScaler
  - linear_model.PARegressor: {{C: 0.1}}
label: {{field: $.fee, type: number}}
emit: {{topic: {topic}.brief}}
state: {STATE}
""",
        make=lambda _key: preprocessing.StandardScaler() | linear_model.PARegressor(C=0.1),
        kind="regressor",
        key=("id",),
        features=(AMOUNT,),
        label=Truth(path=("fee",), type="number"),
    )


def payment(number: int, chance: random.Random) -> Sent:
    """A payment; most frauds are large and late."""
    amount = round(chance.expovariate(1 / 60) % 1000, 2)
    hour = chance.randrange(24)
    odds = 0.6 if amount > 120 and hour > 18 else 0.05
    key = f"card-{chance.randrange(KEYS)}"
    body = {
        "id": key,
        "amount": amount,
        "hour": hour,
        "fraud": chance.random() < odds,
        "fee": round(amount / 8 + chance.gauss(0, 1), 3),
    }
    return Sent(key.encode(), msgspec.json.encode(body), FIRST_MS + STEP_MS * number)


def bad(event: Sent, chance: random.Random) -> Sent:
    """The event spoilt in one of the ways that every agent must refuse."""
    assert event.value is not None
    reason = chance.choice(sorted(SPOILING))
    key, value = SPOILING[reason](event, msgspec.json.decode(event.value))
    return Sent(key, value, event.timestamp_ms, reason)


_Spoilt = tuple[bytes | None, bytes | None]
SPOILING: dict[str, Callable[[Sent, dict[str, object]], _Spoilt]] = {
    "bad_json": lambda event, body: (event.key, b"{" + (event.value or b"")),
    "key_mismatch": lambda event, body: (b"nobody", event.value),
    "missing": lambda event, body: (event.key, msgspec.json.encode({**body, "amount": None})),
    "not_an_object": lambda event, body: (event.key, b"[1, 2]"),
    "null_value": lambda event, body: (event.key, None),
    "out_of_range": lambda event, body: (
        event.key,
        msgspec.json.encode({**body, "amount": 1003.5}),
    ),
    "wrong_type": lambda event, body: (event.key, msgspec.json.encode({**body, "amount": "much"})),
}
