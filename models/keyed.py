"""The step for River models: one per key, or one that all keys share.

What may fail comes first (predict, decide, learn) and touches nothing but the model; what must not
be half done comes after and cannot fail. So a refused event is undone by making the model again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.errors import EventError
from headrace.models.baselines import Value
from headrace.models.finite import census, is_enormous, is_extreme
from headrace.models.forecasts import Forecast
from headrace.models.forms import form_of
from headrace.models.guard import Event, Guard
from headrace.models.labels import LaterLabels, Parked
from headrace.models.metrics import Guess, Prequential
from headrace.models.policies import Adjuster, Choice, Setting, simple_policy
from headrace.models.slots import Operation, Seen, Slot, SlotLimits, Slots
from headrace.models.spec import Adjust, Spec
from headrace.ports import Rows

SIZE_CHECK = 8_192  # updates between two looks at a row's size, once there were that many


class Counters(msgspec.Struct, array_like=True):
    """What happened to a shard's records since its agent was deployed."""

    accepted: int = 0
    quarantined: int = 0
    learned: int = 0
    unlabelled: int = 0  # accepted events whose label field was empty
    labels_lost: int = 0  # parked events dropped because too many waited, or their label broke
    keys_full: int = 0  # keys that learn no more because their rows outgrew the bound


