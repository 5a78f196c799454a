"""A part of `make faults`: kills, disk errors, and what is missed without a protection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.forks import Forks, forks
from tests.faults.order import broken
from tests.faults.strike import NoTracing, Point, Range
from tests.faults.sweep import Swept, errors, kills

STRUCK = 5
"""Points of an operation that are struck here; `make faults` strikes at all."""


@pytest.fixture(scope="module")
def server() -> Iterator[Forks]:
    """One for all tests here."""
    with forks() as running:
        yield running


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they have their past."""
    return tmp_path_factory.mktemp("faults")


def found(server: Forks, where: Path, operation: str) -> tuple[Range, list[Point]]:
    """An operation and its points; skips with the reason where strace cannot be had."""
    range_ = Range(server, where, operation)
    try:
        return range_, range_.points()
    except NoTracing as error:
        pytest.skip(str(error))


def some(points: list[Point]) -> list[Point]:
    """Evenly spread."""
    return points[:: max(1, len(points) // STRUCK)]


@pytest.mark.parametrize("operation", ["flush", "snapshot", "revert", "revert of keys", "restore"])
def test_a_kill_leaves_all_of_the_old_state_or_all_of_the_new(
    server: Forks, where: Path, operation: str
) -> None:
    """And what comes after it is the exact fold, with every snapshot that was asked for."""
    range_, points = found(server, where, operation)
    swept = Swept()
    for swept in kills(range_, some(points)):
        assert swept.broken == []
    assert swept.old + swept.new == swept.struck > 0


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_refuses_is_said_or_endured(server: Forks, where: Path, error: str) -> None:
    """A StateError or another try; and nothing is lost."""
    range_, points = found(server, where, "flush")
    swept = Swept()
    for swept in errors(range_, points[-5:], error):
        assert swept.broken == []
    assert swept.struck > 0


@pytest.mark.parametrize("operation", ["flush", "snapshot", "revert", "revert of keys", "restore"])
def test_names_are_durable_before_the_next_step(server: Forks, where: Path, operation: str) -> None:
    """Data before its name, the name before what is built on it, as the kernel saw it."""
    range_, _ = found(server, where, operation)
    assert broken(range_.trace(), str(range_.root)) == []


@pytest.mark.parametrize("without", ["names are synced", "data is synced before its name"])
def test_the_order_is_missed_without_a_sync(server: Forks, where: Path, without: str) -> None:
    """So what looks at the order sees it."""
    found(server, where, "snapshot")
    range_ = Range(server, where, "snapshot", without=without)
    assert broken(range_.trace(), str(range_.root)) != []


def test_a_manifest_before_its_files_is_noticed(server: Forks, where: Path) -> None:
    """A kill while files are on their way finds a manifest that names what is not there."""
    found(server, where, "snapshot")
    range_ = Range(server, where, "snapshot", without="the manifest comes after its files")
    links = [point for point in range_.points() if point.call == "rename"]
    assert any(swept.broken for swept in kills(range_, links))


def test_a_catalogue_before_its_manifest_is_noticed(server: Forks, where: Path) -> None:
    """A kill in between finds a snapshot that is vouched for and cannot be restored."""
    found(server, where, "snapshot")
    range_ = Range(server, where, "snapshot", without="the catalogue vouches for what is there")
    links = [point for point in range_.points() if point.call == "link"]
    assert any(swept.broken for swept in kills(range_, links[-1:]))


def test_an_effect_that_is_not_read_back_is_noticed(server: Forks, where: Path) -> None:
    """A kill after the new state took its place finds a change that the log does not know."""
    found(server, where, "revert")
    range_ = Range(server, where, "revert", without="the effect is read back first")
    links = [point for point in range_.points() if point.call == "rename"]
    assert any(swept.broken for swept in kills(range_, links[::-1]))
