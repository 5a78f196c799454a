"""What previews say of decisions that were made, before a small real backend."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from headrace.cli.program import program
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.history import BEFORE

LOOK = ("rollback", "card-fraud", "--to", BEFORE, "--preview")


pytestmark = pytest.mark.usefixtures("before")


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against a server whose agent has one snapshot."""
    return Run(served.target)


def test_a_preview_tells_how_many_decisions_it_would_withdraw(run: Run, served: Served) -> None:
    """At most, and where to see them; nothing of what does not happen."""
    assert "decisions withdrawn" not in run(*LOOK).stdout
    served.world.rollbacks.fates = 600, 0
    text = run(*LOOK).stdout
    assert f"decisions withdrawn          up to 600 (`{program()} watch withdrawn`)" in text
    assert "reinstated" not in text
    served.world.rollbacks.fates = 0, 1_200
    assert "decisions reinstated         up to 1,200 (`" in run(*LOOK).stdout
    served.world.rollbacks.fates = 700, 0
    all_of_them = ("rollback", "--all", "--before", "2023-11-14T23:00Z", "--preview")
    assert "up to 700" in run(*all_of_them).stdout


def test_what_changes_no_key_withdraws_decisions_all_the_same(run: Run, served: Served) -> None:
    """They are told apart: the models, and what they had decided."""
    served.world.rollbacks.changed = 0
    served.world.rollbacks.fates = 600, 0
    same = "nothing differs: every key's model is as in the snapshot; decisions are withdrawn "
    assert run(*LOOK).stderr.startswith(same + "all the same\n")
    again = run(*LOOK, "--mode", "rewind").stderr
    assert again.startswith("nothing differs: every key's model is as it comes out again; ")


def test_of_an_imported_snapshot_nobody_knows_what_came_since(run: Run, served: Served) -> None:
    """It is of another log."""
    kept = served.world.snapshots.views
    kept[BEFORE] = replace(kept[BEFORE], imported=True)
    assert "events since then            not known (imported)" in run(*LOOK).stdout
