"""Rollbacks and undos that fail, everywhere or in some partitions, before a small real backend."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from headrace.cli.program import program
from headrace.views import RollbackView
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.history import BEFORE
from tests.serving.world import World, view

SINCE = "2023-11-14T23:00Z"  # after all snapshots of the backend
TO_BEFORE = ("rollback", "card-fraud", "--to", BEFORE, "--yes")
DAMAGED = f"not done in transactions[1]: snapshot '{BEFORE}' is damaged"
Fails = dict[str, int]
"""In how many of its two partitions what is begun fails, by agent."""


@pytest.fixture
def world(served: Served) -> World:
    """Two agents with a snapshot each."""
    served.world.views["heaters"] = view("heaters")
    served.world.snapshots.take("card-fraud", "before", "named")
    served.world.snapshots.take("heaters", "early", "named")
    return served.world


@pytest.fixture
def fails(world: World, monkeypatch: pytest.MonkeyPatch) -> Fails:
    """What fails there from now on: nothing yet. What an undo has failed to take back stands."""
    fails: Fails = {}
    begin = world.rollbacks._begin

    def begun(*given: Any, **more: Any) -> RollbackView:
        done = begin(*given, **more)
        if done.agent in fails:
            done = replace(done, failed=fails[done.agent], note=DAMAGED)
            world.rollbacks.views[done.control_id] = done
        return done

    monkeypatch.setattr(world.rollbacks, "_begin", begun)
    return fails


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def test_a_rollback_that_failed_everywhere_is_no_success(
    run: Run, served: Served, fails: Fails
) -> None:
    """It says why, what there is to do, and no undo, which would be refused."""
    fails["card-fraud"] = 2
    result = run(*TO_BEFORE)
    others = f"{program()} snapshot ls card-fraud --address {served.target}"
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"could not be done: card-fraud to {BEFORE} (revert, epoch 4)",
        "  card-fraud goes on with the state that it had",
        f"  note: {DAMAGED}",
        f"  mend that and ask again, or take another snapshot: `{others}`",
    ]
    assert "0/2, 2 failed" in run("rollbacks", "card-fraud").stdout


def test_a_rollback_that_failed_in_some_partition_says_in_how_many_it_is_done(
    run: Run, served: Served, fails: Fails
) -> None:
    """What it did can be taken back; the undo says that its figures are of too much."""
    fails["card-fraud"] = 1
    result = run(*TO_BEFORE)
    others = f"{program()} snapshot ls card-fraud --address {served.target}"
    undo = f"{program()} undo card-fraud r1 --address {served.target}"
    mend = "mend that and ask again, or take another snapshot"
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"done in 1 of 2 partitions: card-fraud to {BEFORE} (revert, epoch 4)",
        "  counts from transactions[0]@90, transactions[1]@90",
        f"  note: {DAMAGED}",
        f"  those partitions go on as they were; {mend}: `{others}`",
        f"  to take it back: `{undo}`",
    ]
    assert "1/2, 1 failed" in run("rollbacks", "card-fraud").stdout
    fails.clear()
    undone = run("undo", "card-fraud", "--yes")
    assert undone.exit_code == 0
    assert "the figures below are of all partitions" in undone.stderr


@pytest.mark.parametrize("which", [(), ("r1",)])
def test_an_undo_that_failed_in_some_partition_is_asked_for_again(
    run: Run, served: Served, fails: Fails, which: tuple[str, ...]
) -> None:
    """By the command that it prints, or without an id; when it is done everywhere no more."""
    assert run(*TO_BEFORE).exit_code == 0
    fails["card-fraud"] = 1
    part = run("undo", "card-fraud", "--yes")
    again = f"{program()} undo card-fraud r1 --address {served.target}"
    assert part.exit_code == 1
    assert part.stdout.startswith("done in 1 of 2 partitions: r1 of card-fraud to card-fraud.undo")
    assert part.stdout.splitlines()[2:] == [
        f"  note: {DAMAGED}",
        f"  when that is mended, ask again: `{again}`; where it is done, that changes nothing",
        f"  to take it back: `{program()} undo card-fraud r2 --address {served.target}`",
    ]
    fails.clear()
    whole = run("undo", "card-fraud", *which, "--yes")
    assert (whole.exit_code, "took back r1 of card-fraud" in whole.stdout) == (0, True)
    assert "the figures below are of all partitions" in whole.stderr
    refused = run("undo", "card-fraud", *which, "--yes")
    assert (refused.exit_code, "taken back" in refused.stderr) == (1, True)


def test_an_undo_that_failed_everywhere_took_nothing_back(run: Run, fails: Fails) -> None:
    """The rollback stands as before, so it is asked for again."""
    assert run(*TO_BEFORE).exit_code == 0
    fails["card-fraud"] = 2
    failed = run("undo", "card-fraud", "--yes")
    assert failed.exit_code == 1
    assert failed.stdout.startswith("could not be done: r1 of card-fraud to card-fraud.undo-r1 ")
    assert "`; where" not in failed.stdout
    assert "undo card-fraud r2" not in failed.stdout
    fails.clear()
    assert run.json("undo", "card-fraud", "--yes")["undoes"] == "r1"


def test_a_failure_is_told_to_machines(run: Run, fails: Fails) -> None:
    """By the exit code, and by how many partitions have failed."""
    fails["card-fraud"] = 1
    result = run(*TO_BEFORE, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["failed"], found["note"]) == (1, 1, DAMAGED)
    result = run("rollback", "--all", "--before", SINCE, "--yes", "--json")
    first, second = (each["rollback"] for each in json.loads(result.stdout))
    assert (result.exit_code, first["failed"], second["failed"]) == (1, 1, 0)


def test_of_all_agents_it_says_which_have_failed(run: Run, fails: Fails) -> None:
    """Each in its place, and all together at the end; the others are rolled back."""
    fails |= {"card-fraud": 1, "heaters": 2}
    result = run("rollback", "--all", "--before", SINCE, "--yes")
    assert result.exit_code == 1
    assert f"done in 1 of 2 partitions: card-fraud to {BEFORE}" in result.stdout
    assert "could not be done: heaters to heaters.early" in result.stdout
    assert result.stderr.endswith(
        "error: 2 of 2 agents could not be rolled back everywhere: card-fraud (1 of 2 partitions),"
        " heaters (2 of 2 partitions)\n"
    )
    del fails["card-fraud"]
    result = run("rollback", "--all", "--before", SINCE, "--yes")
    assert f"rolled back card-fraud to {BEFORE}" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "error: 1 of 2 agents could not be rolled back everywhere: heaters (2 of 2 partitions)"
    )


def test_a_key_that_nobody_knows_is_told_above_the_figures(run: Run, world: World) -> None:
    """They are of a mistake then; other notes stand below the figures that they explain."""
    world.rollbacks.note = "no state has a key 'a'; the events are those of all keys"
    keyed = run("rollback", "card-fraud", "--to", BEFORE, "--key", "a", "--preview").stdout
    assert keyed.splitlines()[0] == f"note: {world.rollbacks.note}"
    whole = run("rollback", "card-fraud", "--to", BEFORE, "--preview").stdout
    assert whole.splitlines()[-1] == f"note: {world.rollbacks.note}"
    assert keyed.count("note:") == whole.count("note:") == 1
