"""Protections taken away, one at a time: a simulation that does not notice proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import structs

from headrace.models.guard import Event, Guard, Refusal
from headrace.models.learner import Learner, Outcome
from headrace.models.spec import Spec
from headrace.pipelines import boundaries, control
from headrace.pipelines.opening import Opening, State
from headrace.pipelines.order import Chunk, PartitionOrder
from headrace.pipelines.seams import Chunk as ShardChunk
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.vault import Vault
from headrace.ports import Record
from headrace.state.catalogue import encode
from headrace.state.cut import Cut
from headrace.state.publishing import publish
from headrace.state.repositories import open_repository
from headrace.state.sums import Sums
from headrace.views import Partition
from tests.fold import oracles
from tests.fold.events import log
from tests.simulation.controls import SimControlLog
from tests.simulation.parts import Parts
from tests.simulation.plan import TOPIC, Command, Plan
from tests.simulation.sink import SimSink
from tests.simulation.worker import WatchedShards, WatchedSite, WatchedStore


class HastySink(SimSink):
    """`drain` does not wait for acknowledgements."""

    async def drain(self) -> None:
        await self.send()


class HastyBoundaries(SimSink):
    """`drain` waits for the acknowledgements of all but boundaries."""

    async def drain(self) -> None:
        await self.send()
        batches = [batch for way in self._ways.values() for batch in way]
        await asyncio.gather(*(b.acknowledged for b in batches if not _has_boundary(b.records)))


def _has_boundary(records: Sequence[tuple[bytes | None, bytes]]) -> bool:
    return any(msgspec.json.decode(value).get("cause") == "boundary" for _, value in records)


class BlindStore(WatchedStore):
    """A store without the law of acknowledgements, so that only the end of the world can tell."""

    def write(self, rows: Any, meta: Any) -> None:
        self._store.write(rows, meta)


class BlindSite(WatchedSite, frozen=True, kw_only=True):
    """A site of such stores."""

    watched: type[WatchedStore] = BlindStore


class BlindShards(WatchedShards):
    """Shards over stores without that law."""

    site_class = BlindSite


class HastyShards(WatchedShards):
    """What may be committed is what was learned, durable or not."""

    def durable_offset(self, partition: Partition) -> int | None:
        return self.next_offset(partition)


class ForgetfulOpening(Opening):
    """Does not know what may have been decided before the last crash."""

    async def state(self) -> State:
        state = await super().state()
        return state._replace(start=state.start._replace(decided_below=0))


class UnsettledOpening(Opening):
    """Leaves a former life's forgets as they were when it ended."""

    async def _settle_forgets(self, end: int) -> None:
        pass


class Trusting(PartitionOrder):
    """Takes every gap for one that is in the log."""

    def missing(self, chunk: Chunk) -> bool:
        return False


class HastyControls(SimControlLog):
    """An effect is taken for logged before it is; nobody waits until it has been read back."""

    async def append(self, record: control.ControlRecord) -> int:
        if isinstance(record, control.ShardEffect) and not self._begins(record):
            self._process.start(self._send_late(record))
            return 0
        return await super().append(record)

    def _begins(self, effect: control.ShardEffect) -> bool:
        deployment = self.registry.last(effect.agent)
        return deployment is None or deployment.commands[0].control_id == effect.control_id

    async def _send_late(self, record: control.ControlRecord) -> None:
        await asyncio.sleep(1.0)
        await self.send(record)


class HastyVault(Vault):
    """The catalogue vouches for a manifest that the repository is to have by and by."""

    async def _publish(self, cut: Cut) -> bool:
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        if path is not None:
            elsewhere = open_repository("memory://")
            foretold = await asyncio.to_thread(publish, cut, path, elsewhere, Sums())
            vouched = foretold.vouched(cut)
            await self._topic.append(vouched.key, encode(vouched))
            await asyncio.sleep(1.0)
        return await super()._publish(cut)


async def late_boundary(
    sink: Any, deployment: control.Deployment, accepted: control.Accepted, partition: Partition
) -> None:
    """The boundary goes out a second later, when the new epoch has begun."""

    async def send() -> None:
        await asyncio.sleep(1.0)
        await boundaries.send(sink, deployment, accepted, partition)

    sink.process.start(send())


