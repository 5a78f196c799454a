"""A backtest: a spec over a file of events, without a broker, as the service on one partition.

The same step predicts, decides and learns; the numbers are those of River's
`evaluate.progressive_val_score` to the last digit that its summation keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from headrace.clock import Clock, SystemClock
from headrace.models.decisions import Origin
from headrace.models.event_file import EventFile
from headrace.models.guard import REASONS, Refusal
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.spec import Spec
from headrace.views import MetricView, Position, Refusals

FLUSH_EVENTS = 10_000  # between two moves of changed rows out of the live set, as in the service
SLOWEST = 10
EXAMPLES = 3

Progress = Callable[[int, int | None], None]


class SlowKey(msgspec.Struct, frozen=True):
    """A key and the time that its events took together."""

    key: str
    seconds: float
    events: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. Positions of refused events count rows from zero."""

    agent: str
    events: int
    accepted: int
    learned: int
    keys: int
    decisions: int
    metrics: tuple[MetricView, ...]
    refused: tuple[Refusals, ...]  # the most frequent first
    slowest: tuple[SlowKey, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def backtest(
    spec: Spec,
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    progress: Progress | None = None,
    limit: int | None = None,
    clock: Clock | None = None,
) -> Report:
    """Run a spec over a file (.csv, .jsonl, .jsonl.gz) or over dictionaries.

    `progress` is told how many events are done and how many there are, if that is known. `limit`
    stops after so many. Raises RequestError for a file that cannot be read.

    >>> from headrace.models.spec import load_spec
    >>> spec = load_spec('''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}}, metrics: [MAE],
    ...  model: linear_model.LinearRegression, label: {field: $.y}}''')
    >>> rows = [{"id": "ada", "x": float(n % 3), "y": 2.0 * (n % 3)} for n in range(300)]
    >>> report = backtest(spec, [*rows, {"id": "ada", "x": "far"}])
    >>> report.events, report.accepted, report.keys, report.refused[0].code
    (301, 300, 1, 'wrong_type')
    >>> round(report.metrics[0].value, 4), round(report.metrics[0].baseline, 4)
    (0.3464, 1.357)
    """
    events = EventFile(spec, source)
    total = events.expected()
    if limit is not None:
        total = limit if total is None else min(limit, total)
    run = _Run(spec, clock or SystemClock())
    for done, row in enumerate(islice(events, limit), start=1):
        run.take(row)
        if progress is not None and done % 256 == 0:
            progress(done, total)
    if progress is not None:
        progress(run.events, run.events)
    return run.report()


class _Run:
    def __init__(self, spec: Spec, clock: Clock) -> None:
        self._origin = Origin(spec.agent, 1, 0, spec.source.topic, 0)
        self._clock = clock
        self._rows = MemoryRows()
        self._learner = Learner(spec, self._origin, self._rows)
        self._seconds: dict[bytes, tuple[float, int]] = {}
        self._refused: dict[tuple[str, str], list[Refusal]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self.events = 0
        self.decisions = 0

    def take(self, row: Any) -> None:
        began = self._clock.monotonic()
        outcome = self._learner.step((row,))
        took = self._clock.monotonic() - began
        self.events += 1
        self.decisions += len(outcome.decisions)
        if outcome.refusals:
            self._refuse(outcome.refusals[0])
        else:
            before, events = self._seconds.get(row.key, (0.0, 0))
            self._seconds[row.key] = (before + took, events + 1)
        if self.events % FLUSH_EVENTS == 0:
            self._rows.flush(self._learner)

    def report(self) -> Report:
        learner = self._learner
        slow = sorted(self._seconds.items(), key=lambda entry: -entry[1][0])[:SLOWEST]
        often = sorted(self._counts, key=lambda group: (-self._counts[group], group))
        return Report(
            agent=self._origin.agent,
            events=self.events,
            accepted=learner.accepted,
            learned=learner.learned,
            keys=len(self._seconds),
            decisions=self.decisions,
            metrics=tuple(learner.metrics()),
            refused=tuple(self._refusals(group) for group in often),
            slowest=tuple(SlowKey(key.decode(), took, events) for key, (took, events) in slow),
        )

    def _refuse(self, refusal: Refusal) -> None:
        group = (refusal.code, refusal.path)
        self._counts[group] = self._counts.get(group, 0) + 1
        examples = self._refused.setdefault(group, [])
        if len(examples) < EXAMPLES:
            examples.append(refusal)

    def _refusals(self, group: tuple[str, str]) -> Refusals:
        examples = self._refused[group]
        topic = self._origin.topic
        return Refusals(
            code=group[0],
            text=examples[0].text or REASONS[group[0]],
            count=self._counts[group],
            examples=tuple(Position(topic, 0, refusal.offset) for refusal in examples),
        )
