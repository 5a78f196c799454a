"""A small real backend: one agent, its features checked, its answers from a dict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from headrace.errors import (
    ConflictError,
    EventError,
    HeadraceError,
    NotFoundError,
    OverloadError,
    RequestError,
    UnavailableError,
    Violation,
)
from headrace.models.spec import load_spec
from headrace.serving.backend import Backend
from headrace.views import (
    AgentView,
    Answer,
    DryRun,
    Effect,
    KeyView,
    MetricView,
    Migration,
    MigrationPlan,
    NewestSnapshot,
    Position,
    Question,
    Refusals,
    ScoredItem,
    ShardView,
    SnapshotsStanding,
    Standing,
)
from tests.serving.carried import Carried
from tests.serving.erased import Erased
from tests.serving.history import Done, Kept
from tests.serving.past import Remembered

SPEC = """
agent: card-fraud
source: {topic: transactions, key: $.card_id}
features: {amount: {type: number, range: [0, 1e6]}, foreign: {type: boolean, missing: false}}
model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
label: {field: $.fraud}
decide: {verdict: {block: 0.9, review: 0.6, else: allow}}
"""
ANSWERS = {"4711": 0.95, "4712": 0.61, "cold": 0.5}
TYPES: dict[str, type[float]] = {"amount": float, "foreign": bool}


def standing(key: str, offset: int) -> Standing:
    return Standing(
        agent="card-fraud",
        spec_version=1,
        epoch=3,
        topic="transactions",
        partition=0,
        offset=offset,
        cold=key == "cold",
        updates=0 if key == "cold" else 12,
        behind=3,
        heard_ms=40,
    )


def view(name: str = "card-fraud", state: str = "running") -> AgentView:
    return AgentView(
        name=name,
        spec_version=1,
        epoch=3,
        digest="d" * 64,
        state=state,
        spec={"agent": name, "source": {"topic": "transactions"}},
        shards=(
            ShardView(
                topic="transactions",
                partition=0,
                next_offset=90,
                durable_offset=80,
                end_offset=100,
                keys_hot=7,
                accepted=88,
                quarantined=2,
                learned=81,
                paused=state == "paused",
                heard_ms=1500,
                waits_for="room",
            ),
        ),
        metrics=(
            MetricView(
                name="F1",
                value=0.87,
                baseline=0.5,
                baseline_name="majority",
                bigger_is_better=True,
                events=88,
            ),
        ),
        note="",
    )


class World:
    """Implements every port, or has it. `fault` is raised by the next call of any of them."""

    def __init__(self) -> None:
        self.views = {"card-fraud": view()}
        self.digests = {"card-fraud": "d" * 64}
        self.migrated: list[Migration] = []
        self.log: list[bytes] = []
        self.keys: list[str] = []  # of the events in it
        self.refuses = ""  # why no event is taken
        self.away_from: int | None = None  # the broker is away once the log is so long
        self.shed_from: int | None = None  # and so long, calls that bring many events fail of
        self.shed: Exception = OverloadError("overloaded", "too many calls", retry_s=0.1)
        self.records: list[bytes] = [b'{"id":"a"}', b'{"id":"b"}']
        self.endless = False
        self.is_ready = True
        self.away_s = 0.0
        self.fault: BaseException | None = None
        self.hold: asyncio.Event | None = None  # control calls wait for it
        self.waiting = asyncio.Event()  # set by the first that does
        self.feeds_open = 0
        self.feed_opened = asyncio.Event()
        self.feed_closed = asyncio.Event()
        self.snapshots = Kept(self._check)
        self.forgets = Erased(self._check)
        self.rollbacks = Done(self._check, self.snapshots)
        self.past = Remembered(self._check, self.predict)
        self.archives = Carried(self._check, self.snapshots)

    @property
    def backend(self) -> Backend:
        return Backend(
            predictor=self,
            directory=self,
            specs=self,
            controls=self,
            sink=self,
            feed=self,
            snapshots=self.snapshots,
            rollbacks=self.rollbacks,
            past=self.past,
            forgets=self.forgets,
            archives=self.archives,
        )

    def _check(self, agent: str | None = None) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        if agent is not None and agent not in self.views:
            raise NotFoundError("unknown_agent", f"no agent {agent!r}", agent=agent)

    def _check_ready(self) -> None:
        if not self.is_ready:
            raise UnavailableError("not_ready", "the worker is starting: ask again in a moment")

    # -- Predictor

    def predict(self, question: Question) -> Answer:
        self._check_ready()
        self._check(question.agent)
        for name, value in question.features.items():
            path = f"features.{name}"
            if name not in TYPES:
                raise _refused("unknown_feature", path, "the agent has no such feature")
            if type(value) is not TYPES[name]:
                raise _refused("wrong_type", path, f"is not a {TYPES[name].__name__}")
            if not 0 <= float(value) <= 1e6:
                raise _refused("out_of_range", path, "must lie in 0..1e6")
        score = ANSWERS.get(question.key, 0.1)
        return Answer(
            standing=standing(question.key, 90),
            score=score,
            label="true" if score >= 0.5 else "false",
            probabilities={"true": score, "false": 1 - score},
            decision="block" if score >= 0.9 else "review" if score >= 0.6 else "allow",
            value=question.setpoint,
            items=tuple(ScoredItem(item=i, score=1.0) for i in question.candidates or ()),
        )

    def key(self, agent: str, key: str) -> KeyView:
        self._check_ready()
        self._check(agent)
        if key not in ANSWERS:
            raise NotFoundError("unknown_key", f"key {key!r} was never seen", key=key)
        return KeyView(
            standing=standing(key, 90),
            key=key,
            last_learned_ms=1_700_000_000_000,
            size_bytes=1500,
            digest="e" * 64,
            model={"weights": {"amount": 0.25}, "scale": float("nan"), "kind": complex(1, 2)},
            pending_labels=1,
        )

    # -- Directory

    def ready(self) -> bool:
        return self.is_ready

    def broker_away_s(self) -> float:
        return self.away_s

    def agents(self) -> Sequence[AgentView]:
        self._check_ready()
        self._check()
        return list(self.views.values())

    def agent(self, name: str) -> AgentView:
        self._check_ready()
        self._check(name)
        return self.views[name]

    def spec(self, agent: str, spec_version: int) -> dict[str, Any]:
        self._check_ready()
        self._check(agent)
        if spec_version != 1:
            text = f"{agent} has no spec version {spec_version}"
            raise NotFoundError("unknown_spec", text, agent=agent)
        return self.views[agent].spec

    def snapshots_standing(self) -> SnapshotsStanding:
        self._check_ready()
        newest = NewestSnapshot(agent="card-fraud", age_s=40.5, behind=12)
        return SnapshotsStanding(refused=1, owed=2, owed_s=3.5, newest=(newest,))

    # -- Controls

    async def deploy(self, spec: bytes, migration: Migration | None = None) -> Effect:
        self._check()
        loaded = load_spec(spec)
        if self.hold:
            self.waiting.set()
            await self.hold.wait()
        there = self.digests.get(loaded.agent)
        if there not in (None, loaded.digest):
            if migration is None:
                raise ConflictError("agent_exists", "another spec is there", agent=loaded.agent)
            self.migrated.append(migration)
        self.views[loaded.agent] = view(loaded.agent)
        self.digests[loaded.agent] = loaded.digest
        return self._effect(loaded.agent, changed=there != loaded.digest)

    async def dry_run(self, spec: bytes, migration: Migration | None = None) -> DryRun:
        self._check()
        loaded = load_spec(spec)
        there = self.digests.get(loaded.agent)
        plan = MigrationPlan(
            spec_version=1,
            new_spec_version=2,
            changes=(Violation("$.decide", "is other, and was some"),),
            keep_problems=(Violation("$.model", "is bigger", "deploy it with reset"),),
            events=12,
        )
        missing = Refusals(
            code="missing",
            text="`amount` missing",
            count=13,
            examples=(Position("transactions", 0, 5), Position("transactions", 1, 7)),
        )
        changes = there not in (None, loaded.digest)
        return DryRun(
            read=200, accepted=187, refused=(missing,), migration=plan if changes else None
        )

    async def pause(self, agent: str) -> Effect:
        return self._steer(agent, "paused")

    async def resume(self, agent: str) -> Effect:
        return self._steer(agent, "running")

    async def delete(self, agent: str) -> Effect:
        self._check(agent)
        del self.views[agent]
        return self._effect(agent, changed=True)

    def _steer(self, agent: str, state: str) -> Effect:
        self._check(agent)
        changed = self.views[agent].state != state
        self.views[agent] = view(agent, state)
        return self._effect(agent, changed=changed)

    def _effect(self, agent: str, *, changed: bool) -> Effect:
        return Effect(
            control_id="c1",
            agent=agent,
            spec_version=1,
            epoch=3,
            positions=(Position("transactions", 0, 90),),
            changed=changed,
        )

    # -- EventSink

    async def append(self, agent: str, key: str, event: bytes) -> Position:
        self._check(agent)
        if self.refuses:
            raise EventError("missing", self.refuses, path=f"$.{self.refuses}")
        try:
            msgspec.json.decode(event)
        except msgspec.DecodeError as error:
            text = f"the agent would quarantine it: {error}"
            raise RequestError("bad_event", text, reason="bad_json") from error
        self.log.append(event)
        self.keys.append(key)
        return Position("transactions", 0, 99 + len(self.log))

    async def append_all(
        self, agent: str, events: Sequence[tuple[str, bytes]]
    ) -> list[Position | EventError | RequestError]:
        self._check(agent)
        if self.shed_from is not None and len(self.log) >= self.shed_from:
            raise self.shed
        outcomes: list[Position | EventError | RequestError] = []
        for key, event in events:
            if self.away_from is not None and len(self.log) >= self.away_from:
                outcomes.append(UnavailableError("broker_away", "it does not acknowledge"))
                continue
            try:
                outcomes.append(await self.append(agent, key, event))
            except (EventError, RequestError) as error:
                outcomes.append(error)
        return outcomes

    # -- DecisionFeed

    async def watch(self, agent: str, *, from_start: bool, follow: bool) -> AsyncIterator[bytes]:
        self.feeds_open += 1
        self.feed_opened.set()
        try:
            self._check()
            for record in self.records if from_start else ():
                yield record
            while self.endless:
                yield b'{"id":"' + b"x" * 100_000 + b'"}'
            if follow:
                await asyncio.Event().wait()
        finally:
            self.feeds_open -= 1
            self.feed_closed.set()

    async def watch_quarantine(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]:
        self._check(agent)
        yield msgspec.json.encode({"agent": agent, "reason": "bad_json"})

    async def watch_withdrawn(
        self, agent: str | None, *, from_start: bool, follow: bool
    ) -> AsyncIterator[bytes]:
        self._check(agent)
        yield msgspec.json.encode({"agent": agent, "fate": "withdrawn"})


def _refused(code: str, path: str, text: str) -> RequestError:
    return RequestError(code, f"{path} {text}", violations=[Violation(path=path, text=text)])


async def code_of(call: Any) -> str:
    """The code that a call fails with."""
    with pytest.raises(HeadraceError) as found:
        await call
    assert isinstance(found.value, RequestError)
    return found.value.code
