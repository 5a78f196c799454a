"""The fold itself: records in, every key's state and every decision out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tests.fold.asking import RIVER_ERRORS, Chosen, Moment, Said, ask, choose, is_extreme
from tests.fold.control import Course, Migration, Rollback
from tests.fold.erased import erase, is_gone
from tests.fold.excluded import is_excluded
from tests.fold.oracle import Oracle, Origin
from tests.fold.reading import Entry, Event, Refused, read
from tests.fold.state import STAMPS, Folded, KeyFold, Simple, Waiting


def fold(
    oracle: Oracle,
    origin: Origin,
    records: Iterable[Entry],
    course: Course,
    versions: Mapping[str, Oracle] | None = None,
) -> Folded:
    """Everything that follows from the records and from the commands that counted among them.

    `versions`: what the specs mean that migrations bring, by digest.
    """
    run = _Fold(oracle, origin, course, versions or {})
    for record in records:
        if record.offset >= course.start:
            run.come_to(record.offset)
            run.take(record, gone=run.is_gone(record, -1))
        else:
            run.taken.append(record)  # from before the agent began: a refold may learn it
    run.come_to(None)
    run.out.uncertain = sum(run.is_gone(record, None) for record in run.taken)
    run.out.idle = {key for key, state in run.out.keys.items() if run.is_idle(state)}
    return run.out


class _Fold:
    def __init__(
        self, oracle: Oracle, origin: Origin, course: Course, versions: Mapping[str, Oracle]
    ) -> None:
        self.oracle = oracle
        self._versions = versions
        self.origin = origin
        self.out = Folded()
        self.paused = False
        self._pauses = course.pauses
        self._ahead = list(course.replacements)
        self._forgets = course.forgets
        self._to_forget = [forgotten for forgotten in course.forgets if not forgotten.former]
        self._bases = {(r.base_epoch, r.base_offset) for r in course.replacements}
        self._kept: dict[tuple[int, int], _Fold] = {}
        self.taken: list[Entry] = []
        for position, records in course.imported.items():
            self._kept[0, position] = elsewhere = _Fold(oracle, origin, Course(), {})
            for record in records:
                elsewhere.take(record)

    def come_to(self, offset: int | None) -> None:
        """Do what counts before the record at `offset` (None: all that is left), and keep what a
        rollback will go back to.
        """
        while True:
            self._keep(offset)
            if self._ahead and self._is_next(self._ahead[0].at, offset):
                self._replace(self._ahead.pop(0))
            elif self._to_forget and self._is_next(self._to_forget[0].at, offset):
                erase(self._to_forget.pop(0), self.origin.agent, self.out.keys)
                self.out.forgets += 1
            else:
                break
        for at, paused in self._pauses:
            if offset is None or at <= offset:
                self.paused = paused

    def _is_next(self, at: int, offset: int | None) -> bool:
        """Whether what counts from there on is next, before the record at `offset`."""
        ahead = [r.at for r in self._ahead[:1]] + [f.at for f in self._to_forget[:1]]
        return at == min(ahead) and (offset is None or at <= offset)

    def _cleansed(self, rollback: Rollback | Migration) -> _Fold:
        """The base of it without the keys that have been forgotten since it was taken."""
        base = self._kept[rollback.base_epoch, rollback.base_offset]._copied()
        for forgotten in self._forgets:
            since = rollback.base_epoch == 0 or rollback.base_offset <= forgotten.at
            if since and forgotten.at <= rollback.at:
                erase(forgotten, self.origin.agent, base.out.keys)
        return base

    def is_gone(self, record: Entry, upto: int | None) -> bool:
        """See `erased.is_gone`."""
        return is_gone(self._forgets, self.origin.agent, record, upto)

    def _keep(self, offset: int | None) -> None:
        epoch = self.origin.epoch
        for base in self._bases - self._kept.keys():
            # In an epoch that ends here it was taken at the latest where that ended.
            if base[0] == epoch and (offset is None or base[1] <= offset):
                self._kept[base] = self._copied()

    def _copied(self) -> _Fold:
        """As it is now; states of keys are replaced, not altered, but for what waits."""
        kept = copy.copy(self)
        kept.out = copy.copy(self.out)
        kept.out.keys = {key: copy.copy(state) for key, state in self.out.keys.items()}
        kept.out.accepted, kept.out.refused, kept.out.decisions = set(), {}, {}
        kept._ahead, kept._bases, kept.taken, kept._to_forget = [], set(), [], []
        return kept

    def _again(self, run: _Fold, what: Rollback | Migration) -> Folded:
        """What came since the base, learned by `run` without what is excluded."""
        for record in self.taken:
            if what.base_offset <= record.offset < what.at:
                run.come_to(record.offset)
                if not is_excluded(what, record, self.origin):
                    run.take(record, gone=self.is_gone(record, what.at))
        return run.out

    def _seen(self) -> dict[str, KeyFold]:
        """All keys that somebody can see, as they are."""
        return {
            k: copy.copy(state) for k, state in self.out.keys.items() if not self.is_idle(state)
        }

    def _replace(self, what: Rollback | Migration) -> None:
        self.out.replaced += 1
        self.origin = replace(self.origin, epoch=what.epoch)
        if what.failed:
            return
        if isinstance(what, Migration):
            self._migrate(what)
        elif what.rewind:
            self._rewind(what)
        else:
            self._revert(what)

    def _migrate(self, migration: Migration) -> None:
        old, new = self.oracle, self._versions[migration.digest]
        if migration.how == "from":
            kept = self._kept[migration.base_epoch, migration.base_offset]
            assert kept.oracle.shape == new.shape
            self._revert(migration, resumes=old.shape == new.shape)
        elif migration.how != "keep":
            course = Course(pauses=self._pauses)
            run = _Fold(new, self.origin, course, {})
            begun = migration.how == "refold"
            self._become(self._again(run, migration) if begun else run.out)
        if migration.how in ("keep", "from"):
            assert new.tune is not None
            for state in self.out.keys.values():
                state.model = copy.deepcopy(state.model)
                new.tune(state.model)
        self.oracle = new
        self.origin = replace(self.origin, spec_version=migration.version)

    def _become(self, there: Folded) -> None:
        """All of another state, but what has been decided."""
        names = ("keys", "learned", "unlabelled", "labels_lost", "now", "stamps", "counted")
        for name in (*names, "counted_bad", "expired"):
            setattr(self.out, name, getattr(there, name))

    def _rewind(self, rollback: Rollback) -> None:
        run = self._cleansed(rollback)
        there, out = self._again(run, rollback), self.out
        if not rollback.keys:
            self._become(there)
            return
        for key in rollback.keys:
            out.keys.pop(key, None)
            if key in there.keys:
                out.keys[key] = there.keys[key]

    def _revert(self, rollback: Rollback | Migration, *, resumes: bool = True) -> None:
        """Not `resumes`: what waits now is for other models, and is dropped."""
        cleansed = self._cleansed(rollback)
        base, now = cleansed._seen(), self._seen() if resumes else {}
        scope = set(rollback.keys) or {*cleansed.out.keys, *self.out.keys}
        for key in scope:
            reverted = self._reverted(key, base.get(key), now.get(key), alone=bool(rollback.keys))
            idle = None if rollback.keys or reverted else cleansed.out.keys.get(key)
            if idle is not None and not idle.waiting:
                reverted = copy.copy(idle)  # it may still have its row
            if reverted is None:
                self.out.keys.pop(key, None)
            else:
                self.out.keys[key] = reverted

    def _reverted(
        self, key: str, base: KeyFold | None, now: KeyFold | None, *, alone: bool
    ) -> KeyFold | None:
        """The base's model, and the labels that are waited for now."""
        waiting = now.waiting if now is not None else []
        if base is None:
            if now is None or not waiting:
                return None
            return KeyFold(self.oracle.make(key), last_seen=now.last_seen, waiting=waiting)
        reverted = copy.copy(base)
        if alone or waiting or base.waiting:  # its row is written, and it is not idle for that
            reverted.waiting = waiting
            if now is not None:
                reverted.last_seen = max(base.last_seen, now.last_seen)
        return reverted

    def take(self, record: Entry, *, gone: bool = False) -> None:
        """One record; of one that is gone only the time."""
        self.taken.append(record)
        self.out.tick(record.timestamp)
        if gone:
            return
        try:
            event = read(self.oracle, record)
            chosen, updates = self._handle(record, event)
        except Refused as refused:
            self.out.refused[record.offset] = refused.code
            self.out.counted_bad += 1
            return
        self.out.accepted.add(record.offset)
        self.out.counted += 1
        if self.oracle.emit is None or chosen.decision in self.oracle.emit:
            self.out.decisions[record.offset] = self._record(record, event, chosen, updates)

    def is_idle(self, state: KeyFold) -> bool:
        """Whether a key has been away for too long; never before log time cannot fall any more."""
        ttl = self.oracle.idle_ttl_ms
        settled = len(self.out.stamps) == STAMPS
        return ttl is not None and settled and self.out.now - state.last_seen > ttl

    def _handle(self, record: Entry, event: Event) -> tuple[Chosen, int]:
        """Predict, decide, learn. Raises Refused; the key is then what it was."""
        there = self.out.keys.get(event.key)
        expired = there is not None and self.is_idle(there)
        if there is None or expired:
            state = KeyFold(self.oracle.make(event.key))
        else:
            state = copy.copy(there)
        label = self.oracle.label
        if label is not None and label.later:
            result = self._later(state, record, event)
        else:
            result = self._at_once(state, event)
        state.last_seen = self.out.now
        self.out.keys[event.key] = state
        self.out.expired += expired
        return result

    # -- the label is in the event -----------------------------------------------------------

    def _at_once(self, state: KeyFold, event: Event) -> tuple[Chosen, int]:
        oracle, out = self.oracle, self.out
        said = ask(oracle.kind, state.model, event.x)
        updates = state.updates
        chosen = choose(oracle, state.model, event.x, said, self._moment(state, event, 0))
        if self.paused:
            return chosen, updates
        if event.y is None and oracle.kind != "anomaly":
            out.unlabelled += 1
            return chosen, updates
        extreme = event.extreme or is_extreme(said, event.y)
        state.model = self._learned(state.model, event.x, event.y, extreme=extreme)
        state.updates += 1
        state.last_learned = out.now
        out.learned += 1
        if event.y is not None:
            state.simple = copy.deepcopy(state.simple)
            state.simple.learn(event.y, classes=oracle.kind == "multiclass")
        return chosen, updates

    # -- the label comes later ---------------------------------------------------------------

    def _later(self, state: KeyFold, record: Entry, event: Event) -> tuple[Chosen, int]:
        oracle, out = self.oracle, self.out
        due: list[tuple[Waiting, Any]] = []
        if not self.paused:
            state.waiting = self._restamped(state.waiting)
            due = self._due(state, event.y)
            for waited, y in due:
                state.model = self._learned_late(event.key, state, waited, y)
        said = ask(oracle.kind, state.model, event.x)
        updates = state.updates + len(due)
        chosen = choose(oracle, state.model, event.x, said, self._moment(state, event, len(due)))
        if due:
            state.simple = copy.deepcopy(state.simple)
            for _, y in due:
                state.simple.learn(y, classes=oracle.kind == "multiclass")
            state.updates = updates
            state.last_learned = out.now
            out.learned += len(due)
            state.waiting = state.waiting[len(due) :]
        if not self.paused:
            self._wait(state, record.offset, event, said)
        return chosen, updates

    def _restamped(self, waiting: list[Waiting]) -> list[Waiting]:
        """Nobody waits since later than those behind, or than now: log time may have fallen."""
        stamped: list[Waiting] = []
        least = self.out.now
        for waited in reversed(waiting):
            least = min(least, waited.since)
            stamped.insert(0, Waiting(**{**vars(waited), "since": least}))
        return stamped

    def _due(self, state: KeyFold, value: Any) -> list[tuple[Waiting, Any]]:
        label = self.oracle.label
        assert label is not None
        if value is None:
            return []
        ready = [w for w in state.waiting if w.since <= self.out.now - label.after_ms]
        return [
            (w, value - w.base if label.change and w.base is not None else value) for w in ready
        ]

    def _learned_late(self, key: str, state: KeyFold, waited: Waiting, y: Any) -> Any:
        score = waited.guess[1]
        extreme = is_extreme(Said(score=score), y)
        try:
            return self._learned(state.model, waited.x, y, extreme=extreme)
        except Refused:
            # The event that waited is dropped, or it would spoil every later one, too.
            there = self.out.keys[key]
            there.waiting = [w for w in there.waiting if w.offset != waited.offset]
            self.out.labels_lost += 1
            raise

    def _wait(self, state: KeyFold, offset: int, event: Event, said: Said) -> None:
        label = self.oracle.label
        assert label is not None
        if event.y is None:
            self.out.unlabelled += 1
            if label.change:
                return
        simple = state.simple
        usual = _commonest(simple) if self.oracle.kind == "multiclass" else simple.mean
        latest = 0.0 if label.change else event.y
        guess = (said.label, said.score, said.shares, usual, latest)
        base = event.y if label.change else None
        waiting = [*state.waiting, Waiting(self.out.now, offset, event.x, base, guess)]
        lost = max(len(waiting) - self.oracle.pending_max, 0)
        state.waiting = waiting[lost:]
        self.out.labels_lost += lost

    # -- both --------------------------------------------------------------------------------

    def _learned(self, model: Any, x: dict[str, Any], y: Any, *, extreme: bool) -> Any:
        """A copy of the model that has learned. Raises Refused if it would be spoilt."""
        after = copy.deepcopy(model)
        try:
            if self.oracle.kind == "anomaly":
                after.learn_one(dict(x))
            else:
                after.learn_one(dict(x), y)
        except RIVER_ERRORS:
            raise Refused("model_failed") from None
        if extreme:
            try:
                ask(self.oracle.kind, after, x)
            except Refused as refused:
                spoilt = refused.code == "score_not_finite"
                raise Refused("model_not_finite" if spoilt else refused.code) from None
        return after

    def _moment(self, state: KeyFold, event: Event, due: int) -> Moment:
        age = self.out.now - state.last_learned if state.updates else None
        present = event.y if isinstance(event.y, float) else None
        return Moment(present, state.updates + due, 0 if due else age)

    def _record(self, record: Entry, event: Event, chosen: Chosen, updates: int) -> dict[str, Any]:
        origin = self.origin
        position = {
            "topic": origin.topic,
            "partition": origin.partition,
            "offset": record.offset,
        }
        return {
            "cause": "event",
            "schema": 1,
            "id": origin.id_of(record.offset),
            "agent": origin.agent,
            "spec_version": origin.spec_version,
            "epoch": origin.epoch,
            "key": event.key,
            "position": position,
            "event_time": record.timestamp if event.time_ms is None else event.time_ms,
            "decision": chosen.decision,
            "score": chosen.score,
            "value": chosen.value,
            "items": None,
            "propensity": 1.0,
            "updates": updates,
            "cold": chosen.cold,
        }


def _commonest(simple: Simple) -> Any:
    classes = simple.classes
    return max(classes, key=lambda name: classes[name]) if classes else None
