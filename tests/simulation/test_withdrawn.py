"""Worlds full of rollbacks, of undoes and of crashes: what is withdrawn, and what is told of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from headrace.pipelines import control
from headrace.pipelines.withdrawing import Withdrawing
from headrace.views import Partition
from tests.fold import oracles
from tests.fold.events import log
from tests.simulation.plan import TOPIC, Command, Fault, Plan, Verb
from tests.simulation.world import run

WORLDS = 40
VERBS: tuple[Verb, ...] = ("snapshot", "rollback", "rollback", "undo", "undo")


def rollbacks_and_undoes(plan: Plan) -> Plan:
    """One agent that goes back and forth while events come, in one partition or two, and whose
    worker crashes, loses its disk or loses its partitions; now and then it is deleted.
    """
    chance = random.Random(plan.seed)
    agent = oracles.fraud(
        agent="fraud-0", topic=TOPIC, state="flush_ms: 300, flush_keys: 9, snapshot_s: 1"
    )
    commands: list[Command] = [(0.0, "deploy", "fraud-0"), (0.9, "snapshot", "fraud-0")]
    at = 1.0
    for _ in range(8):
        at += 0.4 + 1.2 * chance.random()
        verb = chance.choice(VERBS)
        commands.append((at, verb, "fraud-0"))
    if chance.random() < 0.4:
        commands += [(at + chance.random(), "delete", "fraud-0"), (at + 1.2, "deploy", "fraud-0")]
    faults: list[Fault] = []
    for _ in range(4):
        steps, seconds = float(chance.randrange(150, 900)), 3 * chance.random()
        faults += chance.choices(
            [("crash", steps), ("loss", steps), ("rebalance", seconds), ("crash in a stop", 20.0)],
            (4, 2, 2, 1),
        )
    return replace(
        plan,
        agents={"fraud-0": agent},
        records=tuple(
            tuple((0.06 * n, row) for n, row in enumerate(log(plan.seed + part, 150)))
            for part in range(chance.choice((1, 2)))
        ),
        commands=tuple(sorted(commands)),
        faults=tuple(faults),
    )


def test_exactly_what_was_withdrawn_is_told_through_all_crashes() -> None:
    """None missing, none invented, in the order of the rollbacks; and the worlds have it all."""
    seen = Counter[str]()
    for seed in range(WORLDS):
        outcome = run(seed, shape=rollbacks_and_undoes)
        assert outcome.problems == [], seed
        seen.update(outcome.counts)
    early = "undos of what is not published"
    for name in (
        "decisions withdrawn",
        "decisions reinstated",
        "crashes",
        "undos",
        early,
        "deletes",
    ):
        assert seen[name] >= 1, name


class Forgetful(Withdrawing):
    """Does not do again what was not finished when it began."""

    _since = -1

    async def run(self) -> None:
        self._since = self._controls.registry.next_offset
        await super().run()

    def _may_publish(
        self, deployment: control.Deployment, accepted: control.Accepted, partition: Partition
    ) -> bool:
        begun = accepted.offset < self._since
        return not begun and super()._may_publish(deployment, accepted, partition)


class Hasty(Withdrawing):
    """Says that all is told before it is."""

    async def _acknowledged(self, records: list[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            self._site.sink.append(self._to, key, value)


class Early(Withdrawing):
    """Does not wait until the rollback is done, and all before it decided."""

    def _may_publish(
        self, deployment: control.Deployment, accepted: control.Accepted, partition: Partition
    ) -> bool:
        return (accepted.control_id, partition) in deployment.owed


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (Forgetful, "has not caught up"),
        (Hasty, "that it is complete"),
        (Early, "that it is complete"),
    ],
)
def test_what_keeps_it_exact_is_missed(
    monkeypatch: pytest.MonkeyPatch, broken: type[Withdrawing], told: str
) -> None:
    """To begin again, to wait for acknowledgements, to wait for the rollback."""
    monkeypatch.setattr("headrace.pipelines.background.Withdrawing", broken)
    others = range(WORLDS, 4 * WORLDS)  # it ends with the first in which it is missed
    worlds = (run(seed, shape=rollbacks_and_undoes) for seed in others)
    assert any(told in problem for world in worlds for problem in world.problems)
