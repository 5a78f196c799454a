"""Which rollback `headrace undo` takes back, before a small real backend."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.history import BEFORE
from tests.serving.world import World


@pytest.fixture
def world(served: Served) -> World:
    """`card-fraud` has a snapshot named `before`."""
    served.world.snapshots.take("card-fraud", "before", "named")
    return served.world


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def test_what_is_undone_itself_undoes_nothing(run: Run, world: World) -> None:
    """So the rollback that such an undo had taken back is again the last one that stands; one that
    could be done nowhere does not stand, and takes nothing back.
    """
    for _ in range(2):
        run("rollback", "card-fraud", "--to", BEFORE, "--yes")
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r2"
    assert run.json("undo", "card-fraud", "r3", "--yes")["undoes"] == "r3"
    listed = run("rollbacks", "card-fraud").stdout
    assert "taken back by r4" in listed
    assert "taken back by r3" not in listed
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r2"
    world.rollbacks.views["r5"] = replace(world.rollbacks.views["r5"], failed=2)
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r2"
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r1"
    none = run("undo", "card-fraud", "--yes")
    assert "`headrace undo card-fraud r7` takes back the last undo" in none.stderr
    world.snapshots.expired.add("card-fraud.undo-r7")
    none = run("undo", "card-fraud", "--yes")
    assert (
        "the last undo cannot be: the snapshot of what it replaced has been removed" in none.stderr
    )


@pytest.mark.usefixtures("world")
def test_what_was_taken_back_is_not_taken_back_again(run: Run) -> None:
    """Nobody is asked: it is said what took it back, and how that is taken back."""
    run("rollback", "card-fraud", "--to", BEFORE, "--key", "a", "--yes")
    undone = run("undo", "card-fraud", "r1", "--yes")
    assert f"takes back rollback r1: revert of 1 key to {BEFORE}, epoch 4" in undone.stderr
    again = run("undo", "card-fraud", "r1", "--yes")
    assert again.exit_code == 1
    assert again.stderr == (
        "error: rollback r1 was taken back by r2 already; `headrace undo card-fraud r2` takes that"
        " back (not_standing)\n"
    )
