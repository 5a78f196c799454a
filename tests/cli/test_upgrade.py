"""`headrace upgrade --check` as its user meets it; `tests/upgrade` has two real Rivers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Up


@pytest.fixture
def asked(service: Up, tmp_path: Path) -> tuple[str, ...]:
    """The check of the running service, for a repository in which nothing is."""
    broker = f"kafka://{service.found('events')}"
    return ("upgrade", "--check", "--broker", broker, "--state-dir", str(tmp_path))


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
    assert result.exit_code == 1
    assert "there is no topic nobody.control" in result.stderr
    assert "--app" in result.stderr


def test_a_snapshot_that_is_not_found_is_told(alone: Run, asked: tuple[str, ...]) -> None:
    """Or none that was made yet: the agent would not keep its state, so the exit code is 1."""
    result = alone(*asked)
    assert result.exit_code == 1
    assert "must refold" in result.stdout
    assert "0 of 1 agents keep their state" in result.stdout


def test_machines_get_every_difference(alone: Run, asked: tuple[str, ...]) -> None:
    """The same as JSON, with this build beside it."""
    result = alone(*asked, "--json")
    found = json.loads(result.stdout)
    assert [one["agent"] for one in found["agents"]] == ["card-fraud"]
    assert not found["agents"][0]["keeps"]
    assert found["agents"][0]["why"]
    assert set(found["build"]) == {"headrace", "river", "numpy", "codec", "python"}
