"""Ids that are abbreviated or mistyped, before a small real backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.history import BEFORE
from tests.serving.world import view


@pytest.fixture
def served(served: Served, before: None) -> Served:
    """Two agents with a snapshot each."""
    served.world.views["heaters"] = view("heaters")
    served.world.snapshots.take("heaters", "winter", "named")
    return served


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


@pytest.mark.parametrize("text", ["before", "card-fraud.befor", "befor"])
@pytest.mark.parametrize(
    "words",
    [("rollback", "card-fraud", "--yes", "--to"), ("snapshot", "show"), ("snapshot", "pin")],
)
def test_a_snapshot_that_may_be_meant_is_named(run: Run, words: tuple[str, ...], text: str) -> None:
    """Where the agent's name was left out, too; nothing is done."""
    result = run(*words, text)
    assert result.exit_code == 1
    assert result.stderr.endswith(f"; did you mean {BEFORE}? (unknown_snapshot)\n")


def test_every_command_that_takes_an_id_does_so(run: Run, tmp_path: Path) -> None:
    """To remove, to export, to compare; a rollback means none of another agent's."""
    told = f"did you mean {BEFORE}?"
    assert told in run("snapshot", "diff", "befor").stderr
    assert told in run("snapshot", "rm", "befor", "--yes").stderr
    assert told in run("snapshot", "export", "befor", str(tmp_path / "a.tar")).stderr
    assert "did you" not in run("snapshot", "show", "card-fraud.sale-of-june").stderr
    assert "did you" not in run("rollback", "card-fraud", "--to", "winter", "--preview").stderr


def test_a_state_of_the_past_that_may_be_meant_is_named(run: Run, served: Served) -> None:
    """A number is an offset, a word a snapshot's name; nobody is asked."""
    asked = ("predict", "card-fraud", "4711", "--as-of")
    assert "did you mean offset:750?" in run(*asked, "750").stderr
    assert f"did you mean {BEFORE}?" in run(*asked, "before").stderr
    assert "did you mean" not in run(*asked, "2026-13-01").stderr
    assert served.world.past.asked == []


def test_a_rollback_is_known_by_how_its_id_begins(run: Run, served: Served) -> None:
    """If no other of the agent begins so; else the list is named."""
    done = served.world.rollbacks.views
    for control_id in ("a11ff5de", "a1200000"):
        assert run("rollback", "card-fraud", "--to", BEFORE, "--yes").exit_code == 0
        made = done.pop(next(id_ for id_ in done if id_.startswith("r")))
        done[control_id] = replace(made, control_id=control_id)
    listed = "; `headrace rollbacks card-fraud` lists them all"
    none = run("undo", "card-fraud", "x", "--yes")
    assert none.exit_code == 1
    assert f"card-fraud has no rollback 'x'{listed}" in none.stderr
    both = run("undo", "card-fraud", "a1", "--yes").stderr
    assert f"card-fraud has 2 rollbacks whose ids begin with 'a1'{listed}" in both
    assert run.json("undo", "card-fraud", "a11f", "--yes")["undoes"] == "a11ff5de"
