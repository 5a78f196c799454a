"""Asking the past and verifying decisions on the command line, before a small real backend."""

from __future__ import annotations

import msgspec
import pytest

from headrace.views import AsOf, Verification
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.past import CONFIRMED
from tests.serving.world import World


@pytest.fixture
def world(served: Served) -> World:
    return served.world


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("card-fraud.before-sale", AsOf(snapshot_id="card-fraud.before-sale")),
        ("offset:41", AsOf(offset=41)),
        ("2023-11-14T22:13:20Z", AsOf(time_ms=1_700_000_000_000)),
    ],
)
def test_a_prediction_as_of_a_state(run: Run, world: World, text: str, state: AsOf) -> None:
    """By a snapshot, an offset, or a time; the answer is shown as any other."""
    found = run.json("predict", "card-fraud", "4711", "--as-of", text)
    assert world.past.asked == [state]
    assert (found["score"], found["standing"]["offset"]) == (0.95, state.offset or 0)
    shown = run("predict", "card-fraud", "4711", "--as-of", text).stdout
    assert shown.endswith("12 updates; as it was; 3 records have come since\n")


@pytest.mark.parametrize("text", ["before-sale", "offset:-1", "offset:x", "heaters.first"])
def test_what_names_no_state_is_told_how_to(run: Run, world: World, text: str) -> None:
    """Before anybody is asked."""
    result = run("predict", "card-fraud", "4711", "--as-of", text)
    assert result.exit_code == 2
    assert "offset:N" in result.stderr
    assert world.past.asked == []


def test_a_confirmed_decision(run: Run, world: World) -> None:
    """It says from what it was made again, and exits with 0."""
    result = run("verify", CONFIRMED.decision_id)
    assert result.exit_code == 0
    assert result.stdout == (
        f"confirmed {CONFIRMED.decision_id}\n"
        "  made again from card-fraud.before and 12 events\n"
        "  note: rollback r1 to card-fraud.before has withdrawn it since\n"
    )
    found = run.json("verify", CONFIRMED.decision_id)
    assert msgspec.convert(found, Verification) == CONFIRMED


def test_a_contradicted_record(run: Run, world: World) -> None:
    """Each field that differs is a line, and the exit code says it to a script."""
    result = run("verify", '{"score": 0.25}')
    assert result.exit_code == 1
    assert result.stdout.startswith("contradicted ")
    rows = [line.split() for line in result.stdout.splitlines()[2:]]
    assert rows == [
        ["field", "found", "expected"],
        ["more", "1", "–"],
        ["score", "0.25", "0.5"],
    ]


def test_a_record_that_cannot_be_verified(run: Run, world: World) -> None:
    """The code by which the page says what that means stands behind it."""
    result = run("verify", "{}")
    assert result.exit_code == 1
    assert result.stdout == f"unverifiable {CONFIRMED.decision_id} (void)\n  why\n"


def test_records_from_a_pipe(run: Run, world: World) -> None:
    """One a line, as `watch decisions --json` writes them; one that fails is enough for 1."""
    result = run("verify", "-", stdin='{"score": 0.5}\n\n{"score": 0.5}\n')
    assert (result.exit_code, result.stdout.count("confirmed card-fraud")) == (0, 2)
    assert result.stdout.endswith("\n2 confirmed, 0 contradicted, 0 unverifiable\n")
    result = run("verify", "-", "--json", stdin='{"score": 0.5}\n{}\n')
    assert result.exit_code == 1
    assert result.stderr == "1 confirmed, 0 contradicted, 1 unverifiable\n"
    verdicts = [msgspec.json.decode(line)["verdict"] for line in result.stdout.splitlines()]
    assert verdicts == ["confirmed", "unverifiable"]


@pytest.mark.parametrize("nothing", ["", "\n", " \n\n"])
def test_no_record_from_a_pipe_confirms_nothing(run: Run, nothing: str) -> None:
    """A script whose `grep` has found nothing must not take that for confirmed."""
    result = run("verify", "-", stdin=nothing)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no record came in: nothing was verified\n"


def test_a_decision_that_is_not_there(run: Run, world: World) -> None:
    """Its topic does not have it."""
    result = run("verify", "card-fraud/3/transactions/0/18")
    assert result.exit_code == 1
    assert "no decision" in result.stderr
    known = run("agents", "card-frod").stderr
    assert run("verify", "card-frod/1/transactions/0/17").stderr == known
