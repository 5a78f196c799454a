"""Reads of live models: answers to questions, and a key's portrait. Nothing here changes anything.

A key that is unknown, or has been idle too long, is answered from a new model and says `cold`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from headrace.errors import EventError, NotFoundError, RequestError
from headrace.models import codec
from headrace.models.decisions import Origin
from headrace.models.forecasts import Forecast
from headrace.models.keyed import Keyed
from headrace.models.policies import Choice, Setting
from headrace.models.portrait import portrait
from headrace.models.recommend.ranked import NOBODY, Ranked
from headrace.models.slots import Slot
from headrace.views import Answer, KeyView, Question, ScoredItem, Standing


class ReadAt(NamedTuple):
    """Which state is read: the shard's, at its next offset and log time."""

    origin: Origin
    next_offset: int
    log_time: int

    def standing(self, *, cold: bool, updates: int) -> Standing:
        """How an answer names that state."""
        origin = self.origin
        return Standing(
            agent=origin.agent,
            spec_version=origin.spec_version,
            epoch=origin.epoch,
            topic=origin.topic,
            partition=origin.partition,
            offset=self.next_offset,
            cold=cold,
            updates=updates,
        )


def answer(engine: Keyed | Ranked, question: Question, x: dict[str, Any], at: ReadAt) -> Answer:
    """What the model says of a question and what the policy would decide.

    Raises RequestError (`score_not_finite`) if the model has no finite answer.
    """
    try:
        if isinstance(engine, Ranked):
            return _ranking(engine, question, at)
        return _forecast(engine, question, x, at)
    except EventError as error:
        raise RequestError(error.code, error.text) from error


def key_view(engine: Keyed | Ranked, key: str, at: ReadAt) -> KeyView:
    """The key as it stands. Raises NotFoundError for a key without state."""
    slot = engine.slots.peek(key, at.log_time)
    if slot is None or slot.last_seen < 0:
        text = f"no event of key {key!r} has been accepted, or none for very long"
        raise NotFoundError("unknown_key", text)
    row = engine.slots.pack(slot)
    updates = slot.updates
    if isinstance(engine, Ranked):
        row += engine.model.row(key) or b""
        shown = engine.model.describe(key)
    else:
        model_slot = engine.slots.shared or slot
        updates = model_slot.updates
        shown = portrait(codec.decode(engine.form.encode(model_slot.model)))
    return KeyView(
        standing=at.standing(cold=updates == 0, updates=updates),
        key=key,
        last_learned_ms=slot.last_learned if slot.updates else None,
        size_bytes=len(row),
        digest=codec.digest(row),
        model=shown,
        pending_labels=len(slot.waiting),
    )


def _ranking(engine: Ranked, question: Question, at: ReadAt) -> Answer:
    slot = engine.slots.peek(question.key, at.log_time)
    user = NOBODY if slot is None else question.key
    score = None if question.item is None else engine.rate(user, question.item)
    items: tuple[ScoredItem, ...] | None = None
    policy = engine.policy
    if policy is not None:
        k = policy.k if question.k is None else question.k
        items = engine.model.top(
            user, k, question.candidates, question.exclude, policy.exclude_seen
        )
    choice = engine.choice(0 if slot is None else slot.updates, score, items)
    return Answer(
        standing=at.standing(cold=choice.cold, updates=choice.updates),
        score=choice.score,
        decision=choice.decision,
        items=items or (),
    )


def _forecast(engine: Keyed, question: Question, x: dict[str, Any], at: ReadAt) -> Answer:
    slot = engine.slots.peek(question.key, at.log_time)
    model_slot = engine.slots.shared or slot
    model = engine.form.new(question.key) if model_slot is None else model_slot.model
    forecast = engine.forecast(model, x)
    choice = _choose(engine, (model_slot, slot, model), x, (forecast, question, at))
    shares = forecast.probabilities or {}
    return Answer(
        standing=at.standing(cold=choice.cold, updates=choice.updates),
        score=choice.score,
        label=None if forecast.label is None else _text(forecast.label),
        probabilities={_text(name): share for name, share in shares.items()},
        decision=choice.decision,
        value=choice.value,
    )


def _choose(
    engine: Keyed,
    held: tuple[Slot | None, Slot | None, Any],
    x: dict[str, Any],
    asked: tuple[Forecast, Question, ReadAt],
) -> Choice:
    model_slot, slot, model = held
    forecast, question, at = asked
    if engine.adjuster is None:
        return engine.decide(forecast, 0 if model_slot is None else model_slot.updates)
    known = slot is not None and slot.updates > 0
    setting = Setting(
        present=engine.present(x),
        setpoint=question.setpoint,
        updates=slot.updates if slot is not None else 0,
        age_ms=at.log_time - slot.last_learned if slot is not None and known else None,
    )
    return engine.adjuster.choose(model, x, setting)


def _text(label: Any) -> str:
    """A class as text; booleans as in JSON."""
    return str(label).lower() if isinstance(label, bool) else str(label)
