"""Negative controls: without one of the protections of rollbacks a campaign finds differences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from headrace.pipelines.broker import Broker
from tests.crash.campaign import Campaign
from tests.crash.commander import AgentFailedError
from tests.crash.life import RollbackProtection
from tests.crash.nursery import WorkerEndedError
from tests.crash.plan import rolling_control
from tests.crash.verdict import Verdict, judge

PROTECTIONS: tuple[RollbackProtection, ...] = get_args(RollbackProtection)
Verdicts = dict[RollbackProtection, Verdict]

CAMPAIGNS_MAX = 5
"""Tries to see what is missing: on a busy machine a kill may come when nothing is at stake."""

SIGNS: dict[RollbackProtection, Callable[[Verdict], bool]] = {
    "read-back": lambda verdict: any("says epoch" in found for found in verdict.differences),
    "settling": lambda verdict: verdict.rows_wrong > 0,
    "undo-first": lambda verdict: any("the undo" in found for found in verdict.differences),
    "manifest-first": lambda verdict: verdict.unkept > 0,
    "told-below": lambda verdict: verdict.told_again > 0,
}


@pytest.fixture(scope="module")
def verdicts(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The verdicts on short campaigns without each protection, run side by side: of each the first
    that shows that it is missing, else the last.
    """

    async def one(protection: RollbackProtection, directory: Path) -> Verdict:
        for number in range(CAMPAIGNS_MAX):
            plan = rolling_control(f"no-{protection}-{number}", protection)
            place = directory / str(number)
            place.mkdir()
            try:
                verdict = await judge(broker, await Campaign(plan, broker, place).run())
            except (WorkerEndedError, AgentFailedError, TimeoutError):  # it gave up before a sign
                if number == CAMPAIGNS_MAX - 1:
                    raise
                continue
            if SIGNS[protection](verdict):
                break
        return verdict

    async def every() -> list[Verdict]:
        directories = [tmp_path_factory.mktemp(protection) for protection in PROTECTIONS]
        return await asyncio.gather(*map(one, PROTECTIONS, directories))

    return dict(zip(PROTECTIONS, asyncio.run(every()), strict=True))


def test_a_rollback_before_its_effect_is_logged_counts_elsewhere(verdicts: Verdicts) -> None:
    """A crash in between, and the next worker logs a later position than the state has it."""
    assert SIGNS["read-back"](verdicts["read-back"])


def test_a_rollback_that_does_not_flush_loses_what_was_counted(verdicts: Verdicts) -> None:
    """The new state stands behind events that it knows nothing of."""
    assert SIGNS["settling"](verdicts["settling"])


def test_an_undo_taken_too_late_undoes_nothing(verdicts: Verdicts) -> None:
    """It goes back to the state that it was to take back."""
    assert SIGNS["undo-first"](verdicts["undo-first"])


def test_a_manifest_vouched_for_too_early_may_never_come(verdicts: Verdicts) -> None:
    """A crash in between and a lost disk: the catalogue names what is not there."""
    assert SIGNS["manifest-first"](verdicts["manifest-first"])


def test_a_restored_shard_that_does_not_look_decides_again(verdicts: Verdicts) -> None:
    """Decisions behind the snapshot are in their topic already, and come a second time."""
    assert SIGNS["told-below"](verdicts["told-below"])
