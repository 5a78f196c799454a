"""What another state would have decided: for the preview of a rollback. Nothing changes.

Both states are asked about the same recent events, and neither learns from them: what counts is
how they would decide, each as it stands, if those events came next. The log time is that of the
present state for both, because a rollback leaves it where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from headrace.errors import EventError
from headrace.models.guard import Event, Guard
from headrace.models.keyed import Counters, Keyed
from headrace.models.learner import LOGTIME_ROW
from headrace.models.logtime import LogTime
from headrace.models.metrics import Guess, Prequential
from headrace.models.panics import failures
from headrace.models.policies import Choice
from headrace.models.recommend.ranked import Ranked
from headrace.models.row_reading import RowReading
from headrace.models.slots import KEY_ROW, Slot
from headrace.models.spec import Adjust, Recommend, Score, Spec
from headrace.models.stored import is_same_model
from headrace.ports import Record, Rows
from headrace.views import MetricChange

__all__ = ["Comparison", "KeyChanges", "changed_keys", "compare", "is_changed"]

ROWS_READ_MAX: Final = 100_000
"""Rows that a look for changed keys reads, of both states together."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. A decision is flipped if the other state would do something else."""

    decisions_compared: int
    decisions_flipped: int
    metrics: tuple[MetricChange, ...]  # over the events that brought their label; may be none
    refused: int = 0  # records that the guard does not admit: no decision is theirs
    failed: int = 0  # events on which both states fail
    note: str = ""  # what one has to know to read the figures


class KeyChanges(NamedTuple):
    """How many keys differ, of how many. Not `complete`: so many at least."""

    changed: int
    total: int
    complete: bool


def compare(spec: Spec, now: Rows, then: Rows, records: Iterable[Record]) -> Comparison:
    """Ask both states about each record that the guard admits; take few: the keys stay in memory.

    Something else is another verdict or class, another list of items, another adjustment; where
    the agent publishes scores, another score. An event on which one state fails (its score is not
    finite, say) is flipped; one on which both fail is not compared.

    Raises CorruptStateError.
    """
    guard = Guard(spec)
    time = _log_time(now)
    sides = _Side(spec, now, time), _Side(spec, then, time)
    compared = flipped = refused = failed = 0
    for record in records:
        event = guard.admit(record)
        if not isinstance(event, Event):
            refused += 1
            continue
        one, other = (side.said(event) for side in sides)
        if one is None and other is None:
            failed += 1
            continue
        compared += 1
        if one is None or other is None:
            flipped += 1
            continue
        flipped += _deed(spec, one.choice) != _deed(spec, other.choice)
        for side, said in zip(sides, (one, other), strict=True):
            if one.is_guess and other.is_guess:
                side.judge_guess(event, said)
            side.judge_items(event, said)
    return Comparison(
        decisions_compared=compared,
        decisions_flipped=flipped,
        metrics=_changes(*sides),
        refused=refused,
        failed=failed,
        note=_note(spec, compared, outlived=_outlived(spec, time, _log_time(then))),
    )


def changed_keys(now: Rows, then: Rows, limit: int = ROWS_READ_MAX) -> KeyChanges:
    """How many keys have another model in `then`, and how many keys there are in either.

    A key of one side only is changed. When it was seen last, when it learned last and what waits
    for its label is not looked at: no model differs by that. With one model for all keys, and for
    a recommender's users, this tells whose events have taught it. At most about `limit` rows are
    read. Raises CorruptStateError.

    >>> from headrace.models.memory_rows import MemoryRows
    >>> changed_keys(MemoryRows(), MemoryRows())
    KeyChanges(changed=0, total=0, complete=True)
    """
    one, other = now.scan(KEY_ROW), then.scan(KEY_ROW)
    left, right = next(one, None), next(other, None)
    changed = total = rows_read = 0
    while left is not None or right is not None:
        if rows_read >= limit:
            return KeyChanges(changed, total, complete=False)
        total += 1
        if left is not None and right is not None and left[0] == right[0]:
            changed += not is_same_model(*left, right[1])
            left, right = next(one, None), next(other, None)
            rows_read += 2
        elif right is None or (left is not None and left[0] < right[0]):
            changed += 1
            left = next(one, None)
            rows_read += 1
        else:
            changed += 1
            right = next(other, None)
            rows_read += 1
    return KeyChanges(changed, total, complete=True)


