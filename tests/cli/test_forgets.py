"""Forgetting a key on the command line, before a small real backend."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.cli.terminal import Terminal


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def test_what_is_forgotten_unasked_is_shown_first(run: Run, served: Served) -> None:
    """The plan of --preview, on standard error; for machines in one line; then it is done."""
    plan = run("forget", "card-fraud", "4711", "--preview")
    assert plan.stderr == "nothing was erased\n"
    assert "the key is known here" in plan.stdout
    assert not served.world.forgets.asked
    done = run("forget", "card-fraud", "4711", "--yes")
    assert done.stderr == plan.stdout
    assert done.stdout.startswith("forgotten by card-fraud, control id")
    machine = run("forget", "card-fraud", "4711", "--yes", "--json")
    assert json.loads(machine.stderr)["preview"]["known"] is True
    assert json.loads(machine.stdout)["done"] is True
    assert served.world.forgets.asked == [("card-fraud", "4711")] * 2


def test_a_key_that_is_not_known_is_told_first(run: Run) -> None:
    """It may be mistyped, and all that goes goes all the same: what can be undone, too."""
    first, second, *plan = run("forget", "card-fraud", "zzz", "--preview").stdout.splitlines()
    assert first == "the key is not known here: perhaps it is mistyped"
    assert "as if they held it" in second
    assert plan[0] == "  removed     card-fraud.auto-3-20261126-120000"
    assert plan[1] == "  no undo     these rollbacks can then not be taken back: r1"
    elsewhere = run("forget", "card-fraud", "elsewhere", "--preview").stdout
    assert "not known here: perhaps it is mistyped, or known to another worker" in elsewhere


def test_nobody_forgets_by_mistake(run: Run, served: Served) -> None:
    """Where nobody can be asked it takes --yes; no means that nothing was erased."""
    refused = run("forget", "card-fraud", "4711")
    assert (refused.exit_code, refused.stdout) == (2, "")
    code, out, err = Terminal("forget", "card-fraud", "4711", "-a", served.target).answer("n\n")
    assert (code, out) == (1, "")
    assert "Forget this key of card-fraud for good? [y/N]:" in err
    assert not served.world.forgets.asked
