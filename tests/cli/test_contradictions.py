"""What a rollback is refused for before a worker is looked for."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "name an AGENT, or say --all; say either --to ID or --before TIME"),
        (("a", "--all", "--before", "1m"), "name an AGENT, or say --all"),
        (("a",), "say either --to ID or --before TIME"),
        (("a", "--to", "a.b", "--before", "1m"), "say either --to ID or --before TIME"),
        (("--all", "--to", "a.b"), "--to is one agent's"),
        (("--all", "--before", "1m", "--key", "k"), "--key is for one agent"),
        (
            ("--all", "--before", "1m", "--mode", "rewind", "--exclude-decision", "d"),
            "--exclude-decision is one agent's",
        ),
        (
            ("a", "--to", "a.b", "--mode", "rewind", "--exclude-decision", "17"),
            "--exclude-decision '17' is no id of a decision: give agent/epoch/topic/partition/off",
        ),
        (
            ("a", "--to", "a.b", "--mode", "rewind", "--exclude-decision", "b/1/t/0/17"),
            "--exclude-decision 'b/1/t/0/17' is of another agent than a",
        ),
        (("a", "--to", "a.b", "--exclude-key", "k"), "is for --mode rewind"),
        (("a", "--to", "a.b", "--exclude-header", "k"), "'k' is not NAME=VALUE"),
        (("a", "--before", "yesterday"), "'yesterday' is no time"),
        (("a", "--before", "1969-01-01"), "is before 1970"),
        (
            ("a", "--mode", "rewind", "--to", "a.b", "--exclude-from", "1m", "--exclude-to", "2m"),
            "--exclude-to 2m is not after --exclude-from 1m",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(alone: Run, given: tuple[str, ...], words: str) -> None:
    """In the words of the options, before a worker is looked for."""
    result = alone("rollback", *given, "--address", "127.0.0.1:1")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""
