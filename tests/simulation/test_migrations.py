"""A worker is killed at every step of a migration, and what comes of it is all old or all new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from headrace.pipelines import control
from headrace.views import How, Partition
from tests.fold import oracles
from tests.fold.events import log
from tests.simulation.parts import Parts
from tests.simulation.plan import TOPIC, Plan
from tests.simulation.worker import WatchedShards
from tests.simulation.world import run

AT_S = 4.0
STEPS = range(1, 181, 4)
"""From where it says where it counts to the end of what follows, a migration takes 50 to 200 steps
of its worker.
"""


def migrating(how: How) -> Callable[[Plan], Plan]:
    """One agent that is flushed seldom and migrates once, a snapshot behind it."""

    def shape(plan: Plan) -> Plan:
        agent = oracles.forecast(
            agent="forecast-0", topic=TOPIC, state="flush_ms: 2000, flush_keys: 99, snapshot_s: 30"
        )
        rows = enumerate(log(plan.seed, 150, bad_share=0.1))
        return replace(
            plan,
            agents={"forecast-0": agent},
            records=(tuple((0.03 * number, row) for number, row in rows),),
            commands=(
                (0.0, "deploy", "forecast-0"),
                (1.0, "snapshot", "forecast-0"),
                (AT_S, "migrate", "forecast-0"),
            ),
            faults=(("crash", 1e9),),
            how=how,
        )

    return shape


class Doomed(WatchedShards):
    """The first worker dies so many steps after it has begun to say where a migration counts."""

    steps: ClassVar[int]

    async def log_effect(
        self, accepted: control.Accepted, partition: Partition, offset: int, failed: str = ""
    ) -> int:
        process = self._site.process  # type: ignore[attr-defined]
        if accepted.kind == "migrate" and process.name == "w0":
            process.dies_at = process.steps + self.steps
        return await super().log_effect(accepted, partition, offset, failed)


def dying_after(steps: int) -> Callable[[Parts], Parts]:
    """The change that makes the first worker die so."""
    doomed = type("Doomed", (Doomed,), {"steps": steps})
    return lambda parts: replace(parts, shards=doomed)


@pytest.mark.parametrize("how", ["reset", "keep", "from", "refold"])
def test_a_crash_at_any_step_leaves_all_of_one_spec(how: How) -> None:
    """Rows, decisions and their versions are the fold's, wherever the next worker has to begin."""
    crashes = 0
    for steps in STEPS:
        outcome = run(steps, dying_after(steps), migrating(how))
        assert outcome.problems == [], (how, steps)
        crashes += outcome.counts["crashes"] if outcome.counts.get("migrates") else 0
    assert crashes > 0.8 * len(STEPS)  # now and then the snapshot comes too late
