"""What happens in a world, drawn from its seed before it begins."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from headrace.pipelines.catchup import FAR_RECORDS, Bounds
from headrace.views import How
from tests.fold import oracles
from tests.fold.events import Row, log
from tests.fold.oracle import Oracle
from tests.fold.versions import versions

TOPIC = "events"
RECORDS_MAX = 110  # of a partition in most worlds
LONG = 300  # in the others: log time is settled and keys expire
LAST_S = 6.0  # virtual seconds until the last record has come

# How a worker ends, and when: at a step of its life or of its stop, or after so many seconds.
# "loss": it crashes, and its disk is lost.
Fault = tuple[Literal["crash", "loss", "stop", "rebalance", "crash in a stop"], float]
Verb = Literal[
    "deploy", "pause", "resume", "delete", "snapshot", "rollback", "undo", "migrate", "forget"
]
Command = tuple[float, Verb, str]
Make = Callable[..., Oracle]

# How often a kind of agent lives in a world: the slow ones seldom.
KINDS: tuple[tuple[Make, int], ...] = (
    (oracles.fraud, 6),
    (oracles.forecast, 5),
    (oracles.visits, 5),
    (oracles.heating, 1),
    (oracles.strange, 1),
)


# How quickly each kind learns, as it is deployed.
RATES = {"fraud": 0.05, "forecast": 0.01, "visits": 0.1, "heating": 0.01}


@dataclass(frozen=True)
class Plan:
    """One world. `records`: per partition, each with the moment at which it comes; `agents`: as
    they are deployed; `how`: by which way all migrations go, if it is not left to chance;
    `bounds`: of the shards that learn apart.
    """

    seed: int
    agents: dict[str, Oracle]
    records: tuple[tuple[tuple[float, Row], ...], ...]
    commands: tuple[Command, ...]
    faults: tuple[Fault, ...]
    how: How | None = None
    bounds: Bounds = field(default_factory=Bounds)

    def versions(self, agent: str) -> tuple[Oracle, ...]:
        """The specs that the agent may have, the one that it is deployed with first."""
        oracle, rate = self.agents[agent], RATES.get(agent.partition("-")[0])
        return (oracle,) if rate is None else versions(oracle, rate)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(seed)
    long = chance.random() < 0.2
    partitions = 1 if long else chance.choice((1, 1, 2))
    agents = _agents(chance, 1 if long else chance.choice((1, 1, 2, 3)), long=long)
    count = LONG if long else chance.randrange(5, RECORDS_MAX)
    records = tuple(_records(chance, count) for _ in range(partitions))
    commands = [c for name in agents for c in _commands(chance, name)]
    faults = tuple(_fault(chance) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))))
    for name in agents:
        commands += _rollbacks(chance, name)
    for name in agents:
        commands += _migrations(chance, name)
    for name in agents:
        commands += _forgets(chance, name)
    plan = Plan(seed, agents, records, tuple(sorted(commands)), faults)
    return replace(plan, bounds=_bounds(chance))


def _agents(chance: random.Random, count: int, *, long: bool) -> dict[str, Oracle]:
    found = {}
    for number in range(count):
        kinds, weights = zip(*KINDS, strict=True)
        make = oracles.visits if long and number == 0 else chance.choices(kinds, weights)[0]
        name = f"{make.__name__}-{number}"
        limits = (
            f"flush_ms: {chance.choice((50, 300, 2000))}, flush_keys: {chance.choice((1, 3, 99))}"
        )
        limits += f", hot_keys_max: {chance.choice((1, 3, 100))}"
        limits += f", snapshot_s: {chance.choice((1, 2, 30))}"
        oracle = make(agent=name, topic=TOPIC, state=limits)
        if chance.random() < 0.15:
            oracle = replace(oracle, spec=oracle.spec.replace("start: earliest", "start: latest"))
        found[name] = oracle
    return found


def _records(chance: random.Random, count: int) -> tuple[tuple[float, Row], ...]:
    rows = log(chance.randrange(1 << 30), count, bad_share=chance.choice((0.0, 0.1, 0.3)))
    moments = sorted(chance.random() * LAST_S for _ in rows)
    if chance.random() < 0.3:  # all of them are there before anything runs
        moments = [0.0] * len(rows)
    return tuple(zip(moments, rows, strict=True))


def _commands(chance: random.Random, agent: str) -> list[Command]:
    found: list[Command] = [(chance.choice((0.0, 0.0, 1.0)), "deploy", agent)]
    at = chance.random()
    if chance.random() < 0.4:
        apart = chance.choice((0.1, 0.5, 2.0))
        for _ in range(chance.randrange(1, 6)):
            at += chance.random() * apart
            found.append((at, chance.choice(("pause", "resume")), agent))
    if chance.random() < 0.2:
        at += chance.random()
        found.append((at, "delete", agent))
        if chance.random() < 0.7:
            found.append((at + chance.choice((0.0, 0.5, 2.0)), "deploy", agent))
    return found


def _rollbacks(chance: random.Random, agent: str) -> list[Command]:
    """Snapshots by name, rollbacks and their undoing, at any time."""
    if chance.random() < 0.5:
        return []
    verbs: list[Verb] = ["snapshot"]
    verbs += [chance.choice(("snapshot", "rollback", "rollback", "undo")) for _ in range(4)]
    return [(chance.random() * (LAST_S + 1), verb, agent) for verb in verbs]


def _migrations(chance: random.Random, agent: str) -> list[Command]:
    """Other specs under the same name, now and then."""
    count = chance.choice((0, 0, 1, 2, 3))
    return [(chance.random() * (LAST_S + 1), "migrate", agent) for _ in range(count)]


def _forgets(chance: random.Random, agent: str) -> list[Command]:
    """Keys that are erased for good, at any time."""
    count = chance.choice((0, 0, 1, 2, 3))
    return [(chance.random() * (LAST_S + 1), "forget", agent) for _ in range(count)]


def _bounds(chance: random.Random) -> Bounds:
    far = chance.choice((2, 10, 30, FAR_RECORDS))
    return Bounds(far, chance.randrange(min(far, 20)), chance.choice((3, 500)))


def _fault(chance: random.Random) -> Fault:
    kind = chance.random()
    if kind < 0.6:
        step = float(
            int(10 ** (1 + 2.7 * chance.random()))
        )  # it crashes at its step of this number
        return "loss" if chance.random() < 0.2 else "crash", step
    if kind < 0.75:
        return "crash in a stop", float(chance.randrange(1, 60))
    if kind < 0.88:
        return "stop", chance.random() * 3
    return "rebalance", chance.random() * 3
