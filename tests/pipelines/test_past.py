"""The laws of states of the past, over random histories with rollbacks, rewinds and pauses.

The real shards, vault and repository, in virtual time; judged by the fold of the log, which knows
nothing of snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipelines import control
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.timeline import Start, Timeline
from headrace.pipelines.vault import undo_id
from headrace.views import Exclusion
from tests.fold import compare
from tests.fold.control import Life, lives
from tests.fold.fold import Folded, fold
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_rollback_laws import AGENTS, KEYS, History, Two, lived
from tests.simulation.controls import CONTROL

VERBS = ("snapshot", "pause", "resume", "revert", "revert keys", "rewind", "rewind keys", "undo")


class Step(msgspec.Struct, frozen=True):
    """So many events come, then somebody asks for that; `chosen` draws what is left to choose."""

    events: int
    verb: str
    chosen: int


@st.composite
def courses(draw: st.DrawFn) -> tuple[History, list[Step]]:
    """A history, and what is asked for meanwhile."""
    steps = draw(
        st.lists(
            st.builds(Step, st.integers(0, 8), st.sampled_from(VERBS), st.integers(0, 1 << 16)),
            min_size=2,
            max_size=7,
        )
    )
    count = sum(step.events for step in steps) + draw(st.integers(0, 5))
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=count, max_size=count))
    return History(draw(st.integers(0, 1 << 20)), tuple(keys), 0, 0), steps


class Lived(Two):
    """A place that takes steps, and its past."""

    taken: list[str]

    async def take(self, agent: str, steps: Sequence[Step]) -> None:
        """All of them, then the events that are left."""
        self.taken = []
        done: list[control.Rollback] = []
        for number, step in enumerate(steps):
            await self.feed(self.log.end + step.events)
            await self.one(agent, number, step, done)
        await self.feed(len(self.rows))

    async def one(self, agent: str, number: int, step: Step, done: list[control.Rollback]) -> None:
        deployment = self.controls.registry.get(agent)
        if step.verb == "snapshot":
            self.taken.append(await self.cut(agent, f"s{number}"))
        elif step.verb in ("pause", "resume"):
            kind = control.Pause if step.verb == "pause" else control.Resume
            if deployment.paused == (step.verb == "pause"):
                return
            self.command(kind(id=f"c{number}", agent=agent))
            await self.until(lambda: self.shard(agent).paused == (step.verb == "pause"))
        elif step.verb == "undo":
            rolled = [a.command for a in deployment.rollbacks()]
            if rolled and isinstance(rolled[-1], control.Rollback):
                last = rolled[-1]
                await self.roll_back(agent, undo_id(agent, last.id), keys=last.keys, undoes=last.id)
        elif self.taken:
            base = self.taken[step.chosen % len(self.taken)]
            keys = KEYS[: 1 + step.chosen % 2] if step.verb.endswith("keys") else ()
            await self.roll_back(agent, base, keys=keys, **self.mode(agent, step))

    def mode(self, agent: str, step: Step) -> dict[str, object]:
        if not step.verb.startswith("rewind"):
            return {}
        left_out = [step.chosen % (self.log.end + 1), step.chosen // 7 % (self.log.end + 1)]
        ids = tuple(f"{agent}/1/events/0/{offset}" for offset in left_out)
        return {"mode": "rewind", "exclude": Exclusion(decisions=ids)}

    async def cut(self, agent: str, name: str) -> str:
        snapshot_id = f"{agent}.{name}"
        life = self.controls.registry.get(agent).life
        self.command(
            control.Snapshot(id=name, agent=agent, life=life, snapshot_id=snapshot_id, partitions=1)
        )
        await self.until(lambda: bool(self.vault.catalogue.shards(snapshot_id)))
        return snapshot_id

    def timeline(self, agent: str) -> Timeline:
        published = self.vault.catalogue.newest(agent, *WHERE)
        return Timeline(self.controls.registry.get(agent), WHERE, published)

    async def differences(self, agent: str, start: Start, offset: int) -> list[str]:
        """Between the state that is made again from there and the fold up to there."""
        course = self.timeline(agent).course(start, offset)
        derivation = Derivation(self.shards.site, self.vault, course)
        try:
            await derivation.begin()
            await derivation.learn(offset)
            shard = derivation.shard
            assert shard.next_offset == offset
            await shard.flush()
            folded = self.folded(agent, offset)
            found = compare.rows(folded, shard.store)
            if shard.origin.epoch != 1 + folded.rollbacks:
                found.append(f"it is of epoch {shard.origin.epoch}")
            return found
        finally:
            await derivation.end()

    def life(self, agent: str) -> Life:
        told = [row.value or b"" for row in self.broker.logs[CONTROL].rows()]
        return next(life for life in lives(told) if life.agent == agent)

    def folded(self, agent: str, offset: int) -> Folded:
        life = self.life(agent)
        course = life.course(tuple(WHERE))
        rollbacks = tuple(r for r in course.rollbacks if r.at <= offset)
        return fold(
            AGENTS[agent],
            life.origin(tuple(WHERE)),
            [row for row in self.log.rows() if row.offset < offset],
            type(course)(start=course.start, pauses=course.pauses, rollbacks=rollbacks),
        )


@settings(max_examples=15, deadline=None)
@given(courses(), st.sampled_from(sorted(AGENTS)))
def test_a_state_of_the_past_is_the_fold_of_the_log_up_to_it(
    course: tuple[History, list[Step]], agent: str
) -> None:
    """At every offset, from the nearest snapshot as from the deploy: row by row, epoch and all."""
    history, steps = course

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.take(agent, steps)
        for offset in range(place.log.end + 1):
            starts = place.timeline(agent).starts(offset)
            for start in (starts[0], starts[-1]):
                assert await place.differences(agent, start, offset) == [], (offset, start)

    lived(history, work, Lived)
