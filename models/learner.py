"""The pure step: guard → features → predict → decide → learn, record by record, in log order.

No I/O but reading rows, no clock, no Kafka: the same records over the same rows give the same
decisions and the same rows, in whatever batches they come and wherever a restart falls between
them. The service, the backtest and the tests run this one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from headrace.errors import EventError, StateError
from headrace.models.answers import ReadAt, answer, key_view
from headrace.models.decisions import Decision, Origin
from headrace.models.guard import Event, Guard, Refusal
from headrace.models.keyed import Counters, Keyed
from headrace.models.logtime import LogTime
from headrace.models.metrics import Prequential
from headrace.models.panics import is_panic
from headrace.models.policies import Choice
from headrace.models.recommend.ranked import Ranked
from headrace.models.row_reading import RowReading
from headrace.models.spec import Recommend, Spec
from headrace.ports import Record, Rows
from headrace.views import Answer, KeyView, MetricView, Position, Question

COUNTERS_ROW = b"s/counters"
LOGTIME_ROW = b"s/logtime"

_COUNTERS_DECODER = msgspec.msgpack.Decoder(Counters)


class Outcome(msgspec.Struct):
    """What a batch of records came to, each list in offset order."""

    decisions: list[Decision]
    refusals: list[Refusal]


class Learner:
    """All models of one shard and what they decide.

    Order of calls: `step` for each batch in log order; at a flush all of `changed`, then, when
    those rows are durable, `flushed`. Between these two there is no `step`. `predict`, `describe`
    and `metrics` read at any time and change nothing.

    >>> from headrace.models.memory_rows import MemoryRows
    >>> from headrace.models.spec import load_spec
    >>> from headrace.models.event_file import EventFile
    >>> spec = load_spec('''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}}, metrics: [MAE],
    ...  model: linear_model.LinearRegression, label: {field: $.y}}''')
    >>> learner = Learner(spec, Origin("a", 1, 0, "t", 0), MemoryRows())
    >>> events = [{"id": "ada", "x": 1.0, "y": 2.0}, {"id": "ada", "x": 2.0, "y": 4.0}]
    >>> outcome = learner.step(list(EventFile(spec, events)))
    >>> [(decision.id, round(decision.score, 4)) for decision in outcome.decisions]
    [('a/0/t/0/0', 0.0), ('a/0/t/0/1', 0.12)]
    >>> [row for row, _ in learner.changed()]
    [b'k/ada', b's/metrics', b's/counters', b's/logtime']
    """

    def __init__(self, spec: Spec, origin: Origin, rows: Rows) -> None:
        self.spec = spec
        self.origin = origin
        self._guard = Guard(spec)
        k = spec.decide.k if isinstance(spec.decide, Recommend) else 10
        self._metrics = Prequential(spec.metrics, spec.kind, k=k)
        self.counters = Counters()
        self._time = LogTime()
        engine = Ranked if spec.kind == "ranker" else Keyed
        with RowReading():
            self._metrics.load(rows)
            saved = rows.get(COUNTERS_ROW)
            if saved is not None:
                self.counters = _COUNTERS_DECODER.decode(saved)
            saved = rows.get(LOGTIME_ROW)
            if saved is not None:
                self._time.load(saved)
            self._engine: Keyed | Ranked = engine(spec, rows, self.counters, self._metrics)
            self._engine.slots.expires = self._time.settled
        self._stepped = False
        self._id = origin.decision_id(0)[:-1]
        self._wanted = None if spec.emit.when is None else frozenset(spec.emit.when)

    # -- writing -----------------------------------------------------------------------------

    def step(
        self,
        records: Sequence[Record],
        *,
        learning: bool = True,
        forgotten: Callable[[Record], bool] | None = None,
    ) -> Outcome:
        """Handle records in log order. With `learning` off it predicts and decides only: nothing
        is learned, parked or measured. Of those that are `forgotten` only the time is seen, which
        is every key's.
        """
        self._stepped = self._stepped or bool(records)
        outcome = Outcome([], [])
        observe, admit, wanted = self._time.observe, self._guard.admit, self._wanted
        engine, counters = self._engine, self.counters
        slots, time = engine.slots, self._time
        for record in records:
            now = observe(record.timestamp)
            slots.expires = time.settled
            if forgotten is not None and forgotten(record):
                continue
            event = admit(record)
            if isinstance(event, Refusal):
                counters.quarantined += 1
                outcome.refusals.append(event)
                continue
            slot = engine.begin(event, now)
            try:
                choice = engine.handle(slot, event, record.value or b"", now, learning)
            except BaseException as error:
                # The one broad handler of this room: whatever a model raises is the event's fault,
                # Rust panics included, which are no Exceptions.
                if not isinstance(error, Exception) and not is_panic(error):
                    raise
                if isinstance(error, StateError | MemoryError):
                    raise
                counters.quarantined += 1
                outcome.refusals.append(_refusal(record.offset, error, engine.undo(slot)))
                continue
            counters.accepted += 1
            if wanted is None or choice.decision in wanted:
                outcome.decisions.append(self._decision(record, event, choice))
        return outcome

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows that changed since the last `flushed`, one by one; None for a deleted one."""
        yield from self._engine.changed()
        if self._stepped:
            yield from self._metrics.changed()
            yield COUNTERS_ROW, msgspec.msgpack.encode(self.counters)
            yield LOGTIME_ROW, self._time.dump()

    def flushed(self) -> list[Any]:
        """Those rows are durable: forget what was kept in case they would not be, cool down.

        Returns what is spent. Nobody needs it, but to free it takes time: see `Slots.flushed`.
        """
        self._metrics.flushed()
        self._stepped = False
        return self._engine.flushed()

    def sweep(self, rows: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """Which of these durable rows belong to keys idle for too long and may be deleted.

        Deleting them changes nothing that anybody can see, so it may happen at any time.
        """
        return self._engine.sweep(rows, self._time.now)

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of all that is in memory of these keys, whose rows are being deleted. What a
        ranker's items have learned from them stays.
        """
        for key in keys:
            self._engine.forget(key)

    def cool(self, count: int) -> int:
        """Let go of up to `count` live keys that are on disk, the longest unused; how many went."""
        return self._engine.slots.cool(count)

    # -- reading -----------------------------------------------------------------------------

    @property
    def dirty_keys(self) -> int:
        """How many keys changed since the last flush."""
        return self._engine.slots.dirty

    @property
    def log_time(self) -> int:
        """Milliseconds: the shard's log time at the last record."""
        return self._time.now

    @property
    def keys_hot(self) -> int:
        """How many keys are held as live objects."""
        return self._engine.slots.hot

    @property
    def hot_bytes(self) -> int:
        """About how much memory the live keys take."""
        return self._engine.slots.hot_bytes

    @property
    def accepted(self) -> int:
        """Events that reached a model."""
        return self.counters.accepted

    @property
    def quarantined(self) -> int:
        """Records that were refused."""
        return self.counters.quarantined

    @property
    def learned(self) -> int:
        """Learn operations."""
        return self.counters.learned

    @property
    def unlabelled(self) -> int:
        """Accepted events whose label was empty."""
        return self.counters.unlabelled

    @property
    def labels_lost(self) -> int:
        """Parked events dropped because too many waited, or because their label broke the model."""
        return self.counters.labels_lost

    @property
    def keys_full(self) -> int:
        """Keys that learn no more because their rows outgrew the spec's bound."""
        return self.counters.keys_full

    def metrics(self) -> list[MetricView]:
        """The prequential metrics, each beside its baseline."""
        return self._metrics.views()

    def predict(self, question: Question, next_offset: int) -> Answer:
        """What the key's model says now and what would be decided. Changes nothing.

        Raises RequestError for features that the spec does not declare or that are not sound.
        """
        x = self._guard.question(question.features, question.setpoint)
        return answer(self._engine, question, x, self._read_at(next_offset))

    def describe(self, key: str, next_offset: int) -> KeyView:
        """The key as it stands. Raises NotFoundError for a key without state."""
        return key_view(self._engine, key, self._read_at(next_offset))

    def _read_at(self, next_offset: int) -> ReadAt:
        return ReadAt(self.origin, next_offset, self._time.now)

    def _decision(self, record: Record, event: Event, choice: Choice) -> Decision:
        origin = self.origin
        offset = record.offset
        return Decision(
            id=self._id + str(offset),
            agent=origin.agent,
            spec_version=origin.spec_version,
            epoch=origin.epoch,
            key=event.key,
            position=Position(origin.topic, origin.partition, offset),
            event_time=record.timestamp if event.time_ms is None else event.time_ms,
            decision=choice.decision,
            score=choice.score,
            value=choice.value,
            items=choice.items,
            updates=choice.updates,
            cold=choice.cold,
        )


def _refusal(offset: int, error: BaseException, remark: str) -> Refusal:
    if isinstance(error, EventError):
        return Refusal(offset, error.code, error.text + remark, error.path)
    return Refusal(offset, "model_failed", f"{type(error).__name__}: {str(error)[:200]}{remark}")