def is_changed(row: bytes, now: bytes | None, then: bytes | None) -> bool:
    """The same of one key's row, None where there is none. Raises CorruptStateError."""
    if now is None or then is None:
        return now is not then
    return not is_same_model(row, now, then)


class _Said(NamedTuple):
    """What one state says of an event."""

    choice: Choice
    guess: Guess

    @property
    def is_guess(self) -> bool:
        return self.guess.label is not None or self.guess.score is not None


class _Side:
    """One of the two states, and the metrics of what it says. It never learns."""

    def __init__(self, spec: Spec, rows: Rows, time: LogTime) -> None:
        self._spec = spec
        self._now = time.now
        k = spec.decide.k if isinstance(spec.decide, Recommend) else 10
        self.judge = Prequential(spec.metrics, spec.kind, k=k)
        engine = Ranked if spec.kind == "ranker" else Keyed
        with RowReading():
            self._engine: Keyed | Ranked = engine(spec, rows, Counters(), self.judge)
        self._engine.slots.expires = time.settled
        self._judges = spec.label is not None and not spec.label.later

    def said(self, event: Event) -> _Said | None:
        """What it would decide; None if it fails."""
        engine = self._engine
        slot = engine.begin(event, self._now)
        try:
            choice = engine.handle(slot, event, b"", self._now, learning=False)
            return _Said(choice, self._guess(slot, event, choice))
        except failures(EventError):
            return None

    def judge_guess(self, event: Event, said: _Said) -> None:
        if self._judges and event.y is not None:
            self.judge.update(event.y, said.guess)

    def judge_items(self, event: Event, said: _Said) -> None:
        items = said.choice.items
        if self.judge.wants_hits and items is not None:
            self.judge.hit(any(scored.item == event.item for scored in items), popular=False)

    def _guess(self, slot: Slot, event: Event, choice: Choice) -> Guess:
        # The baselines' guesses are in no figure here: any of the right type will do.
        if isinstance(self._engine, Ranked):
            return Guess(None, choice.score, None, 0.0, 0.0)
        if not self._judges or event.y is None:
            return Guess()
        model_slot = self._engine.slots.shared or slot
        forecast = self._engine.forecast(model_slot.model, event.x)
        if self._spec.kind == "multiclass":
            return Guess(forecast.label, forecast.score, forecast.probabilities)
        return Guess(forecast.label, forecast.score, forecast.probabilities, 0.0, 0.0)


def _log_time(rows: Rows) -> LogTime:
    time = LogTime()
    saved = rows.get(LOGTIME_ROW)
    if saved is not None:
        with RowReading():
            time.load(saved)
    return time


def _deed(spec: Spec, choice: Choice) -> Any:
    """What is done on a decision: where two differ in it, one of them is flipped."""
    if isinstance(spec.decide, Recommend):
        return [scored.item for scored in choice.items or ()]
    if isinstance(spec.decide, Adjust):
        return choice.value
    if _publishes_scores(spec):
        return choice.score
    return choice.decision


def _publishes_scores(spec: Spec) -> bool:
    return isinstance(spec.decide, Score) and spec.kind != "multiclass"


def _changes(now: _Side, then: _Side) -> tuple[MetricChange, ...]:
    return tuple(
        MetricChange(
            name=one.name,
            now=one.value,
            then=other.value,
            bigger_is_better=one.bigger_is_better,
            events=one.events,
        )
        for one, other in zip(now.judge.views(), then.judge.views(), strict=True)
        if one.events and other.events
    )


def _outlived(spec: Spec, now: LogTime, then: LogTime) -> bool:
    """Whether the other state is so old that its keys are idle by the log time of now."""
    ttl_ms = spec.state.idle_ttl_ms
    return ttl_ms is not None and now.settled and then.settled and now.now - then.now > ttl_ms


def _note(spec: Spec, compared: int, *, outlived: bool) -> str:
    notes = []
    if outlived:
        notes.append(
            "the snapshot is older than state.idle_ttl, so its keys are idle, and new at their next"
            " event; single keys that were seen since can go back to it"
        )
    if not compared:
        return "; ".join(notes)
    if spec.label is not None and spec.label.later:
        notes.append("labels come later, so there are no metrics of what would have been decided")
    if _publishes_scores(spec):
        notes.append("the agent publishes scores: one that differs at all counts as flipped")
    return "; ".join(notes)