class _Again(NamedTuple):
    """A record whose value is read a second time."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes


class Keyed:
    """Order of calls: `begin`, `handle`, and `undo` if that raised; `changed` and `flushed`."""

    def __init__(self, spec: Spec, rows: Rows, counters: Counters, metrics: Prequential) -> None:
        self.spec = spec
        self._guard = Guard(spec)
        self._counters = counters
        self._metrics = metrics
        self._measured = bool(spec.metrics) and spec.label is not None
        self.form = form_of(spec)
        self._supervised: bool = spec.build_model("")._supervised
        self._classes = spec.kind == "multiclass"
        self._nothing: Value = False if spec.kind in ("binary", "anomaly") else 0.0
        limits = SlotLimits(spec.state.hot_keys_max, spec.state.idle_ttl_ms, spec.shared)
        self.slots = Slots(rows, self.form, limits)
        label = spec.label
        self._later = LaterLabels(label, spec.state.pending_max) if label and label.later else None
        paths = {feature.path: name for name, feature in spec.features.items()}
        self._present = paths.get(label.path) if label else None
        self._suspect: Parked | None = None  # the parked event that is being learned from
        self.forecast = self.form.forecast
        self._apply = self.form.learn
        self.decide = simple_policy(spec)
        adjust = spec.decide
        self.adjuster = (
            Adjuster(adjust, spec, self.forecast) if isinstance(adjust, Adjust) else None
        )

    def present(self, x: dict[str, Any]) -> float | None:
        """The labelled field's value, where a feature reads the same field; else None."""
        return x.get(self._present) if self._present is not None else None

    # -- one event ---------------------------------------------------------------------------

    def begin(self, event: Event, now: int) -> Slot:
        """The event's slot. Reads rows; the model's own faults cannot show here."""
        return self.slots.touch(event.key, now)

    def handle(self, slot: Slot, event: Event, raw: bytes, now: int, learning: bool) -> Choice:
        """Predict, decide and learn. Raises whatever a model raises, and EventError.

        `raw` is the record's value; `now` the log time.
        """
        if self._later is not None:
            return self._handle_later(self._later, slot, event, now, learning)
        model_slot = self.slots.shared or slot
        x, y = event.x, event.y
        forecast = self.forecast(model_slot.model, x)
        if self.adjuster is None:
            choice = self.decide(forecast, model_slot.updates)
        else:
            choice = self.adjuster.choose(model_slot.model, x, self._setting(slot, event, now, 0))
        if learning:
            guess = self._guess(slot, forecast) if self._measured else None
            if y is None and self._supervised:
                self._counters.unlabelled += 1
            elif not model_slot.full:
                self._learn(model_slot, x, y, event.extreme or is_extreme(forecast.score, y))
            # What may raise comes before what counts: `undo` takes back the model alone.
            if y is not None:
                self._judge(slot, y, guess)
            if not model_slot.full and not (y is None and self._supervised):
                self._learned(model_slot, slot, (Seen(event.key, raw),), now)
        slot.last_seen = now
        self.slots.mark(slot)
        return choice

    def undo(self, slot: Slot) -> str:
        """Make the model again as it was before the event that broke it.

        Returns a remark on why, empty if there is nothing to say. If it broke while it learned
        from a parked event, that event is dropped, or it would break every later one.
        """
        self.slots.rebuild(self.slots.shared or slot, self._replay)
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return ""
        slot.waiting = [parked for parked in slot.waiting if parked.offset != suspect.offset]
        self._counters.labels_lost += 1
        self.slots.mark(slot)
        return f" (while it learned the label of the event at offset {suspect.offset})"

    def _handle_later(
        self, rule: LaterLabels, slot: Slot, event: Event, now: int, learning: bool
    ) -> Choice:
        model_slot = self.slots.shared or slot
        value = event.y
        # The slot keeps what it had until nothing can fail any more.
        waiting = rule.restamp(slot.waiting, now) if learning else slot.waiting
        due = rule.due(waiting, now, value) if learning and value is not None else []
        if not model_slot.full:
            for parked, y in due:
                self._suspect = parked
                self._learn(model_slot, parked.x, y, is_extreme(parked.guess.score, y))
            self._suspect = None
        forecast = self.forecast(model_slot.model, event.x)
        learned = 0 if model_slot.full else len(due)
        if self.adjuster is None:
            choice = self.decide(forecast, model_slot.updates + learned)
        else:
            setting = self._setting(slot, event, now, learned)
            choice = self.adjuster.choose(model_slot.model, event.x, setting)
        if due:
            for parked, y in due:
                self._judge(slot, y, parked.guess)
            if not model_slot.full:
                self._learned(model_slot, slot, [(parked.x, y) for parked, y in due], now)
        slot.waiting = waiting[len(due) :]
        if learning:
            self._park(rule, slot, event, forecast, now)
        slot.last_seen = now
        self.slots.mark(slot)
        return choice

    # -- rows --------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows that changed since the last `flushed`."""
        return self.slots.changed()

    def flushed(self) -> list[Any]:
        """Those rows are durable now; returns what is spent, as `Slots.flushed` does."""
        return self.slots.flushed()

    def sweep(self, rows: Iterable[tuple[bytes, bytes]], now: int) -> list[bytes]:
        """Rows of idle keys that may be deleted now."""
        return self.slots.sweep(rows, now)

    def forget(self, key: str) -> None:
        """Let go of what is in memory of a key."""
        self.slots.forget(key)

    # -- later labels ------------------------------------------------------------------------

    def _park(
        self, rule: LaterLabels, slot: Slot, event: Event, forecast: Forecast, now: int
    ) -> None:
        value = event.y
        if value is None:
            self._counters.unlabelled += 1
            if rule.change:
                return  # a change since what is not known will never be known
        guess = self._guess(slot, forecast)
        guess.latest = 0.0 if rule.change else value
        base = _number(value) if rule.change else None
        parked = Parked(now, event.offset, event.x, base, guess)
        slot.waiting, lost = rule.park(slot.waiting, parked)
        self._counters.labels_lost += lost

    # -- learning ----------------------------------------------------------------------------

    def _learn(self, model_slot: Slot, x: dict[str, Any], y: Any, extreme: bool) -> None:
        """One learn operation on the model alone. Extreme numbers call for a look at it after."""
        if not extreme:
            self._apply(model_slot.model, x, y)
            return
        before = census(self.form.encode(model_slot.model)) if is_enormous(x, None, y) else None
        self._apply(model_slot.model, x, y)
        try:
            self.forecast(model_slot.model, x)
            finite = before is None or before.allows(census(self.form.encode(model_slot.model)))
        except EventError:
            finite = False
        if not finite:
            text = "learning from this event would make the model NaN or infinite"
            raise EventError("model_not_finite", text)

    def _replay(self, model: Any, operation: Operation) -> None:
        """Do a learn operation of the journal again."""
        if not isinstance(operation, Seen):
            self._apply(model, *operation)
            return
        event = self._guard.admit(_Again(0, 0, operation.key.encode(), operation.value))
        assert isinstance(event, Event)  # it was admitted before, and the guard has no memory
        self._apply(model, event.x, event.y)

    def _learned(
        self, model_slot: Slot, slot: Slot, operations: Sequence[Operation], now: int
    ) -> None:
        """Note what the model has learned: from here on it counts and stays."""
        count = len(operations)
        self.slots.record(model_slot, operations)
        self._counters.learned += count
        model_slot.updates += count
        model_slot.last_learned = now
        if model_slot is not slot:
            model_slot.dirty = True
            slot.updates += count
            slot.last_learned = now
        # The size is looked at by the number of updates and not at the flush, so that a replay
        # finds it at the same event.
        if _size_is_due(model_slot.updates, count) and self._outgrown(model_slot):
            model_slot.full = True
            self._counters.keys_full += 1

    def _outgrown(self, model_slot: Slot) -> bool:
        return len(self.form.encode(model_slot.model)) > self.spec.state.row_bytes_max

    def _judge(self, slot: Slot, y: Any, guess: Guess | None) -> None:
        """Tell the metrics and the baseline of a label that is known now."""
        if guess is not None and self._measured:
            self._metrics.update(y, guess)
        if self._classes:
            slot.baseline.learn_class(y)
        else:
            slot.baseline.learn_number(y)

    def _guess(self, slot: Slot, forecast: Forecast) -> Guess:
        baseline = slot.baseline
        said, score, shares = forecast.label, forecast.score, forecast.probabilities
        if self._classes:
            return Guess(said, score, shares, baseline.majority(), baseline.last)
        latest = baseline.last if baseline.count else self._nothing
        return Guess(said, score, shares, baseline.mean, latest)

    def _setting(self, slot: Slot, event: Event, now: int, due: int) -> Setting:
        """`due`: how many parked events the model has learned just now."""
        age = 0 if due else now - slot.last_learned if slot.updates else None
        return Setting(_number(event.y), event.setpoint, slot.updates + due, age)


def _number(value: Value | None) -> float | None:
    return None if value is None or isinstance(value, str) else value


def _size_is_due(updates: int, added: int) -> bool:
    """Whether a power of two from 64, or a multiple of 8,192, is among the last `added` updates.

    >>> [n for n in range(1, 300) if _size_is_due(n, 1)], _size_is_due(67, 4)
    ([64, 128, 256], True)
    """
    if updates < SIZE_CHECK:
        return updates >= 64 and updates.bit_length() > (updates - added).bit_length()
    return updates // SIZE_CHECK > (updates - added) // SIZE_CHECK
