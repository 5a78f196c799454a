"""How rollbacks are taken back, and when they cannot be, before a small real backend."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.cli.terminal import Terminal
from tests.serving.history import BEFORE
from tests.serving.world import World, view


@pytest.fixture
def world(served: Served) -> World:
    """Two agents; `card-fraud` has a snapshot, and was rolled back to it."""
    served.world.views["heaters"] = view("heaters")
    served.world.snapshots.take("card-fraud", "before", "named")
    assert Run(served.target)("rollback", "card-fraud", "--to", BEFORE, "--yes").exit_code == 0
    return served.world


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def test_an_undo_is_taken_back_by_its_id_alone(run: Run, world: World) -> None:
    """Where nothing else is left, the very command is told; it is the newest undo that stands. Once
    that is taken back, the rollback stands again, and is taken back without an id.
    """
    for last in ("r2", "r4"):
        assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r1"
        refused = run("undo", "card-fraud", "--yes")
        assert refused.exit_code == 1
        assert f"`headrace undo card-fraud {last}` takes back the last undo" in refused.stderr
        assert run("undo", "card-fraud", last, "--yes").exit_code == 0
    none = run("undo", "heaters", "--yes").stderr
    assert "heaters has no rollback that could be taken back; `headrace rollbacks heaters`" in none


def test_a_removal_says_what_cannot_be_taken_back_then(run: Run, world: World) -> None:
    """And that a snapshot is pinned, so that it was to be kept."""
    run("snapshot", "pin", BEFORE)
    pinned = run("snapshot", "rm", BEFORE, "--yes").stderr
    assert "it is pinned: somebody wants it kept, whatever its age\n" in pinned
    assert "taken back" not in pinned
    machine = run("snapshot", "rm", "card-fraud.undo-r1", "--yes", "--json").stderr
    assert json.loads(machine)["rollback"] == "r1"
    world.snapshots.take("card-fraud", "undo-r1", "undo")
    undo = run("snapshot", "rm", "card-fraud.undo-r1", "--yes").stderr
    assert undo.endswith("the rollback r1 can then not be taken back\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("undo", "nobody"), "nobody"),
        (("undo", "heaters"), "heaters has no rollback"),
        (("undo", "card-fraud", "x"), "no rollback 'x'"),
        (("rollback", "nobody", "--to", BEFORE), "nobody"),
        (("rollback", "card-fraud", "--to", "card-fraud.befor"), f"did you mean {BEFORE}?"),
        (("snapshot", "rm", "card-fraud.befor"), f"did you mean {BEFORE}?"),
        (("delete", "nobody"), "nobody"),
    ],
)
def test_names_are_looked_for_before_anybody_is_asked(
    run: Run, world: World, words: tuple[str, ...], told: str
) -> None:
    """What is not there is told, not that nobody could be asked; nor is the worker passed over."""
    found = run(*words)
    assert (found.exit_code, told in found.stderr, "--yes" in found.stderr) == (1, True, False)
    nowhere = Run("127.0.0.1:1")(*words).stderr
    assert "--yes" not in nowhere
    assert "127.0.0.1:1" in nowhere


@pytest.mark.parametrize(
    "words",
    [("undo", "card-fraud"), ("rollback", "card-fraud", "--to", BEFORE), ("delete", "heaters")],
)
def test_where_nobody_can_be_asked_it_takes_a_yes(
    run: Run, world: World, words: tuple[str, ...]
) -> None:
    """And nothing is done."""
    refused = run(*words)
    assert (refused.exit_code, "say --yes" in refused.stderr) == (2, True)
    assert len(world.rollbacks.views) == 1
    looks = "say --yes, or --preview, which only shows what would change"
    assert (looks in refused.stderr) == (words[0] != "delete")


def test_whoever_does_not_answer_has_changed_nothing(served: Served, world: World) -> None:
    """Ctrl-D at the question is a no, and is told as one, in a line of its own."""
    code, out, err = Terminal("delete", "heaters", "-a", served.target).answer("\x04")
    assert (code, out) == (1, "")
    assert err.endswith("[y/N]: \nnothing was changed\nAborted.\n")
    assert "heaters" in world.views