class Unsettled(Shard):
    """Takes for durable what it has learned since its last flush."""

    async def settle(self) -> bool:
        return self._store.meta is not None or await super().settle()


class Unskipping(Shard):
    """Learns every chunk from its first record on, also what it has learned before."""

    async def _process(self, chunk: ShardChunk, flowing: Callable[[], bool]) -> bool:
        first = [record.offset for record in chunk.records[:1]]
        self.next_offset = min(self.next_offset, *first)
        return await super()._process(chunk, flowing)


class Hasty(Shard):
    """Takes a chunk before which records are missing for one that follows."""

    async def process(self, chunk: ShardChunk, flowing: Callable[[], bool] = lambda: True) -> None:
        assert isinstance(chunk, Chunk)
        await super().process(structs.replace(chunk, begins=0), flowing)


class Undying(Shard):
    """Goes on behind its delete until somebody closes it."""

    async def _take_changes(self, offset: int) -> bool:
        done = await super()._take_changes(offset)
        self._deleted = False
        return done


class Lenient(Guard):
    """Lets a number pass that is not one: zero stands in for it."""

    def admit(self, record: Record) -> Event | Refusal:
        event = super().admit(record)
        if isinstance(event, Refusal) and event.code in ("not_finite", "out_of_range"):
            key = (record.key or b"").decode()
            return Event(record.offset, key, dict.fromkeys(self._features, 0.0), True)
        return event


class LenientLearner(Learner):
    """Learns from what belongs in quarantine."""

    def __init__(self, spec: Any, origin: Any, rows: Any) -> None:
        super().__init__(spec, origin, rows)
        self._guard = Lenient(spec)


class HalfLearner(Learner):
    """Refuses a bad event, and its key's model has learned something by then nevertheless."""

    def __init__(self, spec: Any, origin: Any, rows: Any) -> None:
        super().__init__(spec, origin, rows)
        self._good: dict[bytes | None, Record] = {}

    def step(
        self,
        records: Sequence[Record],
        *,
        learning: bool = True,
        forgotten: Callable[[Record], bool] | None = None,
    ) -> Outcome:
        outcome = super().step(records, learning=learning, forgotten=forgotten)
        refused = {refusal.offset for refusal in outcome.refusals}
        for record in records:
            if record.offset not in refused:
                self._good[record.key] = record
            elif record.key in self._good:
                super().step([self._good[record.key]], learning=learning)
        return outcome


def crashes_among_pauses(plan: Plan) -> Plan:
    """A worker that crashes four times while its agent, flushed at once, is paused and resumed
    every 0.4 s, and events come all the time.
    """
    agent = oracles.fraud(agent="fraud-0", topic=TOPIC, state="flush_ms: 50, flush_keys: 1")
    pauses: list[Command] = [
        (0.5 + 0.4 * number, "resume" if number % 2 else "pause", "fraud-0") for number in range(16)
    ]
    return replace(
        plan,
        agents={"fraud-0": agent},
        commands=((0.0, "deploy", "fraud-0"), *pauses),
        faults=(("crash", 150.0), ("crash", 250.0), ("crash", 200.0), ("crash", 300.0)),
    )


def rollbacks_among_events(plan: Plan) -> Plan:
    """An agent that is flushed seldom, goes back again and again while events come, and whose
    worker crashes now and then.
    """
    agent = oracles.fraud(
        agent="fraud-0", topic=TOPIC, state="flush_ms: 2000, flush_keys: 99, snapshot_s: 1"
    )
    back: list[Command] = [(1.0 + 0.9 * number, "snapshot", "fraud-0") for number in range(5)]
    back += [(1.5 + 0.5 * number, "rollback", "fraud-0") for number in range(10)]
    rows = enumerate(log(plan.seed, 200, bad_share=0.0))
    return replace(
        plan,
        agents={"fraud-0": agent},
        records=(tuple((0.03 * number, row) for number, row in rows),),
        commands=tuple(sorted([(0.0, "deploy", "fraud-0"), *back])),
        faults=(("crash", 250.0), ("crash", 350.0), ("crash", 450.0)),
    )


