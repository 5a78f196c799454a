"""Which decisions stand, by the control log alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.decisions import Decision, Origin
from headrace.pipelines import control
from headrace.pipelines.validity import Span, Validity, Withdrawal
from headrace.views import Partition, Position

WHERE = Partition("t", 0)


class History:
    """An agent's commands in one partition, each with the offset from which on it counts."""

    def __init__(self) -> None:
        self.registry = control.Registry()
        deploy = control.Deploy(id="d", agent="a", spec={}, digest="1", emit_topic="decided")
        self._apply(deploy, 0)
        self.epoch = 1

    def back(self, at: int, base: tuple[int, int], *keys: str, **more: Any) -> Withdrawal:
        """A rollback to the state of that epoch and offset."""
        failed = more.pop("failed", "")
        there = control.Base(partition=0, epoch=base[0], next_offset=base[1], digest="")
        command = control.Rollback(
            id=f"r{self.epoch}", agent="a", life=1, snapshot_id="s", bases=(there,), keys=keys,
            **more,
        )  # fmt: skip
        self.epoch += 1
        self._apply(command, at, failed)
        return self.newest()

    def newest(self) -> Withdrawal:
        """What the newest of its commands does."""
        return Withdrawal(Validity(self.registry.get("a"), WHERE), self.epoch)

    def migrate(self, at: int) -> None:
        """Another spec."""
        command = control.Migrate(
            id=f"m{self.epoch}",
            agent="a",
            life=1,
            how="reset",
            replaces=self.registry.get("a").deploy.digest,
            spec={},
            digest=str(self.epoch + 1),
            emit_topic="decided",
            partitions=1,
        )
        self.epoch += 1
        self._apply(command, at)

    def _apply(self, command: control.Command, at: int, failed: str = "") -> None:
        self.registry.apply(command, self.registry.next_offset)
        effect = control.ShardEffect(
            id=f"{command.id}/t/0", control_id=command.id, agent="a",
            epoch=self.registry.get("a").epoch, topic="t", partition=0, next_offset=at,
            worker="w", failed=failed,
        )  # fmt: skip
        self.registry.apply(effect, self.registry.next_offset)


def fates(withdrawal: Withdrawal, key: str = "ada") -> dict[str, list[int]]:
    """Of the key's decisions on the first 200 events, those that are not void."""
    found: dict[str, list[int]] = {}
    for offset in range(200):
        for epoch in range(1, withdrawal.epoch):
            origin = Origin("a", 1, epoch, *WHERE)
            decision = Decision(
                id=origin.decision_id(offset), agent="a", spec_version=1, epoch=epoch, key=key,
                position=Position(*WHERE, offset), event_time=0, decision="score",
            )  # fmt: skip
            fate = withdrawal.fate(decision)
            if withdrawal.validity.rank(decision) is not None and fate is not None:
                found.setdefault(fate, []).append(offset)
    return found


def test_a_rollback_withdraws_from_its_base_on() -> None:
    """A rewind, too; and what was withdrawn before is not withdrawn again."""
    history = History()
    assert fates(history.back(100, (1, 60), mode="rewind")) == {"withdrawn": [*range(60, 100)]}
    assert fates(history.back(120, (1, 40))) == {"withdrawn": [*range(40, 60), *range(100, 120)]}


def test_an_undo_and_the_undo_of_that_reinstate() -> None:
    """Each what the one before had withdrawn, and it withdraws what came between."""
    history = History()
    history.back(100, (1, 60))
    undo = {"withdrawn": [*range(100, 120)], "reinstated": [*range(60, 100)]}
    assert fates(history.back(120, (1, 100), undoes="r1")) == undo
    again = {
        "withdrawn": [*range(60, 100), *range(120, 130)],
        "reinstated": [*range(100, 120)],
    }
    assert fates(history.back(130, (2, 120), undoes="r2")) == again


def test_only_the_keys_of_a_rollback_are_concerned() -> None:
    """Until all go back: then those, too, from where they stood."""
    history = History()
    keyed = history.back(100, (1, 60), "ada")
    assert (fates(keyed), fates(keyed, "bob")) == ({"withdrawn": [*range(60, 100)]}, {})
    whole = history.back(120, (1, 80))
    assert fates(whole, "bob") == {"withdrawn": [*range(80, 120)]}
    assert fates(whole) == {"withdrawn": [*range(100, 120)], "reinstated": [*range(60, 80)]}


def test_an_imported_state_made_no_decision_here() -> None:
    """To go back to it withdraws all since the deploy; an undo reinstates that."""
    history = History()
    assert fates(history.back(100, (0, 7_000))) == {"withdrawn": [*range(100)]}
    undo = history.back(110, (1, 100), undoes="r1")
    assert fates(undo) == {"withdrawn": [*range(100, 110)], "reinstated": [*range(100)]}


