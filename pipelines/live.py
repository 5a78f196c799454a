"""The read side of a worker: predictions, keys and agents as they stand. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.partitioner import murmur2
from msgspec import structs

from headrace.clock import Clock, SystemClock
from headrace.errors import NotFoundError, RequestError, UnavailableError, Violation
from headrace.models.metrics import merge_views
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.worker import Worker
from headrace.views import (
    AgentView,
    Answer,
    Heard,
    KeyView,
    NewestSnapshot,
    Partition,
    Question,
    ShardView,
    SnapshotsStanding,
    SnapshotView,
    Standing,
)


def partition_of(key: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) gives to a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


class LiveShards:
    """Finds the shard of a key. Implements `ports.Predictor`, `Directory` and `Specs`."""

    def __init__(self, worker: Worker, clock: Clock | None = None) -> None:
        self._worker = worker
        self._time = (clock or SystemClock()).time

    def predict(self, question: Question) -> Answer:
        shard = self.shard(question.agent, question.key)
        found = shard.learner.predict(question, shard.next_offset)
        return structs.replace(found, standing=self.standing(found.standing, shard))

    def key(self, agent: str, key: str) -> KeyView:
        shard = self.shard(agent, key)
        found = shard.learner.describe(key, shard.next_offset)
        return structs.replace(found, standing=self.standing(found.standing, shard))

    def ready(self) -> bool:
        return self._worker.ready and not self._worker.failed.done()

    def broker_away_s(self) -> float:
        return self._worker.presence.away_s

    def agents(self) -> Sequence[AgentView]:
        self._worker.check_ready()
        return [self._view(d) for d in self._worker.controls.registry.live()]

    def agent(self, name: str) -> AgentView:
        self._worker.check_ready()
        return self._view(self._worker.controls.registry.get(name))

    def spec(self, agent: str, spec_version: int) -> dict[str, Any]:
        """Raises NotFoundError `unknown_spec`, and `unknown_agent`."""
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        spec = deployment.spec(spec_version)
        if spec is None:
            first, last = deployment.first_spec_version, deployment.spec_version
            known = f"only {last}" if first == last else f"{first} to {last}"
            text = f"{agent!r} has no spec version {spec_version}: since its deploy it had {known}"
            raise NotFoundError("unknown_spec", text, agent=agent)
        return spec

    def snapshots_standing(self) -> SnapshotsStanding:
        self._worker.check_ready()
        vault = self._worker.vault
        owed, owed_s = vault.owed()
        agents = [deployment.agent for deployment in self._worker.controls.registry.live()]
        newest = [vault.catalogue.last_complete(agent) for agent in agents]
        return SnapshotsStanding(
            refused=vault.refusals,
            owed=owed,
            owed_s=owed_s,
            newest=tuple(self._newest(view) for view in newest if view is not None),
        )

    def _newest(self, view: SnapshotView) -> NewestSnapshot:
        there = {Partition(one.topic, one.partition): one.next_offset for one in view.shards}
        shards = self._worker.shards.of_agent(view.agent)
        return NewestSnapshot(
            agent=view.agent,
            age_s=max(0, int(self._time() * 1000) - view.created_ms) / 1000,
            behind=sum(max(0, s.next_offset - there.get(s.partition, 0)) for s in shards),
        )

    def standing(self, standing: Standing, shard: Shard) -> Standing:
        """The standing with how stale it may be: what the broker said of the log, and when."""
        heard = self._worker.streams.heard(shard.partition)
        if heard is None:
            return standing
        behind = heard.end_offset - standing.offset
        return structs.replace(standing, behind=max(0, behind), heard_ms=self._age_ms(heard))

    def _age_ms(self, heard: Heard) -> int:
        """How long ago that was; the clock may have been set back since."""
        age = int(self._time() * 1000) - heard.at_ms
        return max(0, age)

    def _shard_view(self, shard: Shard) -> ShardView:
        heard = self._worker.streams.heard(shard.partition)
        learner = shard.learner
        return ShardView(
            topic=shard.partition.topic,
            partition=shard.partition.partition,
            next_offset=shard.next_offset,
            durable_offset=shard.durable_offset,
            end_offset=heard.end_offset if heard else None,
            heard_ms=self._age_ms(heard) if heard else None,
            keys_hot=learner.keys_hot,
            accepted=learner.accepted,
            quarantined=learner.quarantined,
            learned=learner.learned,
            paused=shard.paused,
            unlabelled=learner.unlabelled,
            labels_lost=learner.labels_lost,
            keys_full=learner.keys_full,
            waits_for=shard.waits_for,
        )

    def shard(self, agent: str, key: str) -> Shard:
        """The open one that has the key. Raises UnavailableError, NotFoundError, StateError, and
        RequestError for an empty key, unless all keys share one model.
        """
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        if not key and not spec_of(deployment).shared:
            text = f"agent {agent!r} has a model per key: give the key, which is not empty"
            raise RequestError("invalid_request", text, violations=[Violation("key", "is empty")])
        broken = self._worker.holdings.broken.get(agent)
        if broken is not None:
            raise type(broken)(str(broken))
        topic = deployment.source_topic
        partitions = self._worker.topics.known_partition_count(topic)
        if partitions:
            partition = Partition(topic, partition_of(key, partitions))
            shard = self._worker.shards.find(agent, partition)
            if shard is not None and shard.life == deployment.life:
                return shard
        raise UnavailableError(
            "not_ready",
            f"this worker does not hold the shard of key {key!r} of agent {agent!r}: ask again in "
            "a moment if it is starting, else another worker",
        )

    def _catching_up(self, shards: Sequence[Shard]) -> str:
        """Which of them learn apart, and how far they are behind."""
        told = []
        for shard in shards:
            if shard.apart:
                heard = self._worker.streams.heard(shard.partition)
                lack = "" if heard is None else f", {heard.end_offset - shard.next_offset:,} behind"
                told.append(f"{shard.partition.topic}[{shard.partition.partition}]{lack}")
        return f"catches up with a reader of its own: {'; '.join(told)}" if told else ""

    def _without_shards(self, topic: str) -> tuple[str, str]:
        """State and note of an agent of which nothing is open here."""
        streams = self._worker.streams
        if not self._worker.topics.known_partition_count(topic):
            return "starting", f"there is no topic {topic!r}"
        if streams.flowing and topic in streams.topics and not streams.assigned(topic):
            app = self._worker.config.app
            return "elsewhere", f"other workers of {app!r} hold all partitions of {topic!r}"
        return "starting", "its shards are being opened"

    def _view(self, deployment: control.Deployment) -> AgentView:
        shards = [
            s for s in self._worker.shards.of_agent(deployment.agent) if s.life == deployment.life
        ]
        state, note = "running", ""
        broken = self._worker.holdings.broken.get(deployment.agent)
        if broken is not None:
            state, note = "failed", str(broken)
        elif deployment.paused:
            state = "paused"
        elif not shards:
            state, note = self._without_shards(deployment.source_topic)
        elif all(s.learner.learned == 0 for s in shards):
            accepted = sum(s.learner.accepted for s in shards)
            label = shards[0].learner.spec.label
            if accepted and label is not None:
                note = f"none of {accepted} events had a label at {label.path}"
                if label.later:
                    note = (
                        f"{accepted} events wait for a label: one {label.after_ms / 1000:g} s or "
                        "more after them, by the timestamps of Kafka's records"
                    )
        note = "; ".join(
            filter(
                None,
                [
                    _changing(deployment) or _on_its_way(deployment, shards),
                    self._catching_up(shards),
                    note,
                ],
            )
        )
        waits_for = next((s.waits_for for s in shards if s.waits_for), "")
        if waits_for:
            note = f"nothing is learned or made durable until there is room: {waits_for}"
        if away_s := self.broker_away_s():
            away = f"the broker has not answered for {away_s:.0f} s: nothing is learned meanwhile"
            note = f"{note}; {away}" if note else away
        return AgentView(
            name=deployment.agent,
            spec_version=deployment.spec_version,
            epoch=deployment.epoch,
            digest=deployment.deploy.digest,
            state=state,
            spec=deployment.deploy.spec,
            shards=tuple(map(self._shard_view, shards)),
            metrics=tuple(merge_views([s.learner.metrics() for s in shards])),
            note=note,
            first_spec_version=deployment.first_spec_version,
        )


def _changing(deployment: control.Deployment) -> str:
    """What a migration has not done yet, or could not do."""
    command = deployment.deploy
    if not isinstance(command, control.Migrate):
        return ""
    version = f"spec version {deployment.spec_version}"
    if failed := deployment.failed(command.id):
        where = "; ".join(f"{p.topic}[{p.partition}]: {why}" for p, why in sorted(failed.items()))
        return f"{version} could not be taken everywhere, deploy it again: {where}"
    done = len(deployment.positions(command.id))
    if done == command.partitions:
        return ""
    return f"{version} is on its way ({command.how}): {done} of {command.partitions} partitions"


def _on_its_way(deployment: control.Deployment, shards: Sequence[Shard]) -> str:
    """How many shards here answer from the newest epoch, as long as that is not all of them."""
    there = sum(shard.origin.epoch >= deployment.epoch for shard in shards)
    if there == len(shards):
        return ""
    answer = "partition here answers" if len(shards) == 1 else "partitions here answer"
    return f"epoch {deployment.epoch} is on its way: {there} of {len(shards)} {answer} from it"
