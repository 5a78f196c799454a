"""Negative controls: without one of the protections of rollbacks a campaign finds differences."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest

from headrace.pipelines.broker import Broker
from tests.crash.campaign import Campaign
from tests.crash.life import RollbackProtection
from tests.crash.plan import rolling_control
from tests.crash.verdict import Verdict, judge

PROTECTIONS: tuple[RollbackProtection, ...] = get_args(RollbackProtection)
Verdicts = dict[RollbackProtection, Verdict]


@pytest.fixture(scope="module")
def verdicts(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The verdicts on short campaigns without each protection, run side by side."""

    async def one(protection: RollbackProtection, directory: Path) -> Verdict:
        plan = rolling_control(f"no-{protection}", protection)
        return await judge(broker, await Campaign(plan, broker, directory).run())

    async def every() -> list[Verdict]:
        directories = [tmp_path_factory.mktemp(protection) for protection in PROTECTIONS]
        return await asyncio.gather(*map(one, PROTECTIONS, directories))

    return dict(zip(PROTECTIONS, asyncio.run(every()), strict=True))


def test_a_rollback_before_its_effect_is_logged_counts_elsewhere(verdicts: Verdicts) -> None:
    """A crash in between, and the next worker logs a later position than the state has it."""
    assert any("says epoch" in found for found in verdicts["read-back"].differences)


def test_a_rollback_that_does_not_flush_loses_what_was_counted(verdicts: Verdicts) -> None:
    """The new state stands behind events that it knows nothing of."""
    assert verdicts["settling"].rows_wrong > 0


def test_an_undo_taken_too_late_undoes_nothing(verdicts: Verdicts) -> None:
    """It goes back to the state that it was to take back."""
    assert any("the undo" in found for found in verdicts["undo-first"].differences)


def test_a_manifest_vouched_for_too_early_may_never_come(verdicts: Verdicts) -> None:
    """A crash in between and a lost disk: the catalogue names what is not there."""
    assert verdicts["manifest-first"].unkept > 0


def test_a_restored_shard_that_does_not_look_decides_again(verdicts: Verdicts) -> None:
    """Decisions behind the snapshot are in their topic already, and come a second time."""
    assert verdicts["told-below"].told_again > 0
