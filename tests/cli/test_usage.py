"""What is mistyped: usage errors for machines, other words for commands, names that cannot be."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.served import Served


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (("verify",), "Missing argument"),
        (("predict", "card-fraud"), "Missing argument 'key'."),
        (("snapshot", "import", "x.tar"), "Missing option '--digest'."),
        (("forgotten", "a", "b"), "Got unexpected extra argument(s) (b)"),
        (("agents", "--sepc", "1"), "No such option: --sepc"),
        (("agents", "--spec", "one"), "Invalid value for '--spec': "),
        (("snapshot", "lst"), "No such command 'lst'. Did you mean 'ls'?"),
        (("frob",), "No such command 'frob'."),
        (("watch", "clicks"), "there is no 'clicks' to watch; did you mean `headrace watch decis"),
    ],
)
def test_a_mistake_in_what_is_typed_is_json_for_machines(
    alone: Run, typed: tuple[str, ...], text: str
) -> None:
    """One object on standard error with exit 2, as every error; people are told in words."""
    result = alone(*typed, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["violations"]) == ("invalid_request", [])
    assert error["text"].startswith(text)
    words = alone(*typed, COLUMNS="120")
    assert words.exit_code == 2
    assert text in words.stderr
    assert '"error"' not in words.stderr


def test_what_stands_behind_two_dashes_is_no_option(alone: Run) -> None:
    """A key may be called `--json`."""
    result = alone("predict", "--", "--json")
    assert result.exit_code == 2
    assert "Missing argument 'key'." in result.stderr
    assert '"error"' not in result.stderr


def test_a_value_that_is_none_of_those_there_are(alone: Run) -> None:
    """It is told in our words, not in those of the library that reads it."""
    asked = ("rollback", "card-fraud", "--to", "card-fraud.a", "--mode", "rewnd")
    text = "Invalid value for '--mode': 'rewnd' is not one of 'revert', 'rewind'."
    assert text in alone(*asked, COLUMNS="120").stderr
    assert json.loads(alone(*asked, "--json").stderr)["error"]["text"] == text


@pytest.mark.parametrize(
    ("word", "meant"), [("delete", "rm"), ("remove", "rm"), ("unpin", "pin ID --off")]
)
def test_a_command_is_known_by_other_words(alone: Run, word: str, meant: str) -> None:
    """It is told how it is called here; of one that is called so nothing is said."""
    refused = alone("snapshot", word, "card-fraud.a")
    assert refused.exit_code == 2
    assert f"No such command '{word}'. Did you mean '{meant}'?" in refused.stderr
    assert "Did you mean" not in alone("delete", "nobody", "-a", "127.0.0.1:1", "--yes").stderr


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "MyName",
            "give 1 to 64 of a-z, 0-9, `.`, `_` and `-`: no capitals, and a letter or digit",
        ),
        ("a b", "'a b' cannot be a snapshot's; give 1 to 64 of a-z"),
        ("auto-1", "begins with auto- or undo-, as the service's own do; take another name"),
    ],
)
def test_a_name_that_no_snapshot_can_have(served: Served, name: str, why: str) -> None:
    """What is wrong with it is told, and what to take instead."""
    refused = Run(served.target)("snapshot", "create", "card-fraud", name)
    assert refused.exit_code == 2
    assert why in refused.stderr
