"""What is told of snapshots that outlive their agent, before a small real backend."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.history import BEFORE
from tests.serving.world import view

pytestmark = pytest.mark.usefixtures("before")


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against a server whose agent has one snapshot."""
    return Run(served.target)


def test_a_snapshot_of_a_former_life_is_marked(run: Run, served: Served) -> None:
    """In the list and on its card: nothing can be rolled back to it."""
    assert "former" not in run("snapshot", "ls").stdout
    kept = served.world.snapshots.views
    kept[BEFORE] = replace(kept[BEFORE], former=True)
    assert "named, former life" in run("snapshot", "ls").stdout
    card = run("snapshot", "show", BEFORE).stdout
    assert "kind        named, former life\n" in card
    assert "nothing can be rolled back to it" in card
    assert run.json("snapshot", "show", BEFORE)["former"] is True


def test_a_delete_says_which_snapshots_become_useless(run: Run, served: Served) -> None:
    """Imported ones do not: a later agent of that name can go back to them."""
    kept = served.world.snapshots
    kept.take("card-fraud", "second", "named")
    imported = kept.take("card-fraud", "third", "named")
    kept.views[imported.snapshot_id] = replace(imported, imported=True)
    machine = run("delete", "card-fraud", "--yes", "--json")
    assert json.loads(machine.stderr)["snapshots"] == 2
    served.world.views["card-fraud"] = view("card-fraud")
    text = run("delete", "card-fraud", "--yes").stderr
    assert (
        " 2 snapshots, but no later deploy can go back to them; a named one comes back if" in text
    )
    served.world.views["card-fraud"] = view("card-fraud")
    kept.views.clear()
    assert "go back" not in run("delete", "card-fraud", "--yes").stderr
