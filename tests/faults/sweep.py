"""An operation, struck at each of its system calls; what the protections are worth."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.forks import SAID, Forks
from tests.faults.order import broken
from tests.faults.protections import PROTECTIONS
from tests.faults.strike import Point, Range, Struck

KILL = "signal=KILL"
ERRORS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
FAILING = ("write", "pwrite64", "fsync", "fdatasync")
"""The calls that a bad or a full disk refuses."""


@dataclass
class Swept:
    """What the strikes at one operation have come to."""

    struck: int = 0
    old: int = 0
    new: int = 0
    older: int = 0  # an older snapshot was restored, because the newest could not be read
    said: int = 0  # the process ended with a StateError
    missed: int = 0  # the call did not come this time
    broken: list[str] = field(default_factory=list)

    def add(self, point: Point, fault: str, struck: Struck) -> None:
        """One strike more."""
        if fault == KILL and struck.status == 0:
            self.missed += 1
            return
        self.struck += 1
        self.old += struck.verdict.found == "old"
        self.new += struck.verdict.found == "new"
        self.older += struck.verdict.found == "older"
        self.said += struck.status == SAID
        found = list(struck.verdict.broken)
        if fault != KILL and struck.status not in (0, SAID):
            found.append(f"it ended with {struck.status}: {struck.said.strip()[-300:]}")
        if fault == KILL and struck.status != -signal.SIGKILL:
            found.append(f"it ended with {struck.status} before the kill")
        if fault == KILL:  # a disk that refuses may be why it could not be done
            found += struck.verdict.failed
        elif struck.verdict.failed and "replacement.failed" not in struck.said:
            found.append("a rollback has failed, and the log does not say so")
        if struck.verdict.found == "older":
            found.append("an older snapshot was used, and nothing was wrong with the newest")
        if struck.status == 0 and struck.verdict.found != "new":
            found.append("it was done, and what was done is not there")
        at = f"{fault} at {point.call} {point.when} of {point.thread}"
        self.broken += [f"{at}: {text}" for text in found]


def kills(range_: Range, points: Sequence[Point]) -> Iterator[Swept]:
    """A kill at each point; what they have come to so far, after each."""
    swept = Swept()
    for point in points:
        swept.add(point, KILL, range_.strike(point, KILL))
        yield swept


def errors(range_: Range, points: Sequence[Point], error: str) -> Iterator[Swept]:
    """An error of the disk at each point at which there may be one."""
    swept = Swept()
    for point in points:
        if point.call in FAILING:
            swept.add(point, ERRORS[error], range_.strike(point, ERRORS[error]))
            yield swept


def missed(server: Forks, where: Path, name: str) -> tuple[int, list[str]]:
    """What is broken without a protection, and after how many strikes; nothing if nobody misses it.

    Raises NoTracing.
    """
    _, operation, calls = PROTECTIONS[name]
    range_ = Range(server, where, operation, without=name)
    if not calls:
        return 1, broken(range_.trace(), str(range_.root))
    points = [point for point in range_.points() if point.call in calls]
    swept = Swept()
    for swept in kills(range_, points[::-1]):  # what is last protects the most
        if swept.broken:
            break
    return swept.struck, swept.broken
