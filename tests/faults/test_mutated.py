"""A part of the whole starts over damaged repositories that `make faults` makes."""

from __future__ import annotations

from pathlib import Path

from tests.faults.mutated import Mutated

COUNT = 20


def test_a_damaged_snapshot_is_refused_said_counted_and_not_used(tmp_path: Path) -> None:
    """The next older one is used, else the log; in the end all is the fold of the log."""
    assert Mutated(tmp_path).mutate(COUNT, seed=3).total() == COUNT
