"""`headrace upgrade --check` as its user meets it; `tests/upgrade` has two real Rivers."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.pipelines.brokerdir import BrokerDirectory
from tests.cli.conftest import SPEC, Run, started

pytestmark = pytest.mark.usefixtures("quiet_logs")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Where a service takes events, and where its snapshots are: one, of its one agent."""
    state, spec = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("spec") / "spec.yaml"
    spec.write_text(SPEC + "state: {snapshot_s: 86400}\n")  # no other one comes in between
    up = started("--snapshots", f"file://{state / 'snapshots'}")
    try:
        run = Run(up.found("gRPC"))
        for command in (("deploy", str(spec)), ("snapshot", "create", "card-fraud", "one")):
            assert run(*command).exit_code == 0
        yield up.found("events"), state
    finally:
        up.end(signal.SIGINT)


@pytest.fixture
def asked(kept: tuple[str, Path]) -> tuple[str, ...]:
    """The check of that service."""
    events, state = kept
    return ("upgrade", "--check", "--broker", f"kafka://{events}", "--state-dir", str(state))


@pytest.fixture
def damaged(kept: tuple[str, Path], tmp_path: Path) -> tuple[str, ...]:
    """Its snapshots, which have been altered."""
    copy = tmp_path / "copy"
    shutil.copytree(kept[1] / "snapshots", copy)
    (manifest,) = copy.glob("manifests/card-fraud.one/*.json")
    manifest.write_bytes(b"{}")
    return ("--snapshots", f"file://{copy}")


def test_an_upgrade_itself_is_no_command(alone: Run) -> None:
    """Without --check it says what an upgrade is, as wrong usage."""
    result = alone("upgrade")
    assert result.exit_code == 2
    assert "say --check" in result.stderr


def test_what_the_process_keeps_cannot_be_checked(alone: Run) -> None:
    """The default broker forgets all of it: the service's own is asked for."""
    result = alone("upgrade", "--check")
    assert result.exit_code == 2
    assert "`memory:` keeps nothing" in result.stderr


def test_another_app_is_told(alone: Run, asked: tuple[str, ...]) -> None:
    """There is no control log of that name: which flags name the right one is said."""
    result = alone(*asked, "--app", "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no topic nobody.control" in result.stderr
    assert "--app" in result.stderr


def test_a_broker_that_is_away_says_nothing_of_the_agents(
    alone: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for in the words of `up`, and no event of the log stands between them."""
    monkeypatch.setattr("headrace.cli.brokers.SAYS_SO_AFTER_S", 0.0)
    away = ("--broker", "kafka://127.0.0.1:1")
    result = alone("upgrade", "--check", *away, HEADRACE_BROKER_WAIT_S="1.5")
    assert (result.exit_code, result.stdout) == (2, "")
    told, ended = result.stderr.splitlines()
    assert told == "kafka://127.0.0.1:1 does not answer yet, waiting up to 1.5 s"
    assert ended.startswith("error: broker at 127.0.0.1:1 does not answer after 1.5 s: ")
    assert ended.endswith("; start it, or name another with --broker (broker_away)")


def test_a_broker_that_another_runs_says_nothing_of_the_agents(
    alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has the directory: the address of its broker is the one to name."""
    monkeypatch.setattr("headrace.pipelines.kafkajars.listed", list)  # nothing is fetched
    held = BrokerDirectory.open(tmp_path / "kafka")
    try:
        result = alone("upgrade", "--check", "--broker", f"local:{tmp_path / 'kafka'}")
    finally:
        held.close()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "runs already" in result.stderr


def test_what_goes_on_here_keeps_its_state(alone: Run, asked: tuple[str, ...]) -> None:
    """With the settings of the service all is well; what this build wrote it says to be its own."""
    result = alone(*asked)
    assert result.stdout.splitlines()[1].split("  ")[1].strip() == "this build"
    assert (result.exit_code, "1 of 1 agent keeps its state" in result.stdout) == (0, True)


def test_another_place_says_nothing_of_the_agents(
    alone: Run, asked: tuple[str, ...], tmp_path: Path
) -> None:
    """Nor is a refold advised: which settings name the right place is said; nothing is made."""
    nowhere = tmp_path / "nosuch"
    result = alone(*asked[:-1], str(nowhere))
    assert (result.exit_code, result.stdout) == (2, "")
    where = f"file://{nowhere / 'snapshots'}"
    assert f"no snapshots of this service (headrace) in {where}" in result.stderr
    assert "--state-dir" in result.stderr
    assert "refold" not in result.stderr
    assert not nowhere.exists()


def test_a_snapshot_that_is_damaged_is_told(
    alone: Run, asked: tuple[str, ...], damaged: tuple[str, ...]
) -> None:
    """The agent would not keep its state, so the exit code is 1."""
    result = alone(*asked, *damaged)
    assert result.exit_code == 1
    assert "must refold" in result.stdout
    assert "0 of 1 agent keeps its state" in result.stdout


def test_machines_get_every_difference(
    alone: Run, asked: tuple[str, ...], damaged: tuple[str, ...]
) -> None:
    """The same as JSON, with this build beside it."""
    result = alone(*asked, *damaged, "--json")
    found = json.loads(result.stdout)
    assert [one["agent"] for one in found["agents"]] == ["card-fraud"]
    assert not found["agents"][0]["keeps"]
    assert found["agents"][0]["why"]
    assert set(found["build"]) == {"headrace", "river", "numpy", "codec", "python"}