def crashes_among_rollbacks(plan: Plan) -> Plan:
    """An agent that has a snapshot to go back to, and goes back every 0.6 s while events come,
    through five lives that are long enough for a rollback and a second more or less.
    """
    shaped = rollbacks_among_events(plan)
    back: list[Command] = [(2.0 + 0.6 * number, "rollback", "fraud-0") for number in range(14)]
    rows = enumerate(log(plan.seed, 300, bad_share=0.0))
    return replace(
        shaped,
        records=(tuple((0.03 * number, row) for number, row in rows),),
        commands=((0.0, "deploy", "fraud-0"), (0.8, "snapshot", "fraud-0"), *back),
        faults=tuple(("crash", at) for at in (700.0, 300.0, 400.0, 500.0, 600.0)),
    )


def rollbacks_after_losses(plan: Plan) -> Plan:
    """The same, but each crash takes the disk along."""
    shaped = rollbacks_among_events(plan)
    return replace(shaped, faults=tuple(("loss", at) for _, at in shaped.faults))


def migrations_among_events(plan: Plan) -> Plan:
    """The same, with other specs instead of snapshots to go back to."""
    shaped = rollbacks_among_events(plan)
    migrations: list[Command] = [(1.5 + 0.5 * n, "migrate", "fraud-0") for n in range(10)]
    return replace(shaped, commands=((0.0, "deploy", "fraud-0"), *migrations))


def forgets_before_deletes(plan: Plan) -> Plan:
    """An agent that is told to forget keys, deleted and deployed again at once, again and again."""
    agent = oracles.fraud(agent="fraud-0", topic=TOPIC, state="flush_ms: 300, flush_keys: 99")
    lives: list[Command] = [(0.0, "deploy", "fraud-0")]
    for number in range(6):
        at = 1.0 + 0.6 * number
        lives += [(at, "forget", "fraud-0"), (at + 0.01, "forget", "fraud-0")]
        lives += [(at + 0.02, "delete", "fraud-0"), (at + 0.03, "deploy", "fraud-0")]
    return replace(
        plan,
        agents={"fraud-0": agent},
        commands=tuple(lives),
        faults=(("crash", 150.0), ("loss", 250.0), ("crash", 300.0)),
    )


def deploys_among_events(plan: Plan) -> Plan:
    """Twelve agents that are deployed one after the other while an event comes every 20 ms."""
    names = [f"fraud-{number}" for number in range(12)]
    state = "flush_ms: 300, flush_keys: 99"
    rows = enumerate(log(plan.seed, 300, bad_share=0.0))
    return replace(
        plan,
        agents={name: oracles.fraud(agent=name, topic=TOPIC, state=state) for name in names},
        records=(tuple((0.02 * number, row) for number, row in rows),),
        commands=tuple((1.0 + 0.4 * n, "deploy", name) for n, name in enumerate(names)),
        faults=(),
    )


def newest_spec(deployment: control.Deployment, version: control.Version | None = None) -> Spec:
    """The newest, whatever the version of the state."""
    return spec_of(deployment)


def without_acknowledged_boundaries(parts: Parts) -> Parts:
    """A state of a new epoch may be on the disk before its boundary is acknowledged."""
    return replace(parts, sink=HastyBoundaries)


def without_acknowledgements(parts: Parts) -> Parts:
    """State may become durable before its decisions are."""
    return replace(parts, sink=HastySink)


def without_acknowledgements_unwatched(parts: Parts) -> Parts:
    """The same, seen only by what is missing at the end."""
    return replace(parts, sink=HastySink, shards=BlindShards)


def without_gap_guard(parts: Parts) -> Parts:
    """A lost chunk stays lost."""
    return replace(parts, order=Trusting)


def without_durable_commits(parts: Parts) -> Parts:
    """The group is told of offsets that a crash would take back."""
    return replace(parts, shards=HastyShards)


def without_effects_read_back(parts: Parts) -> Parts:
    """A command is in force before the log says where."""
    return replace(parts, controls=HastyControls)
