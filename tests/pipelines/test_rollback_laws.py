"""The laws of rollbacks, over random histories of two agents that read one log.

The real shards, vault and repository, in virtual time. A history: some events, a snapshot of both
agents, some more, a rollback of one agent, some more.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.decisions import Origin
from headrace.models.forms import form_of
from headrace.models.learner import Learner
from headrace.models.slots import KEY_ROW, Slot
from headrace.models.spec import load_spec
from headrace.models.stored import key_digest, written
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import undo_id
from headrace.state.memory import MemoryStore
from headrace.views import Exclusion
from tests.fold.events import BEGAN_MS, Row, good
from tests.fold.oracles import heating, visits
from tests.pipelines.small_place import WHERE, Place, live

KEYS = ("1", "2", "3", "4")
AGENTS = {"a": visits(agent="a", topic="events"), "b": heating(agent="b", topic="events")}
LOOK_S = 0.05
DONE_S = 60.0  # virtual


class History(msgspec.Struct, frozen=True):
    """`keys`: whose the events are; the snapshot is taken before event `taken`, the rollback counts
    before event `rolled`.
    """

    seed: int
    keys: tuple[str, ...]
    taken: int
    rolled: int

    def rows(self) -> list[Row]:
        chance = random.Random(self.seed)
        return [
            Row(n, BEGAN_MS + 40 * n, key.encode(), json.dumps(good(chance, key)).encode())
            for n, key in enumerate(self.keys)
        ]


@st.composite
def histories(draw: st.DrawFn) -> History:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=3, max_size=60))
    taken = draw(st.integers(0, len(keys)))
    return History(
        draw(st.integers(0, 1 << 20)), tuple(keys), taken, draw(st.integers(taken, len(keys)))
    )


class Two(Place):
    """A place with both agents, over the log of a history."""

    def __init__(self, path: Path, history: History) -> None:
        super().__init__(path)
        self.log = self.broker.logs[WHERE]
        self.log.entries.clear()
        self.rows = history.rows()
        spec = load_spec(AGENTS["b"].spec)
        self.command(
            control.Deploy(
                id="e", agent="b", spec=spec.to_dict(), digest=spec.digest, emit_topic="decided-b"
            )
        )

    async def begin(self) -> None:
        await self.controls.start()
        await self.catalogue.start()
        self.in_background(None, self.vault.publish(self.shards.site.precedence))
        for agent in AGENTS:
            await self.shards.open(self.controls.registry.get(agent), WHERE)

    async def end(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.catalogue.stop()
        for shard in self.shards.all():
            await self.shards.close(shard, flush=True)

    def shard(self, agent: str) -> Shard:
        found = self.shards.find(agent, WHERE)
        assert found is not None
        return found

    async def feed(self, upto: int) -> None:
        """The events below that one come, and both agents learn them."""
        begin = self.log.end
        for row in self.rows[begin:upto]:
            self.log.append(row.key, row.value, row.timestamp)
        if begin < upto:
            for agent in AGENTS:
                await self.shard(agent).process(Chunk("events", begin, self.rows[begin:upto], upto))

    async def snapshot(self, agent: str) -> str:
        snapshot_id = f"{agent}.s"
        life = self.controls.registry.get(agent).life
        self.command(
            control.Snapshot(
                id=f"s-{agent}", agent=agent, life=life, snapshot_id=snapshot_id, partitions=1
            )
        )
        await self.until(lambda: bool(self.vault.catalogue.shards(snapshot_id)))
        return snapshot_id

    async def roll_back(self, agent: str, snapshot_id: str, **more: Any) -> None:
        await self.until(lambda: bool(self.vault.catalogue.shards(snapshot_id)))
        epoch = self.controls.registry.get(agent).epoch
        self.command(self.back(agent, snapshot_id, **more))
        await self.until(lambda: self.shard(agent).origin.epoch == epoch + 1)

    def back(self, agent: str, snapshot_id: str, **more: Any) -> control.Rollback:
        """The command that goes back to a snapshot."""
        deployment = self.controls.registry.get(agent)
        vouched = self.vault.catalogue.shards(snapshot_id)[WHERE]
        base = control.Base(
            partition=0,
            epoch=vouched.epoch,
            next_offset=vouched.next_offset,
            digest=vouched.digest,
        )
        return control.Rollback(
            id=f"r{deployment.epoch}",
            agent=agent,
            life=deployment.life,
            snapshot_id=snapshot_id,
            bases=(base,),
            **more,
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DONE_S):
            while not holds():  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(LOOK_S)

    async def stored(self, agent: str) -> dict[bytes, bytes]:
        """All rows of the agent, as they are durable."""
        shard = self.shard(agent)
        await shard.flush()
        return dict(shard.store.scan(b""))

    async def digests(self, agent: str) -> dict[str, str]:
        """What a rollback is about, by key."""
        stored = await self.stored(agent)
        rows = {row: data for row, data in stored.items() if row.startswith(KEY_ROW)}
        return {row[len(KEY_ROW) :].decode(): key_digest(row, data) for row, data in rows.items()}


def lived(history: History, work: Callable[[Two], Awaitable[None]], made: type[Two] = Two) -> None:
    """Run it at a place of its own."""
    with tempfile.TemporaryDirectory() as directory:

        async def whole(place: Place) -> None:
            assert isinstance(place, Two)
            await place.begin()
            try:
                await work(place)
            finally:
                await place.end()

        live(Path(directory), whole, lambda path: made(path, history))


def known(digests: dict[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: digest for key, digest in digests.items() if key in keys}


@settings(max_examples=15, deadline=None)
@given(histories(), st.sampled_from(sorted(AGENTS)), st.sets(st.sampled_from(KEYS), max_size=3))
def test_a_rollback_touches_its_scope_alone_and_undo_takes_it_back(
    history: History, agent: str, keys: set[str]
) -> None:
    """Inside the scope (some keys, or without any the whole agent) each key is the snapshot's;
    every other key of that agent, and each row of the other one, is what it was. The undo gives
    back what was inside the scope, too.
    """

    async def work(place: Two) -> None:
        (other,) = AGENTS.keys() - {agent}
        scope, outside = keys or KEYS, [key for key in KEYS if keys and key not in keys]
        await place.feed(history.taken)
        snapshot_id = await place.snapshot(agent)
        chosen = await place.digests(agent)
        await place.feed(history.rolled)
        before, others = await place.digests(agent), await place.stored(other)

        await place.roll_back(agent, snapshot_id, keys=tuple(sorted(keys)))
        after = await place.digests(agent)
        assert known(after, outside) == known(before, outside)
        for key in scope:
            # One that was not there yet may be there, because labels wait for it.
            assert after.get(key, unlearned(agent, key)) == chosen.get(key, unlearned(agent, key))
        assert await place.stored(other) == others

        undo = undo_id(agent, "r1")
        await place.roll_back(agent, undo, keys=tuple(sorted(keys)), undoes="r1")
        assert await place.digests(agent) == before
        assert await place.stored(other) == others

    lived(history, work)


def unlearned(agent: str, key: str) -> str:
    """The digest of a key that has learned nothing."""
    form = form_of(load_spec(AGENTS[agent].spec))
    return key_digest(KEY_ROW + key.encode(), written(Slot(key, form.encode(form.new(key)))))


@settings(max_examples=15, deadline=None)
@given(histories(), st.sampled_from(sorted(AGENTS)), st.data())
def test_a_rewind_without_some_events_is_the_fold_without_them(
    history: History, agent: str, data: st.DataObject
) -> None:
    """Row by row, also of metrics and counters, and also when more events come afterwards."""
    between = list(range(history.taken, history.rolled))
    left_out = set(data.draw(st.lists(st.sampled_from(between), max_size=5))) if between else set()

    async def work(place: Two) -> None:
        await place.feed(history.taken)
        snapshot_id = await place.snapshot(agent)
        await place.feed(history.rolled)
        ids = tuple(f"{agent}/1/events/0/{offset}" for offset in sorted(left_out))
        exclude = Exclusion(decisions=ids) if ids else None
        await place.roll_back(agent, snapshot_id, mode="rewind", exclude=exclude)
        assert await place.stored(agent) == folded(agent, place.rows[: history.rolled], left_out)
        await place.feed(len(history.keys))
        assert await place.stored(agent) == folded(agent, place.rows, left_out)

    lived(history, work)


@settings(max_examples=10, deadline=None)
@given(histories(), st.sampled_from(sorted(AGENTS)))
def test_undo_of_a_rewind_brings_the_excluded_events_back(history: History, agent: str) -> None:
    """And a later rewind without exclusions equals the fold of the whole log."""

    async def work(place: Two) -> None:
        await place.feed(history.taken)
        snapshot_id = await place.snapshot(agent)
        await place.feed(history.rolled)
        before = await place.digests(agent)
        await place.roll_back(
            agent, snapshot_id, mode="rewind", exclude=Exclusion(keys=(history.keys[-1],))
        )
        await place.roll_back(agent, undo_id(agent, "r1"), undoes="r1")
        assert await place.digests(agent) == before
        await place.feed(len(history.keys))
        await place.roll_back(agent, snapshot_id, mode="rewind")
        assert await place.stored(agent) == folded(agent, place.rows, set())

    lived(history, work)


def folded(agent: str, rows: Sequence[Row], left_out: set[int]) -> dict[bytes, bytes]:
    """The rows of one learner over all these events but some."""
    store = MemoryStore()
    learner = Learner(load_spec(AGENTS[agent].spec), Origin(agent, 1, 1, *WHERE), store)
    learner.step([row for row in rows if row.offset not in left_out])
    return {row: data for row, data in learner.changed() if data is not None}
