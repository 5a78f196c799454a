"""Small worlds for tests of the step: records, a shard's life with flushes and restarts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.models.decisions import Decision, Origin, encode_decision
from headrace.models.event_file import Row
from headrace.models.guard import Refusal
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import Spec, load_spec

ORIGIN = Origin("a", 1, 0, "t", 0)


def spec_of(text: str, features: Iterable[str] = ()) -> Spec:
    """A spec of agent `a` over topic `t` keyed by $.k; `features` are numbers."""
    numbers = ", ".join(f"{name}: {{type: number}}" for name in features)
    listed = f"features: {{{numbers}}}\n" if numbers else ""
    return load_spec(f"agent: a\nsource: {{topic: t, key: $.k}}\n{listed}{text}")


def record(offset: int, event: dict[str, Any] | bytes, *, at: int | None = None) -> Row:
    """A record of the event, at `at` milliseconds (default: its offset)."""
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    key = None if isinstance(event, bytes) else str(event["k"]).encode()
    return Row(offset, offset if at is None else at, key, raw)


def records(events: Iterable[dict[str, Any]], *, every: int = 1) -> list[Row]:
    """Records of events that come `every` milliseconds."""
    return [record(n, event, at=n * every) for n, event in enumerate(events)]


class World:
    """A learner over rows in memory, that can be flushed and started again."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.rows = MemoryRows()
        self.learner = Learner(spec, ORIGIN, self.rows)
        self.decisions: list[Decision] = []
        self.refusals: list[Refusal] = []

    def run(self, batch: Sequence[Row], *, learning: bool = True) -> World:
        """Step through a batch; decisions and refusals are kept."""
        outcome = self.learner.step(batch, learning=learning)
        self.decisions += outcome.decisions
        self.refusals += outcome.refusals
        return self

    def flush(self) -> World:
        """Make the state durable."""
        self.rows.flush(self.learner)
        return self

    def restart(self) -> World:
        """Flush, and go on with a new learner over the rows."""
        self.flush()
        self.learner = Learner(self.spec, ORIGIN, self.rows)
        return self

    def written(self) -> bytes:
        """All decisions as their topic would hold them."""
        return b"\n".join(encode_decision(decision) for decision in self.decisions)

    def state(self) -> dict[bytes, bytes]:
        """All rows, flushed."""
        self.flush()
        return dict(self.rows.rows)

    def metric(self, name: str) -> float:
        """A metric's value now."""
        return next(view.value for view in self.learner.metrics() if view.name == name)
