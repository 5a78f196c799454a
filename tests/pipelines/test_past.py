"""The laws of states of the past, over random histories with rollbacks, rewinds and pauses.

The real shards, vault and repository, in virtual time; judged by the fold of the log, which knows
nothing of snapshots.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import RequestError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.making import Maker
from headrace.pipelines.past.reach import reach
from headrace.pipelines.past.timeline import Start, Timeline
from headrace.pipelines.past.verifying import Verifier
from headrace.pipelines.vault import undo_id
from headrace.views import Exclusion, Partition, Verification
from tests.fold import compare
from tests.fold.control import Life, lives
from tests.fold.fold import fold
from tests.fold.state import Folded
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
            if shard.origin.epoch != 1 + folded.replaced:
                found.append(f"it is of epoch {shard.origin.epoch}")
            return found
        finally:
            await derivation.end()

    def verifier(self) -> Verifier:
        site = self.shards.site
        maker = Maker(site, self.vault)
        return Verifier(self.controls.registry, site.logs, self.shards, maker)

    async def decided(self, agent: str) -> list[bytes]:
        """All decisions, as they are in their topic."""
        await self.shard(agent).flush()
        topic = self.controls.registry.get(agent).deploy.emit_topic
        values = [row.value or b"" for row in self.broker.logs[Partition(topic, 0)].rows()]
        return [value for value in values if msgspec.json.decode(value)["cause"] == "event"]

    def life(self, agent: str) -> Life:
        told = [row.value or b"" for row in self.broker.logs[CONTROL].rows()]
        return next(life for life in lives(told) if life.agent == agent)

    def folded(self, agent: str, offset: int) -> Folded:
        life, where = self.life(agent), (WHERE.topic, WHERE.partition)
        return fold(
            AGENTS[agent],
            life.origin(where),
            [row for row in self.log.rows() if row.offset < offset],
            life.course(where, offset),
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


@settings(max_examples=10, deadline=None)
@given(courses(), st.sampled_from(sorted(AGENTS)))
def test_every_decision_of_a_history_is_confirmed(
    course: tuple[History, list[Step]], agent: str
) -> None:
    """By its id, whatever was rolled back since; and there is nothing of it on the disk after."""
    history, steps = course

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.take(agent, steps)
        for value in await place.decided(agent):
            found = await place.verifier().verify(msgspec.json.decode(value)["id"], None)
            assert (found.verdict, found.differences) == ("confirmed", ()), found
        assert list((place.directory.path / "drafts").iterdir()) == []

    lived(history, work, Lived)


OTHER = {
    "cause": "request", "schema": 2, "id": "a/1/events/0/2", "agent": "b", "spec_version": 2,
    "epoch": 2, "key": "eve", "position": {"topic": "events", "partition": 0, "offset": 3},
    "event_time": 7, "decision": "block", "score": 0.123, "value": 1.5, "items": [],
    "propensity": 0.5, "updates": 99, "cold": "no", "more": True,
}  # fmt: skip
HISTORY = History(11, ("1", "2", "1", "1", "3", "1", "2", "1"), 0, 0)


async def verified(place: Lived, changed: dict[str, object]) -> Verification:
    """What comes of the decision on the sixth event, some fields of it altered."""
    await place.cut("a", "first")
    await place.feed(len(place.rows))
    value = (await place.decided("a"))[5]
    record = msgspec.json.encode({**msgspec.json.decode(value), **changed})
    return await place.verifier().verify(None, record)


@pytest.mark.parametrize("field", sorted(OTHER))
def test_one_altered_field_contradicts(field: str) -> None:
    """And exactly that field is named, with what it must be."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        found = await verified(place, {field: OTHER[field]})
        named = "position.offset" if field == "position" else field
        assert found.verdict == "contradicted"
        assert [each.field for each in found.differences] == [named]
        assert found.snapshot_id == "a.first"

    lived(HISTORY, work, Lived)


def test_the_record_as_another_program_writes_it_is_the_same() -> None:
    """Spaces, the order of fields and 1 instead of 1.0 alter nothing."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await verified(place, {})
        value = msgspec.json.decode((await place.decided("a"))[5])
        value["propensity"] = 1
        written = json.dumps(value, indent=2, sort_keys=True).encode()
        assert (await place.verifier().verify(None, written)).verdict == "confirmed"

    lived(HISTORY, work, Lived)


def test_what_was_written_behind_the_end_of_its_epoch_is_void() -> None:
    """A worker that did not know of the rollback may have written it."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "first")
        await place.feed(4)
        await place.roll_back("a", "a.first")
        await place.feed(len(place.rows))
        value = msgspec.json.decode((await place.decided("a"))[5])
        assert value["epoch"] == 2
        value |= {"id": "a/1/events/0/5", "epoch": 1}
        found = await place.verifier().verify(None, msgspec.json.encode(value))
        assert (found.verdict, found.reason) == ("unverifiable", "void")

    lived(HISTORY, work, Lived)


