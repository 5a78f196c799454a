"""Bad events between good ones: no model is touched, whatever a producer sends."""

from __future__ import annotations

import pytest

from headrace.errors import EventError
from headrace.models.guard import REASONS, Event, Guard, Refusal
from headrace.models.learner import Learner
from headrace.ports import Record
from tests.hostile.events import plainly_bad, run_events, run_values
from tests.hostile.targets import TARGETS, Target, raw
from tests.hostile.wounds import WOUNDS, Wounder

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_bad_events_leave_no_trace(target: Target) -> None:
    """Thousands of bad events: each refused once with a reason, each row as without them."""
    afternoon = run_events(target, 6_000, "events")
    assert afternoon.findings == []
    assert sum(afternoon.refused.values()) > 5_000
    assert set(afternoon.refused) <= set(REASONS)


@each_target
def test_any_values_in_an_event(target: Target) -> None:
    """Whatever JSON values stand in the fields, the event is sound or refused with a reason."""
    assert run_values(target, 200, 1).findings == []


@each_target
def test_what_is_made_bad_is_bad(target: Target) -> None:
    """The wounds do hurt: Python alone agrees about most, without knowing the guard."""
    wounder = Wounder(target, "wounds")
    bad = [wounder.bad(number) for number in range(2_000)]
    assert {each.how for each in bad} == {*WOUNDS, "foreign_key", "large"}
    seen = sum(plainly_bad(target, each.key, each.value) for each in bad)
    assert 0.85 * len(bad) < seen < len(bad)
    good = [target.good(number) for number in range(100)]
    for document in good:
        key = document
        for name in target.key:
            key = key[name]
        assert not plainly_bad(target, str(key).encode(), raw(document))


class Open(Guard):
    """A guard without one of its protections: what it would refuse for a reason, it learns."""

    def __init__(self, guard: Guard, reason: str) -> None:
        self.__dict__.update(guard.__dict__)
        self._reason = reason

    def admit(self, record: Record) -> Event | Refusal:
        admitted = super().admit(record)
        if isinstance(admitted, Refusal) and admitted.code == self._reason:
            good = TARGETS["cards"].good(record.offset)
            event = super().admit(_Again(record, raw(good), good["card"]["id"].encode()))
            assert isinstance(event, Event)
            return event
        return admitted


class _Again:
    def __init__(self, record: Record, value: bytes, key: bytes) -> None:
        self.offset, self.timestamp = record.offset, record.timestamp
        self.value, self.key = value, key


@pytest.mark.parametrize("reason", ["out_of_range", "not_finite", "key_mismatch", "bad_json"])
def test_a_guard_that_lets_something_through_is_found(reason: str) -> None:
    """With one protection taken away, the same afternoon has findings."""

    def open_up(learner: Learner) -> None:
        learner._guard = Open(learner._guard, reason)

    afternoon = run_events(TARGETS["cards"], 600, "events", hand=open_up)
    assert any("accepted" in finding for finding in afternoon.findings)


def test_a_model_that_keeps_what_was_refused_is_found() -> None:
    """Without undoing, an event that is refused after it was learned shows in the key's digest."""

    def spoil(learner: Learner) -> None:
        handle = learner._engine.handle

        def learn_then_refuse(*given: object) -> object:
            choice = handle(*given)  # type: ignore[arg-type]
            if learner.counters.accepted % 50 == 49:
                raise EventError("model_failed", "after it has learned")
            return choice

        learner._engine.handle = learn_then_refuse  # type: ignore[method-assign,assignment]
        learner._engine.undo = lambda slot: ""  # type: ignore[method-assign]

    assert run_events(TARGETS["cards"], 600, "events", hand=spoil).findings != []
