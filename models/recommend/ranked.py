"""The step for recommenders: one model for all users, its state in rows per user and item.

Top-N is judged prequentially (Vinagre, Jorge, Gama 2014): recommend, see whether the item that
came is among the recommended, and only then learn it. `learn_one` of these models either happens
or leaves everything as it was, so a refused event needs no undoing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

from headrace.errors import EventError, SpecError, Violation
from headrace.models.guard import Event
from headrace.models.keyed import Counters
from headrace.models.metrics import Guess, Prequential, families
from headrace.models.policies import Choice
from headrace.models.recommend.row_model import RowModel, row_model
from headrace.models.slots import KEY_ROW, NoModel, Slot, SlotLimits, Slots
from headrace.models.spec import Recommend, Spec
from headrace.ports import Rows
from headrace.views import ScoredItem

# Stands for users without state, so that the row of one who has been idle too long is not read.
NOBODY = "\0nobody"


class Ranked:
    """Order of calls: `begin`, `handle`, and `undo` if that raised; `changed` and `flushed`."""

    def __init__(self, spec: Spec, rows: Rows, counters: Counters, metrics: Prequential) -> None:
        self.spec = spec
        self._counters = counters
        self._metrics = metrics
        self.model = _in_rows(spec)
        self.model.load(rows)
        limits = SlotLimits(spec.state.hot_keys_max, spec.state.idle_ttl_ms, shared=False)
        self.slots = Slots(rows, NoModel(), limits)
        self.policy = spec.decide if isinstance(spec.decide, Recommend) else None
        # Ratings are predicted where somebody looks at them: the policy or a metric.
        self._rates = self.policy is None or any(
            families()[name] == "number" for name in spec.metrics
        )

    # -- one event ---------------------------------------------------------------------------

    def begin(self, event: Event, now: int) -> Slot:
        """The user's slot. A user who has been idle too long starts anew."""
        slot = self.slots.touch(event.key, now)
        if slot.last_seen < 0 and self.model.row(event.key) is not None:
            self.model.forget(event.key)
        return slot

    def handle(self, slot: Slot, event: Event, raw: bytes, now: int, learning: bool) -> Choice:
        """Recommend or rate, and learn. Raises whatever the model raises, and EventError.

        `now` is the log time; `raw`, the record's value, is not needed here.
        """
        user, item = event.key, event.item
        assert item is not None  # the guard refuses an interaction without its item
        score = self.rate(user, item) if self._rates else None
        items = self.recommend(user, event) if self.policy is not None else None
        popular: tuple[ScoredItem, ...] = ()
        if self.policy is not None and self._metrics.wants_hits:
            popular = self.model.popular(user, self.policy.k, self.policy.exclude_seen)
        choice = self.choice(slot.updates, score, items)
        # Without a declared label each interaction is a positive example.
        y: Any = event.y if self.spec.label is not None else 1.0
        if learning:
            if y is None:
                self._counters.unlabelled += 1
            else:
                self.model.learn_one(user, item, y)
                self._note(slot, y, score, now)
            if self._metrics.wants_hits and items is not None:
                self._metrics.hit(_holds(items, item), _holds(popular, item))
        slot.last_seen = now
        self.slots.mark(slot)
        return choice

    def undo(self, slot: Slot) -> str:
        """Nothing to undo: learning is atomic."""
        return ""

    # -- reads -------------------------------------------------------------------------------

    def rate(self, user: str, item: str) -> float:
        """The predicted rating. Raises EventError if it is not finite."""
        score = float(self.model.predict_one(user, item))
        if not isfinite(score):
            raise EventError("score_not_finite", f"the model predicts {score} for this event")
        return score

    def recommend(self, user: str, event: Event) -> tuple[ScoredItem, ...]:
        """The best items for the user, within the event's candidates if it brings some."""
        assert self.policy is not None
        return self.model.top(
            user, self.policy.k, event.candidates, event.exclude, self.policy.exclude_seen
        )

    def choice(
        self, updates: int, score: float | None, items: tuple[ScoredItem, ...] | None
    ) -> Choice:
        """What is decided: `recommend` with items, or `score`."""
        decision = "score" if items is None else "recommend"
        return Choice(decision, score, updates, updates == 0, None, items)

    # -- rows --------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows that changed since the last `flushed`."""
        yield from self.slots.changed()
        yield from self.model.changed()

    def flushed(self) -> list[Any]:
        """Those rows are durable now; returns what is spent, as `Slots.flushed` does."""
        self.model.flushed()
        return self.slots.flushed()

    def sweep(self, rows: Iterable[tuple[bytes, bytes]], now: int) -> list[bytes]:
        """Rows of idle users that may be deleted now; their factors go with the next flush."""
        idle = self.slots.sweep(rows, now)
        for row in idle:
            self.model.forget(row[len(KEY_ROW) :].decode())
        return idle

    def forget(self, key: str) -> None:
        """Let go of what is in memory of a user."""
        self.slots.forget(key)
        self.model.forget(key)

    def _note(self, slot: Slot, y: Any, score: float | None, now: int) -> None:
        self._counters.learned += 1
        baseline = slot.baseline
        if self.spec.label is not None:
            if score is not None:
                last = baseline.last if baseline.count else 0.0
                self._metrics.update(y, Guess(None, score, None, baseline.mean, last))
            baseline.learn_number(y)
        slot.updates += 1
        slot.last_learned = now


def _holds(items: tuple[ScoredItem, ...], item: str) -> bool:
    return any(scored.item == item for scored in items)


def _in_rows(spec: Spec) -> RowModel:
    estimator = spec.build_model("")
    model = row_model(estimator, spec.state.hot_keys_max)
    if model is None:
        text = f"{type(estimator).__name__} cannot be kept in rows per user and item"
        hint = "reco.BiasedMF rates, headrace.ItemCooccurrence recommends"
        raise SpecError([Violation("$.model", text, hint)])
    return model