def test_a_decision_that_a_rollback_has_withdrawn_says_so() -> None:
    """It was right when it was made."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "first")
        await place.feed(4)
        await place.roll_back("a", "a.first")
        found = await place.verifier().verify("a/1/events/0/2", None)
        assert found.verdict == "confirmed"
        assert found.note == "rollback r1 to a.first has withdrawn it since"

    lived(HISTORY, work, Lived)


def test_without_a_snapshot_nothing_is_contradicted() -> None:
    """The deploy does not say which build decided; what comes out the same is confirmed."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(6)
        value = msgspec.json.decode((await place.decided("a"))[5])
        found = await place.verifier().verify(None, msgspec.json.encode(value))
        assert (found.verdict, found.snapshot_id, found.events) == ("confirmed", "", 5)
        value["updates"] += 1
        found = await place.verifier().verify(None, msgspec.json.encode(value))
        assert (found.verdict, found.reason) == ("unverifiable", "no_snapshot")
        assert [each.field for each in found.differences] == ["updates"]

    lived(HISTORY, work, Lived)


def test_what_was_made_from_a_removed_snapshot_cannot_be_made_again() -> None:
    """Nothing is damaged, and the reason says which snapshot it was."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        first = await place.cut("a", "first")
        await place.feed(4)
        await place.roll_back("a", first)
        await place.feed(6)
        await place.decided("a")
        await place.vault.remove(first, *known_of(first, place.controls.registry))
        found = await place.verifier().verify("a/2/events/0/5", None)
        assert (found.verdict, found.reason) == ("unverifiable", "snapshot_expired")
        assert f"snapshot {first!r} has been removed" in found.text

    lived(HISTORY, work, Lived)


def test_where_the_log_was_retired_it_cannot_be_made_again() -> None:
    """And the reason says how far the log reaches back."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.cut("a", "first")
        await place.feed(6)
        await place.decided("a")
        place.log.begin = 4
        found = await place.verifier().verify("a/1/events/0/5", None)
        assert (found.verdict, found.reason) == ("unverifiable", "log_too_short")
        assert "reaches back to offset 4 only" in found.text

    lived(HISTORY, work, Lived)


def test_what_can_be_asked_for_begins_where_log_and_snapshots_do() -> None:
    """At the first state that the log still leads on from; without one, at none."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await place.feed(3)
        first = await place.cut("a", "first")
        await place.feed(6)
        timeline, logs = place.timeline("a"), place.shards.site.logs
        assert (await reach(timeline, logs, 6)).startswith(
            "what can be asked for are offsets 0 to 6 of events[0], times from "
        )
        place.log.begin = 2
        said = await reach(timeline, logs, 6)
        assert said.startswith("what can be asked for are offsets 3 to 6 of events[0]")
        assert said.endswith(f", and the snapshots {first}")
        place.log.begin = 4
        said = await reach(timeline, logs, 6)
        begins = "no offset can be asked for: the log of events[0] begins at 4"
        assert said == f"{begins}, and the snapshots {first}"

    lived(HISTORY, work, Lived)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a/1/events/0/8", "position.offset"),
        ("a/1/others/0/2", "position.topic"),
        ("a/1/events/7/2", "position.partition"),
    ],
)
def test_a_decision_on_no_event_is_contradicted(name: str, field: str) -> None:
    """The agent has not come there, or never goes there."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await verified(place, {})
        value = msgspec.json.decode((await place.decided("a"))[5])
        _, _, topic, partition, offset = name.split("/")
        where = {"topic": topic, "partition": int(partition), "offset": int(offset)}
        value |= {"id": name, "position": where}
        for held in (True, False):  # by this worker
            if not held:
                await place.shards.close(place.shard("a"), flush=True)
            found = await place.verifier().verify(None, msgspec.json.encode(value))
            assert found.verdict == "contradicted"
            assert [each.field for each in found.differences] == [field]

    lived(HISTORY, work, Lived)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("a/1/events/0/700", None), "unknown_decision"),
        (("nobody/1/events/0/2", None), "unknown_agent"),
        (("a/1/events/0", None), "invalid_request"),
        ((None, b"{"), "invalid_request"),
        ((None, b"[]"), "invalid_request"),
        ((None, b'{"id": "x"}'), "invalid_request"),
    ],
)
def test_what_is_no_decision_is_refused(asked: tuple[str | None, bytes | None], code: str) -> None:
    """There is nothing to verify."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        with pytest.raises(RequestError) as found:
            await place.verifier().verify(*asked)
        assert found.value.code == code

    lived(HISTORY, work, Lived)
