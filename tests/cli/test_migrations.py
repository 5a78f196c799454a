"""Another spec for an agent on the command line, before a small real backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.migrating import plan
from headrace.views import Migration, MigrationPlan
from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.cli.terminal import Terminal
from tests.serving.world import SPEC, view

OTHER = SPEC.replace("0.9", "0.8")


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


@pytest.fixture
def other(tmp_path: Path) -> str:
    """The file of another spec for the agent that is there."""
    file = tmp_path / "other.yaml"
    file.write_text(OTHER)
    return str(file)


@pytest.mark.parametrize("how", ["reset", "refold", "from=card-fraud.friday"])
def test_what_loses_something_is_shown_and_asked_for(served: Served, other: str, how: str) -> None:
    """What differs and what would go is on standard error; `n` changes nothing, `y` goes on."""
    asked = ("deploy", other, "--migration", how, "--address", served.target)
    code, out, err = Terminal(*asked).answer("n\n")
    assert (code, out, served.world.migrated) == (1, "", [])
    assert "$.decide" in err
    assert "12 events" in err
    assert "Deploy spec version 2?" in err
    code, out, _ = Terminal(*asked).answer("y\n")
    assert (code, len(served.world.migrated)) == (0, 1)
    assert out.startswith("deployed card-fraud")


def test_keep_asks_nobody_and_machines_say_yes(run: Run, served: Served, other: str) -> None:
    """Where nobody is there, what would have to be asked is refused before anything is sent."""
    assert run("deploy", other, "--migration", "keep").exit_code == 0
    refused = run("deploy", other, "--migration", "reset")
    assert refused.exit_code == 2
    assert "say --yes" in refused.stderr
    served.world.digests["card-fraud"] = "d" * 64
    done = run("deploy", other, "--migration", "from=card-fraud.a", "--yes")
    assert done.exit_code == 0
    assert "from: the state of card-fraud.a comes back" in done.stderr
    assert served.world.migrated == [
        Migration(how="keep"),
        Migration(how="from", snapshot_id="card-fraud.a"),
    ]


def test_a_dry_run_shows_what_would_change(run: Run, served: Served, other: str) -> None:
    """Beside what of the last records would be accepted; as JSON in one object."""
    text = run("deploy", other, "--migration", "reset", "--dry-run").stdout
    assert "187 would be accepted" in text
    assert "reset: what 12 events have taught goes: every key begins cold" in text
    found = run.json("deploy", other, "--migration", "reset", "--dry-run")
    assert found["migration"]["keep_problems"][0]["path"] == "$.model"
    assert served.world.migrated == []


@pytest.mark.parametrize(
    ("state", "words"), [("running", "it answers as before"), ("failed", "answers nothing, as now")]
)
def test_a_refold_says_what_is_answered_meanwhile(
    run: Run, served: Served, other: str, state: str, words: str
) -> None:
    """The old version's answers go on; an agent that has failed has none."""
    served.world.views["card-fraud"] = view(state=state)
    refold = ("deploy", other, "--migration", "refold")
    assert words in run(*refold, "--dry-run").stdout
    assert words in run(*refold, "--yes").stderr


def test_the_same_spec_once_more_is_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A refold of what a new build refuses: no table of nothing, and `keep` is no choice."""
    found = MigrationPlan(
        spec_version=1, new_spec_version=2, changes=(), keep_problems=(), events=2_300
    )
    plan(found, Migration(how="refold"))
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "spec version 2 instead of 1: the same spec",
        "refold: 2,300 events are learned again; until that is done it answers as before",
    ]


@pytest.mark.parametrize("how", ["begin", "from", "from=", "keep=card-fraud.a"])
def test_a_migration_that_is_none_is_refused(run: Run, other: str, how: str) -> None:
    """With those that there are."""
    refused = run("deploy", other, "--migration", how)
    assert refused.exit_code == 2
    assert "keep, reset, refold or from=ID" in refused.stderr
