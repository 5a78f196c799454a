"""Commands that are printed to be copied can be typed as they stand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.cli.demo import where_to_look_next
from headrace.cli.program import program
from tests.cli.conftest import Run


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `headrace` of a .venv in the working directory, which this process seems to be."""
    file = tmp_path / ".venv" / "bin" / "headrace"
    file.parent.mkdir(parents=True)
    file.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(file), "demo"])
    monkeypatch.setenv("PATH", "/usr/bin")
    return file


def test_a_program_that_is_not_on_the_path_is_named_by_its_place(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name where that finds it; another of that name is not it."""
    assert program() == ".venv/bin/headrace"
    monkeypatch.setenv("PATH", str(ran.parent))
    assert program() == "headrace"
    other = tmp_path / "other" / "headrace"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{ran.parent}")
    monkeypatch.chdir(other.parent)
    assert program() == str(ran)


def test_a_module_is_named_with_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m headrace`; a program that only uses us is not named."""
    monkeypatch.setattr(sys, "argv", ["/x/headrace/__main__.py"])
    monkeypatch.setattr(sys, "executable", "/opt/bin/python")
    assert program() == "/opt/bin/python -m headrace"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert program() == "headrace"


@pytest.mark.usefixtures("ran")
def test_the_demo_ends_with_commands_that_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """One below the other, each with what it is for."""
    where_to_look_next()
    _, head, *lines = capsys.readouterr().out.splitlines()
    assert head == "Where to look next"
    assert [line.split()[:2] for line in lines] == [
        [".venv/bin/headrace", command] for command in ("up", "spec", "deploy", "backtest")
    ]
    assert len({line.rindex("  ") for line in lines}) == 1


def test_the_demo_names_its_extra(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is missed, and when it is: with the pip that would install it here."""
    assert "pip install '.[demo]'" in " ".join(alone("demo", "--help").stdout.split())
    monkeypatch.setattr("headrace.cli.demo.find_spec", lambda _: None)
    result = alone("demo")
    assert result.exit_code == 1
    assert "-m pip install '.[demo]'`, or `make demo`" in result.stderr
