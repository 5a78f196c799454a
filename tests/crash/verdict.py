"""The end of a campaign: everything that is left, compared with the offline fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from aiokafka.structs import ConsumerRecord

from headrace.pipelines.broker import Broker
from headrace.state.store import ShardStore
from tests.crash.agents import Agent
from tests.crash.campaign import Left
from tests.crash.feeder import PLANTED
from tests.crash.kept import Kept
from tests.crash.logs import Records, read
from tests.crash.losses import told_again
from tests.fold import compare
from tests.fold.boundaries import boundaries
from tests.fold.control import Life, lives
from tests.fold.fold import fold
from tests.fold.oracle import Origin
from tests.fold.state import Folded
from tests.fold.withdrawn import withdrawn

TOLD_MAX = 40
"""Differences that a verdict tells. Those of one kind in a shard end in one "and 90 more"."""


@dataclass
class Verdict:
    """What a campaign came to. `decisions` counts records, `repeats` those that came again;
    `missing`, `unexpected` and `contradictory` are of distinct decisions, `escaped` of events that
    are not in quarantine and must be, `rows_wrong` and `wrong` of sentences about rows and of all.
    `rollbacks` are of shards, `manifests` those vouched for, `told_again`: decisions that a worker
    with an empty disk has repeated, `unkept`: what the repository must have and has not.
    """

    events: int = 0
    planted: int = 0
    keys: int = 0
    learned: int = 0
    decisions: int = 0
    repeats: int = 0
    quarantined: int = 0
    wrong: int = 0
    missing: int = 0
    unexpected: int = 0
    contradictory: int = 0
    escaped: int = 0
    rows_wrong: int = 0
    rollbacks: int = 0
    manifests: int = 0
    told_again: int = 0
    unkept: int = 0
    differences: list[str] = field(default_factory=list)

    def differ(self, where: str, sentences: Iterable[str]) -> None:
        """Note differences."""
        for sentence in sentences:
            self.wrong += 1
            if len(self.differences) < TOLD_MAX:
                self.differences.append(f"{where}: {sentence}")


@dataclass(frozen=True)
class Topics:
    """What the topics of one agent hold: its source, its decisions, and those of the app."""

    source: Records
    decisions: Records
    quarantine: list[bytes]
    withdrawn: list[bytes]


async def judge(broker: Broker, left: Left) -> Verdict:
    """Fold the topics and compare with them all that is left."""
    verdict = Verdict()
    control = await _values(broker, f"{left.app}.control")
    quarantine = await _values(broker, f"{left.app}.quarantine")
    fates = await _values(broker, f"{left.app}.withdrawn")
    source = await read(broker, left.agents[0].topic)
    kept = Kept(left.repository, await read(broker, f"{left.app}.snapshots"))
    verdict.manifests = len(kept.catalogue.refs())
    missing = kept.missing()
    verdict.unkept += len(missing)
    verdict.differ("repository", missing)
    verdict.events = sum(map(len, source.values()))
    verdict.planted = sum(len(planted(part)) for part in source.values())
    verdict.quarantined = len(set(quarantine))
    for agent in left.agents:
        decisions = await read(broker, agent.emit_topic)
        topics = Topics(source, decisions, quarantine, fates)
        led = [life for life in lives(control) if life.agent == agent.name]
        if not led or led[-1].deleted:
            verdict.differ(agent.name, ["it must live in the end, and the control log denies it"])
        for life in led:
            verdict.differ(agent.name, [*wrong_undos(life), *life.undone_wrongly()])
            for partition in topics.source:
                _judge_shard(verdict, left, agent, life, (partition, topics))
        if led and not led[-1].deleted:
            _judge_snapshots(verdict, kept, agent, (led[-1], topics))
        _count(verdict, topics.decisions)
    return verdict


def planted(records: Iterable[ConsumerRecord]) -> set[int]:
    """The offsets of the planted bad events, as the feeder has marked them."""
    return {record.offset for record in records if dict(record.headers).get(PLANTED)}


async def _values(broker: Broker, topic: str) -> list[bytes]:
    return [record.value for record in (await read(broker, topic))[0]]


def _judge_shard(
    verdict: Verdict, left: Left, agent: Agent, life: Life, of: tuple[int, Topics]
) -> None:
    partition, topics = of
    where = (agent.topic, partition)
    name = f"{agent.name}/{life.epoch}[{partition}]"
    if where not in life.partitions():
        verdict.differ(name, ["the control log does not say where it began"])
        return
    start, end, origin = life.start(where), life.end(where), life.origin(where)
    records = [r for r in topics.source[partition] if end is None or r.offset < end]
    folded = fold(agent.oracle, origin, records, life.course(where))
    if folded.refused.keys() != {at for at in planted(records) if at >= start}:
        verdict.differ(name, ["the fold refuses other events than those planted"])
    decided = [r.value for r in topics.decisions[partition]]
    whole = not life.deleted
    epochs = life.epochs
    told = compare.decisions(folded, decided, origin, whole=whole, epochs=epochs)
    told += compare.quarantined(folded, topics.quarantine, origin, whole=whole, epochs=epochs)
    told += boundaries(life, where, decided)
    told += withdrawn(life, where, decided, topics.withdrawn)
    verdict.differ(name, told)
    for loss in left.losses:
        if (agent.name, partition) in loss:
            again = told_again(loss[agent.name, partition], life, topics.decisions[partition])
            verdict.told_again += len(again)
            verdict.differ(name, [f"decided again after a loss: {again[:9]}"] if again else [])
    verdict.rollbacks += folded.replaced
    there = _offsets(decided, life, origin)
    verdict.unexpected += len(there - folded.decisions.keys())
    if whole:
        verdict.missing += len(folded.decisions.keys() - there)
        verdict.escaped += len(folded.refused.keys() - _offsets(topics.quarantine, life, origin))
        verdict.keys += len(folded.keys)
        verdict.learned += folded.learned
        rows = _rows(left, folded, replace(origin, epoch=life.last_epoch))
        verdict.rows_wrong += len(rows)
        verdict.differ(name, rows)


def _judge_snapshots(verdict: Verdict, kept: Kept, agent: Agent, of: tuple[Life, Topics]) -> None:
    """Some of the snapshots hold what the fold says of where they were taken."""
    life, topics = of
    for shard in kept.newest(agent.name, life.epoch):
        origin, course = life.origin(shard.shard), life.course(shard.shard)
        before = tuple(r for r in course.replacements if r.epoch <= shard.epoch)
        records = topics.source[shard.partition]
        folded = fold(
            agent.oracle,
            origin,
            [record for record in records if record.offset < shard.next_offset],
            replace(course, replacements=before),
        )
        with TemporaryDirectory(prefix="headrace-kept-") as directory:
            path = Path(directory) / "shard"
            kept.fetch(shard, path)
            found = _compared(folded, path)
        verdict.rows_wrong += len(found)
        verdict.differ(f"{shard.snapshot_id}[{shard.partition}]", found)


def wrong_undos(life: Life) -> list[str]:
    """Undos that did not go back to what there was when the rollback counted that they undo."""
    found = []
    for control_id, (told, *_) in life.replaced.items():
        if not told.get("undoes"):
            continue
        epoch = life.replaced[told["undoes"]][1]
        for base in told["bases"]:
            before = (epoch - 1, life.effects[told["undoes"], (life.topic, base["partition"])])
            if (base["epoch"], base["next_offset"]) != before:
                found.append(f"the undo {control_id} went back to {base}, not to {before}")
    return found


def _rows(left: Left, folded: Folded, origin: Origin) -> list[str]:
    path = left.shard_path(origin.agent, origin.epoch, origin.topic, origin.partition)
    return _compared(folded, path)


def _compared(folded: Folded, path: Path) -> list[str]:
    store = ShardStore.open(path, create=False)
    try:
        return compare.rows(folded, store)
    finally:
        store.close()


def _offsets(values: Iterable[bytes], life: Life, origin: Origin) -> set[int]:
    """The offsets on which the shard has decided, or which it has put into quarantine."""
    mine = (origin.agent, origin.topic, origin.partition)
    found = set()
    for value in values:
        told = msgspec.json.decode(value)
        if told.get("cause") == "boundary":
            continue
        position = told["position"]
        shard = (told["agent"], position["topic"], position["partition"])
        if shard == mine and told["epoch"] in life.epochs:
            found.add(position["offset"])
    return found


def _count(verdict: Verdict, decisions: Records) -> None:
    """Records, repeats, and decisions of one id that say different things."""
    by_id: dict[str, list[bytes]] = defaultdict(list)
    for part in decisions.values():
        for record in part:
            by_id[msgspec.json.decode(record.value)["id"]].append(record.value)
    verdict.decisions += sum(map(len, by_id.values()))
    verdict.repeats += sum(len(values) - 1 for values in by_id.values())
    verdict.contradictory += sum(len(set(values)) > 1 for values in by_id.values())
