"""Workers are killed, SIGTERMed, restarted: in the end everything is what the fold says."""

from __future__ import annotations

from pathlib import Path

from headrace.pipelines.broker import Broker
from tests.crash.aims import POINTS, ROLLBACK_POINTS
from tests.crash.campaign import Campaign
from tests.crash.plan import rolled, short
from tests.crash.verdict import judge


async def test_kills_between_the_steps_of_a_flush_cost_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """A kill after the handing over, the acknowledgement, the write and the commit each, one at
    random and a SIGTERM, beside pause, resume, delete and deploy: all rows, decisions and
    quarantined events are those of the offline fold.
    """
    left = await Campaign(short("short", seed=3), broker, tmp_path).run()
    assert {ending for ending, count in left.kills.items() if count} >= {
        *POINTS,
        "random",
        "sigterm",
    }
    verdict = await judge(broker, left)
    assert verdict.differences == []
    assert (verdict.missing, verdict.unexpected, verdict.contradictory) == (0, 0, 0)
    assert verdict.keys > 300
    assert verdict.repeats > 0
    assert verdict.planted > 20


async def test_kills_inside_rollbacks_and_a_lost_disk_cost_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """A kill after the place of a rollback is logged, after what it replaces is kept, after the new
    state has its place, and before a snapshot is vouched for; then the disk is lost. All rows and
    decisions are those of the fold, which reads the rollbacks from the control log.
    """
    left = await Campaign(rolled("rolled", seed=3), broker, tmp_path).run()
    assert {ending for ending, count in left.kills.items() if count} >= {*ROLLBACK_POINTS, "random"}
    verdict = await judge(broker, left)
    assert verdict.differences == []
    assert (verdict.missing, verdict.unexpected, verdict.contradictory) == (0, 0, 0)
    assert verdict.keys > 300