def test_what_could_not_be_done_and_a_migration_withdraw_nothing() -> None:
    """And what they left standing is withdrawn by the next rollback."""
    history = History()
    failed = history.back(100, (1, 60), failed="damaged")
    assert (failed.concerned, fates(failed)) == (None, {})
    history.migrate(110)
    assert fates(history.back(130, (3, 120))) == {"withdrawn": [*range(120, 130)]}


class Step(NamedTuple):
    """A command that counts so many events later; a rollback to the state of that epoch, up to such
    a share of what it had learned, of these keys. A migration has no epoch.
    """

    later: int
    epoch: int | None
    share: float
    keys: frozenset[str]
    failed: bool


KEYS = ("ada", "bob", "eve")


@st.composite
def courses(draw: st.DrawFn) -> list[Step]:
    """Rollbacks and migrations; epoch 0 is that of an imported state."""

    def step(epoch: int) -> Step:
        return Step(
            later=draw(st.integers(0, 20)),
            epoch=draw(st.none() | st.integers(0, epoch)),
            share=draw(st.floats(0, 1)),
            keys=draw(st.frozensets(st.sampled_from(KEYS[:2]))),
            failed=draw(st.integers(0, 9)) == 0,
        )

    return [step(epoch) for epoch in range(1, 1 + draw(st.integers(1, 9)))]


def simply(steps: list[Step]) -> Iterator[tuple[Step, int, int, dict[str, dict[str, list[int]]]]]:
    """Of each step: where it counts, the offset that it goes back to, and by key the fates of all
    decisions. With sets of the offsets that stand, event by event.
    """
    at, begins = 0, {1: 0}
    first = {(1, key): frozenset[int]() for key in KEYS}  # what stands where an epoch begins

    def standing(epoch: int, upto: int, key: str) -> frozenset[int]:
        there = first.get((epoch, key), frozenset[int]()) | {*range(begins.get(epoch, upto), upto)}
        return frozenset(offset for offset in there if offset < upto)

    for epoch, step in enumerate(steps, 2):
        at += step.later
        begins[epoch] = at
        base = int(step.share * at) if step.epoch in (None, 0) else _base(begins, step, at)
        fates: dict[str, dict[str, list[int]]] = {}
        for key in KEYS:
            before = after = standing(epoch - 1, at, key)
            if step.epoch is not None and not step.failed and (not step.keys or key in step.keys):
                after = standing(step.epoch, base, key)
            first[epoch, key] = after
            both = {"withdrawn": sorted(before - after), "reinstated": sorted(after - before)}
            fates[key] = {fate: offsets for fate, offsets in both.items() if offsets}
        yield step, at, base, fates


def _base(begins: dict[int, int], step: Step, at: int) -> int:
    """A position of a state of that epoch."""
    assert step.epoch is not None
    begin, end = begins[step.epoch], begins.get(step.epoch + 1, at)
    return begin + int(step.share * (end - begin))


@settings(deadline=None)
@given(courses())
def test_the_fates_are_those_of_a_reckoning_with_sets(steps: list[Step]) -> None:
    """Of every key, through any course; and none lies outside of what is concerned. Beforehand it
    can be told how many events they are of.
    """
    history = History()
    for step, at, base, must in simply(steps):
        if step.epoch is None:
            history.migrate(at)
            continue
        failed = "damaged" if step.failed else ""
        there = control.Base(partition=0, epoch=step.epoch, next_offset=base, digest="")
        validity = Validity(history.registry.get("a"), WHERE)
        prospect = validity.prospect(there, tuple(sorted(step.keys)), at)
        if not failed:
            both = ("withdrawn", "reinstated")
            told = [{n for each in must.values() for n in each.get(fate, ())} for fate in both]
            assert prospect == tuple(map(len, told))
        found = history.back(at, (step.epoch, base), *sorted(step.keys), failed=failed)
        assert {key: fates(found, key) for key in KEYS} == must
        offsets = [n for of_key in must.values() for fate in of_key.values() for n in fate]
        concerned = Span(min(offsets), max(offsets) + 1) if offsets else None
        assert found.concerned == concerned


def test_keys_that_the_same_rollbacks_name_are_reckoned_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many they are: two ways for each kind of key, before and after."""
    asked: list[int] = []
    spans = Validity.spans

    def counting(self: Validity, epoch: int, *more: Any) -> Any:
        asked.append(epoch)
        return spans(self, epoch, *more)

    monkeypatch.setattr(Validity, "spans", counting)
    history, keys = History(), [f"customer {n}" for n in range(1_000)]
    for n in range(3):
        history.back(100 * n + 100, (1 + n, 100 * n), *keys)
    asked.clear()
    history.back(400, (1, 60))
    assert len(asked) == 4
