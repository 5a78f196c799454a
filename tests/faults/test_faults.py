"""A part of `make faults`: kills, disk errors, and what is missed without a protection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.forks import SAID, Forks, forks
from tests.faults.operations import OPERATIONS
from tests.faults.order import broken
from tests.faults.protections import PROTECTIONS
from tests.faults.strike import NoTracing, Point, Range
from tests.faults.sweep import ERRORS, Swept, errors, kills, missed

STRUCK = 2
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


@contextmanager
def traced() -> Iterator[None]:
    """Skips with the reason where strace cannot be had."""
    try:
        yield
    except NoTracing as error:
        pytest.skip(str(error))


def found(server: Forks, where: Path, operation: str) -> tuple[Range, list[Point]]:
    """An operation and its points."""
    range_ = Range(server, where, operation)
    with traced():
        return range_, range_.points()


def some(points: list[Point]) -> list[Point]:
    """Evenly spread, the last one among them."""
    return points[:: -max(1, len(points) // STRUCK)][:STRUCK]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_leaves_all_of_the_old_state_or_all_of_the_new(
    server: Forks, where: Path, operation: str
) -> None:
    """And what comes after it is the exact fold, with every snapshot that was asked for."""
    range_, points = found(server, where, operation)
    swept = Swept()
    for swept in kills(range_, some(points)):
        assert swept.broken == []
    assert swept.old + swept.new == swept.struck > 0


@pytest.mark.parametrize("error", ERRORS)
def test_a_disk_that_refuses_is_said_or_endured(server: Forks, where: Path, error: str) -> None:
    """A StateError or another try; and nothing is lost."""
    range_, points = found(server, where, "flush")
    swept = Swept()
    for swept in errors(range_, points[-2:], error):
        assert swept.broken == []
    assert swept.struck > 0


def test_a_restore_without_room_waits_and_refuses_no_snapshot(server: Forks, where: Path) -> None:
    """The newest one is sound: no older one is used because there is no room for it."""
    range_, points = found(server, where, "restore")
    first = next(point for point in points if point.call == "write")
    struck = range_.strike(first, ERRORS["ENOSPC"])
    assert (struck.status, struck.verdict.found) == (SAID, "old")
    assert "Make room on that disk" in struck.said
    assert "snapshot.refused" not in struck.said


def test_a_restore_on_a_bad_disk_refuses_no_snapshot(server: Forks, where: Path) -> None:
    """It is the disk that has to be looked at: the newest snapshot is sound."""
    range_, points = found(server, where, "restore")
    first = next(point for point in points if point.call == "write")
    struck = range_.strike(first, ERRORS["EIO"])
    assert (struck.status, struck.verdict.found) == (SAID, "old")
    assert "snapshot.refused" not in struck.said


@pytest.mark.parametrize("operation", OPERATIONS)
def test_data_and_names_are_durable_before_the_next_step(
    server: Forks, where: Path, operation: str
) -> None:
    """Data before its name, the name before what is built on it, as the kernel saw it."""
    range_ = Range(server, where, operation)
    with traced():
        assert broken(range_.trace(), str(range_.root)) == []


@pytest.mark.parametrize("name", PROTECTIONS)
def test_each_protection_is_missed(server: Forks, where: Path, name: str) -> None:
    """With it switched off, a kill or the order of the calls shows what would be lost."""
    with traced():
        _, told = missed(server, where, name)
    assert told != []
