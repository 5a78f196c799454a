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
            note = f"{DAMAGED}; {done.note}" if done.note else DAMAGED
            done = replace(done, failed=fails[done.agent], note=note)
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


def test_an_undo_that_had_nothing_to_take_back_in_some_partition(
    run: Run, served: Served, fails: Fails
) -> None:
    """It is a success where the rollback held, and can be taken back there and nowhere else."""
    fails["card-fraud"] = 1
    assert run(*TO_BEFORE).exit_code == 1
    fails.clear()
    undone = run("undo", "card-fraud", "--yes")
    assert undone.exit_code == 0
    assert undone.stdout.splitlines() == [
        "took back r1 of card-fraud in 1 of 2 partitions to card-fraud.undo-r1 (revert, epoch 5)",
        "  counts from transactions[0]@90, transactions[1]@90",
        "  note: there was nothing to take back in 1 partition",
        f"  to take it back: `{program()} undo card-fraud r2 --address {served.target}`",
    ]
    assert "1/2, 1 left" in run("rollbacks", "card-fraud").stdout
    again = run("undo", "card-fraud", "r2", "--yes")
    assert (again.exit_code, "in 1 of 2 partitions" in again.stdout) == (0, True)
    assert "the figures below are of all partitions" in again.stderr


def test_an_undo_that_failed_wherever_there_was_something_to_take_back(
    run: Run, served: Served, fails: Fails
) -> None:
    """It has done nothing, so nothing takes it back; the rollback stands, and is what an undo
    without an id takes back.
    """
    fails["card-fraud"] = 1
    assert run(*TO_BEFORE).exit_code == 1
    failed = run("undo", "card-fraud", "--yes")
    again = f"{program()} undo card-fraud r1 --address {served.target}"
    assert failed.exit_code == 1
    assert failed.stdout.splitlines() == [
        "could not be done: r1 of card-fraud to card-fraud.undo-r1 (revert, epoch 5)",
        "  card-fraud goes on with the state that it had",
        f"  note: {DAMAGED}; there was nothing to take back in 1 partition",
        f"  when that is mended, ask again: `{again}`",
    ]
    assert "0/2, 1 failed, 1 left" in run("rollbacks", "card-fraud").stdout
    refused = run("undo", "card-fraud", "r2", "--yes")
    assert (refused.exit_code, "could be done in no partition" in refused.stderr) == (1, True)
    fails.clear()
    whole = run.json("undo", "card-fraud", "--yes")
    assert (whole["undoes"], whole["failed"], whole["left"]) == ("r1", 0, 1)


def test_an_undo_that_did_nothing_has_not_tried_in_part(run: Run, fails: Fails) -> None:
    """Once the one that did something is taken back, the rollback stands everywhere again."""
    assert run(*TO_BEFORE).exit_code == 0
    fails["card-fraud"] = 1
    for _ in range(2):
        assert run("undo", "card-fraud", "r1", "--yes").exit_code == 1
    fails.clear()
    assert run.json("undo", "card-fraud", "r2", "--yes")["left"] == 1
    whole = run("undo", "card-fraud", "r1", "--yes")
    assert whole.stdout.startswith("took back r1 of card-fraud to card-fraud.undo-r1 ")
    assert "the figures below are of all partitions" not in whole.stderr


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
