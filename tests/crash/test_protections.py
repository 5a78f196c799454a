"""Negative controls: without one of the protections a campaign must find differences."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest

from headrace.pipelines.broker import Broker
from tests.crash.campaign import Campaign
from tests.crash.life import Protection
from tests.crash.plan import control
from tests.crash.verdict import Verdict, judge

PROTECTIONS: tuple[Protection, ...] = get_args(Protection)


@pytest.fixture(scope="module")
def verdicts(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> dict[Protection, Verdict]:
    """The verdicts on short campaigns without each protection, run side by side."""

    async def one(protection: Protection, directory: Path) -> Verdict:
        plan = control(f"no-{protection}", protection)
        return await judge(broker, await Campaign(plan, broker, directory).run())

    async def every() -> list[Verdict]:
        directories = [tmp_path_factory.mktemp(protection) for protection in PROTECTIONS]
        return await asyncio.gather(*map(one, PROTECTIONS, directories))

    return dict(zip(PROTECTIONS, asyncio.run(every()), strict=True))


def test_without_acknowledgement_decisions_are_lost(
    verdicts: dict[Protection, Verdict],
) -> None:
    """A flush that does not wait for Kafka: events whose state is durable have no decision."""
    assert verdicts["acknowledgement"].missing > 0


def test_without_the_skip_events_are_learned_twice(verdicts: dict[Protection, Verdict]) -> None:
    """A shard ahead of another of its partition learns again what comes again."""
    assert verdicts["skip"].contradictory > 0
    assert verdicts["skip"].rows_wrong > 0


def test_without_the_gap_guard_a_lost_chunk_is_lost(verdicts: dict[Protection, Verdict]) -> None:
    """Chunks that go missing between two others leave holes in decisions and state."""
    assert verdicts["gap-guard"].missing > 0


def test_without_quarantine_bad_events_are_learned(verdicts: dict[Protection, Verdict]) -> None:
    """Planted numbers outside their range reach models and decisions."""
    assert verdicts["quarantine"].unexpected > 0
    assert verdicts["quarantine"].escaped > 0
