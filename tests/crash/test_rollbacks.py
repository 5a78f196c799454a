"""Workers are killed within rollbacks and while snapshots are published, and a disk is lost."""

from __future__ import annotations

from pathlib import Path

from headrace.pipelines.broker import Broker
from tests.crash.aims import OF_PUBLISHING, OF_ROLLBACK
from tests.crash.campaign import Campaign
from tests.crash.plan import rolling
from tests.crash.verdict import judge


async def test_kills_between_the_steps_of_a_rollback_cost_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """A kill at each point of a rollback and of publishing, then an empty disk: rows, decisions and
    snapshots are those of the offline fold, and no decision is sent again after the loss.
    """
    left = await Campaign(rolling("rolling", seed=1), broker, tmp_path).run()
    assert {ending for ending, count in left.kills.items() if count} >= {
        *OF_ROLLBACK,
        *OF_PUBLISHING,
    }
    verdict = await judge(broker, left)
    assert verdict.differences == []
    assert (verdict.told_again, verdict.unkept) == (0, 0)
    assert len(left.losses) == 1
    assert verdict.rollbacks > 8
    assert verdict.manifests > 16
