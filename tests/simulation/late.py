"""Worlds in which agents come late, and what takes protections of their catching up away."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, cast

from headrace.pipelines.catchup import Bounds
from headrace.pipelines.shard import Shard
from tests.fold import oracles
from tests.fold.events import log
from tests.simulation.parts import Parts
from tests.simulation.plan import TOPIC, Command, Fault, Plan, Verb
from tests.simulation.worker import SimWorker, WatchedCatchUp

LATE = "forecast-1"
VERBS: tuple[Verb, ...] = (
    "pause", "resume", "snapshot", "rollback", "undo", "migrate", "forget", "delete",
)  # fmt: skip


def late(plan: Plan) -> Plan:
    """Two agents that come late to a topic in which there is an event every 30 ms."""
    chance = random.Random(plan.seed)
    limits = f"flush_ms: {chance.choice((50, 300, 2000))}, flush_keys: {chance.choice((3, 99))}"
    limits += f", snapshot_s: {chance.choice((1, 2))}"
    agents = {
        name: make(agent=name, topic=TOPIC, state=limits)
        for name, make in (
            ("visits-0", oracles.visits),
            (LATE, oracles.forecast),
            ("fraud-2", oracles.fraud),
        )
    }
    rows = enumerate(log(plan.seed, 150, bad_share=0.1))
    return replace(
        plan,
        agents=agents,
        records=(tuple((0.03 * number, row) for number, row in rows),),
        commands=((0.0, "deploy", "visits-0"), (2.5, "deploy", LATE), (3.0, "deploy", "fraud-2")),
        faults=(("crash", 1e9),),
        bounds=Bounds(10, chance.randrange(10), 3),
    )


def commanded(plan: Plan) -> Plan:
    """The same, and somebody wants something of them while they catch up."""
    chance = random.Random(plan.seed + 1)
    shaped = late(plan)
    told: list[Command] = []
    for _ in range(8):
        verb, at = chance.choice(VERBS), 2.5 + 1.5 * chance.random()
        told.append((at, verb, LATE))
        if verb == "delete":
            told.append((at + chance.random(), "deploy", LATE))
    faults: list[Fault] = [
        (chance.choice(("crash", "loss")), float(chance.randrange(600, 1_600))) for _ in range(2)
    ]
    faults += [("rebalance", 0.5 * chance.random())]
    return replace(shaped, commands=tuple(sorted([*shaped.commands, *told])), faults=tuple(faults))


class Doomed(WatchedCatchUp):
    """The first worker dies so many steps after a shard has begun to learn apart."""

    steps: ClassVar[int]

    async def _learn_apart(self, shard: Shard) -> None:
        process = cast(SimWorker, self._host).process
        if process.name == "w0" and process.dies_at is not None and process.dies_at > 1e8:
            process.dies_at = process.steps + self.steps
        await super()._learn_apart(shard)


def dying_after(steps: int) -> Callable[[Parts], Parts]:
    """The change that makes the first worker die so."""
    doomed = type("Doomed", (Doomed,), {"steps": steps})
    return lambda parts: replace(parts, catch_up=doomed)


class Early(WatchedCatchUp):
    """A shard that joins leaves out a record that it lacks."""

    async def _join(self, shard: Shard) -> None:
        shard.next_offset += 1
        await super()._join(shard)


class Late(WatchedCatchUp):
    """A shard that joins is read a record for that it has learned."""

    async def _join(self, shard: Shard) -> None:
        shard.next_offset -= 1
        await super()._join(shard)


class Silent(WatchedCatchUp):
    """A shard joins, and the stream is not told."""

    async def _join(self, shard: Shard) -> None:
        shard.apart = False


def joining(catch_up: type[WatchedCatchUp]) -> Callable[[Parts], Parts]:
    """The change that makes shards join so."""
    return lambda parts: replace(parts, catch_up=catch_up)
