"""Workers are killed, SIGTERMed, restarted: in the end everything is what the fold says."""

from __future__ import annotations

from pathlib import Path

from headrace.pipelines.broker import Broker
from tests.crash.aims import OF_FLUSH
from tests.crash.campaign import Campaign
from tests.crash.plan import short
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
        *OF_FLUSH,
        "random",
        "sigterm",
    }
    verdict = await judge(broker, left)
    assert verdict.differences == []
    assert (verdict.missing, verdict.unexpected, verdict.contradictory) == (0, 0, 0)
    assert verdict.keys > 300
    assert verdict.planted > 20
