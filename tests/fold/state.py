"""What a log amounts to: every key's state, every decision, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CLASSES_MAX = 256
STAMPS = 101  # log time is the median of so many


@dataclass
class Simple:
    """What must be beaten: the mean, the last value, the commonest class of a key's labels."""

    count: int = 0
    mean: float = 0.0
    last: Any = None
    classes: dict[Any, int] | None = None

    def learn(self, y: Any, *, classes: bool) -> None:
        """Take in one label."""
        self.count += 1
        self.last = y
        if not classes:
            self.mean += (y - self.mean) / self.count
            return
        self.classes = self.classes or {}
        if y in self.classes or len(self.classes) < CLASSES_MAX:
            self.classes[y] = self.classes.get(y, 0) + 1


@dataclass
class Waiting:
    """An event whose label has not come yet, with what was guessed of it."""

    since: int
    offset: int
    x: dict[str, Any]
    base: float | None
    guess: tuple[Any, float | None, dict[Any, float] | None, Any, Any]


@dataclass
class KeyFold:
    """One key."""

    model: Any
    updates: int = 0
    last_seen: int = -1
    last_learned: int = 0
    simple: Simple = field(default_factory=Simple)
    waiting: list[Waiting] = field(default_factory=list)


@dataclass
class Folded:
    """What a log amounts to. `decisions`: those that are emitted, as their JSON must be."""

    decisions: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)
    keys: dict[str, KeyFold] = field(default_factory=dict)
    learned: int = 0
    unlabelled: int = 0
    labels_lost: int = 0
    now: int = 0  # log time
    stamps: list[int] = field(default_factory=list)  # the last ones, oldest first
    expired: int = 0  # keys that came back after they had been forgotten
    idle: set[str] = field(default_factory=set)  # keys that nobody can see any more
    replaced: int = 0  # how often another state was put in place of it
    forgets: int = 0
    # Events of forgotten keys from below where those are forgotten. Whether they are counted
    # depends on where a disk was lost: they are when they are learned, and not when passed over.
    uncertain: int = 0
    counted: int = 0  # accepted events, and
    counted_bad: int = 0  # refused ones, as the counters have them: a rewind reckons them anew

    def tick(self, stamp: int) -> None:
        """Log time: the median of the last stamps; once there are enough of them it never falls."""
        if stamp < 0:
            return
        full_before = len(self.stamps) == STAMPS
        self.stamps = [*self.stamps, stamp][-STAMPS:]
        median = sorted(self.stamps)[(len(self.stamps) - 1) // 2]
        self.now = max(self.now, median) if full_before else median
