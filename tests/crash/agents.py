"""The agents of the campaigns, as their specs and as the oracles of the fold, and their events.

Two agents read each of two topics of four partitions, so that after a crash one of the two can be
ahead of the other. Each planted bad event is one for both agents of its topic.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
from river import linear_model, optim, preprocessing

from tests.fold.oracle import Field, Oracle, Truth, Verdicts

PARTITIONS = 4
KEYS = 120
FIRST_MS = 1_700_000_000_000
STEP_MS = 250
STATE = "{flush_ms: 120, flush_keys: 40}"


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


@dataclass(frozen=True)
class Stream:
    """A source topic: `event(number, chance)` makes its events."""

    topic: str
    event: Callable[[int, random.Random], Sent]


def agents(prefix: str, names: Iterable[str]) -> tuple[Agent, ...]:
    """The agents of these names; `prefix` is of the campaign's topics."""
    payments, readings = f"{prefix}.payments", f"{prefix}.readings"
    known = (
        Agent("fraud", payments, fraud(payments)),
        Agent("price", payments, price(payments)),
        Agent("warmth", readings, warmth(readings)),
        Agent("brief", readings, brief(readings)),
    )
    return tuple(agent for agent in known if agent.name in set(names))


def streams(agents: Iterable[Agent]) -> tuple[Stream, ...]:
    """The source topics of these agents."""
    events = {"payments": payment, "readings": reading}
    topics = sorted({agent.topic for agent in agents})
    return tuple(Stream(topic, events[topic.rpartition(".")[2]]) for topic in topics)


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
            Field(name="amount", path=("amount",), low=0, high=1000),
            Field(name="hour", path=("hour",), low=0, high=24),
        ),
        label=Truth(path=("fraud",), type="boolean"),
        decide=Verdicts(thresholds=(("block", 0.7), ("review", 0.4)), otherwise="allow"),
    )


def price(topic: str) -> Oracle:
    """The amount that a payment will have, from its hour; `amount` is guarded as a feature."""
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
state: {STATE}
""",
        make=lambda _key: (
            preprocessing.StandardScaler()
            | linear_model.LinearRegression(optimizer=optim.SGD(0.02))
        ),
        kind="regressor",
        key=("id",),
        features=(Field(name="amount", path=("amount",), low=0, high=1000),),
        label=Truth(path=("fee",), type="number"),
    )


def warmth(topic: str) -> Oracle:
    """By how much it will be warmer in two seconds: labels wait, and waiting must be durable."""
    return Oracle(
        spec=f"""
agent: warmth
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  power: {{type: number, range: [0, 100]}}
model:
  - preprocessing.StandardScaler
  - linear_model.LinearRegression: {{optimizer: {{optim.SGD: {{lr: 0.01}}}}}}
label: {{later: $.temp, after: 20s, as: change}}
decide: {{score: {{}}}}
emit: {{topic: {topic}.warmth}}
state: {STATE}
""",
        make=lambda _key: (
            preprocessing.StandardScaler()
            | linear_model.LinearRegression(optimizer=optim.SGD(0.01))
        ),
        kind="regressor",
        key=("id",),
        features=(Field(name="power", path=("power",), low=0, high=100),),
        label=Truth(path=("temp",), type="number", later=True, after_ms=20_000, change=True),
    )


def brief(topic: str) -> Oracle:
    """The temperature itself, passive-aggressive."""
    return Oracle(
        spec=f"""
agent: brief
source: {{topic: {topic}, key: $.id, start: earliest}}
features:
  power: {{type: number, range: [0, 100]}}
model:
  - preprocessing.StandardScaler
  - linear_model.PARegressor: {{C: 0.1}}
label: {{field: $.temp, type: number}}
emit: {{topic: {topic}.brief}}
state: {STATE}
""",
        make=lambda _key: preprocessing.StandardScaler() | linear_model.PARegressor(C=0.1),
        kind="regressor",
        key=("id",),
        features=(Field(name="power", path=("power",), low=0, high=100),),
        label=Truth(path=("temp",), type="number"),
    )


def payment(number: int, chance: random.Random) -> Sent:
    """A payment; most frauds are large and late."""
    amount = round(chance.expovariate(1 / 60) % 1000, 2)
    hour = chance.randrange(24)
    odds = 0.6 if amount > 120 and hour > 18 else 0.05
    body = {"amount": amount, "hour": hour, "fraud": chance.random() < odds, "fee": amount / 8}
    return _sent(number, f"card-{chance.randrange(KEYS)}", body)


def reading(number: int, chance: random.Random) -> Sent:
    """A heater's reading."""
    power = chance.randrange(101)
    body = {"power": power, "temp": round(20 + power / 3 + chance.gauss(0, 1), 3)}
    return _sent(number, f"heater-{chance.randrange(KEYS)}", body)


def bad(event: Sent, chance: random.Random) -> Sent:
    """The event spoilt in one of the ways that every agent must refuse."""
    assert event.value is not None
    body = msgspec.json.decode(event.value)
    number = "amount" if "amount" in body else "power"
    reason = chance.choice(sorted(SPOILING))
    key, value = SPOILING[reason](event, body, number)
    return Sent(key, value, event.timestamp_ms, reason)


_Spoilt = tuple[bytes | None, bytes | None]
SPOILING: dict[str, Callable[[Sent, Mapping[str, object], str], _Spoilt]] = {
    "bad_json": lambda event, body, number: (event.key, b"{" + (event.value or b"")),
    "key_mismatch": lambda event, body, number: (b"nobody", event.value),
    "missing": lambda event, body, number: (event.key, _json({**body, number: None})),
    "not_an_object": lambda event, body, number: (event.key, b"[1, 2]"),
    "null_value": lambda event, body, number: (event.key, None),
    "out_of_range": lambda event, body, number: (event.key, _json({**body, number: 1003.5})),
    "wrong_type": lambda event, body, number: (event.key, _json({**body, number: "much"})),
}


def _sent(number: int, key: str, body: Mapping[str, object]) -> Sent:
    return Sent(key.encode(), _json({"id": key, **body}), FIRST_MS + STEP_MS * number)


def _json(body: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(body)
