"""What people ask for in a world: the records that go into the control log, told from the logs."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from msgspec import structs

from headrace.models.spec import Spec, load_spec
from headrace.pipelines import control
from headrace.pipelines.undoing import way_back
from headrace.pipelines.vault import undo_id
from headrace.state.catalogue import Catalogue, Vouched, encode
from headrace.state.tombstones import Secret, tombstone
from headrace.views import Exclusion, How, Partition, SnapshotView
from tests.fold.erased import SECRET
from tests.fold.oracle import Oracle
from tests.simulation.broker import CATALOGUE, SimBroker
from tests.simulation.controls import CONTROL
from tests.simulation.plan import Plan, Verb


class Asked:
    """Somebody outside, who sees the logs as they are."""

    def __init__(self, plan: Plan, broker: SimBroker, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        keys = (row.key or b"" for rows in plan.records for _, row in rows)
        self._stamps = [row.timestamp for rows in plan.records for _, row in rows]
        self._keys = sorted({key.decode(errors="ignore") for key in keys})
        self._specs = {name: load_spec(plan.versions(name)[0].spec) for name in plan.agents}
        self._versions = {name: _by_digest(plan.versions(name)) for name in plan.agents}
        self._how = plan.how
        self._partitions = len(plan.records)

    def record(self, verb: Verb, agent: str, control_id: str) -> bytes | None:
        """The command; None if there is nothing to ask for."""
        found = self._record(verb, agent, control_id)
        return None if found is None else control.encode(found)

    def _record(self, verb: Verb, agent: str, control_id: str) -> control.Command | None:
        if verb == "deploy":
            spec = self._specs[agent]
            return control.Deploy(
                id=control_id,
                agent=agent,
                spec=spec.to_dict(),
                digest=spec.digest,
                emit_topic=spec.emit_topic,
            )
        if verb == "delete":
            return control.Delete(id=control_id, agent=agent)
        if verb == "pause":
            return control.Pause(id=control_id, agent=agent)
        if verb == "resume":
            return control.Resume(id=control_id, agent=agent)
        registry = self._registry()
        deployment = registry.last(agent)
        if deployment is None or deployment.deleted:
            return None
        if verb == "snapshot":
            return control.Snapshot(
                id=control_id,
                agent=agent,
                life=deployment.life,
                snapshot_id=f"{agent}.{control_id}",
                partitions=self._partitions,
            )
        if verb == "migrate":
            return self._migration(deployment, control_id)
        if verb == "forget":
            return self._forget(agent, control_id)
        return self._rollback(verb, deployment, control_id)

    def _forget(self, agent: str, control_id: str) -> control.Forget:
        """Some key; the catalogue has had the secret before."""
        secret = Secret(value=SECRET)
        self._broker.logs[CATALOGUE].append(secret.key, encode(secret))
        return control.Forget(
            id=control_id,
            agent=agent,
            secret_id=secret.id,
            tombstone=tombstone(secret, agent, self._chance.choice(self._keys)),
        )

    def _migration(self, deployment: control.Deployment, control_id: str) -> control.Migrate | None:
        """Another version, by one of the ways that there are to it."""
        versions, chance = self._versions[deployment.agent], self._chance
        digest = deployment.deploy.digest
        kept = self._how in ("keep", "from")  # which need models of one shape
        others = [
            name
            for name, (_, shape) in versions.items()
            if name != digest and (not kept or shape == versions[digest][1])
        ]
        if not others:
            return None
        other = chance.choice(others)
        spec, shape = versions[other]
        takes = {
            snapshot: vouched
            for snapshot, vouched in self._published(deployment)
            if versions[vouched[0].spec_digest][1] == shape
        }
        ways: list[How] = ["reset", "refold"]
        failed = bool(deployment.failed(deployment.deploy.id))
        ways += ["keep", "keep"] if versions[digest][1] == shape and not failed else []
        ways += ["from", "from"] if takes else []
        if self._how is not None:
            ways = [way for way in ways if way == self._how]
        if not ways:
            return None
        how = chance.choice(ways)
        self._broker.counts[f"migrations by {how}"] += 1
        snapshot_id, bases = "", tuple[control.Base, ...]()
        if how == "from":
            snapshot_id = chance.choice(sorted(takes))
            bases = _bases(takes[snapshot_id])
        elif how == "refold":
            bases = self._begins(deployment)
        return control.Migrate(
            id=control_id,
            agent=deployment.agent,
            life=deployment.life,
            how=how,
            replaces=digest,
            spec=spec.to_dict(),
            digest=other,
            emit_topic=spec.emit_topic,
            partitions=self._partitions,
            snapshot_id=snapshot_id,
            bases=bases,
        )

    def _published(self, deployment: control.Deployment) -> list[tuple[str, list[Vouched]]]:
        """All complete snapshots of this life, with their shards by partition."""
        catalogue = self._catalogue()
        found = [
            (s.snapshot_id, catalogue.shards(s.snapshot_id))
            for s in catalogue.snapshots(deployment.agent)
            if s.complete and s.epoch >= deployment.life
        ]
        return [(name, [shard for _, shard in sorted(there.items())]) for name, there in found]

    def _begins(self, deployment: control.Deployment) -> tuple[control.Base, ...]:
        """Where a refold begins: where the agent did, or where the log does now."""
        found = []
        for number in range(self._partitions):
            where = Partition(deployment.source_topic, number)
            began = deployment.effect(deployment.commands[0].control_id, where) or 0
            begin = max(began, self._broker.logs[where].begin)
            base = control.Base(partition=number, epoch=0, next_offset=begin, digest="")
            found.append(base)
        return tuple(found)

    def _rollback(
        self, verb: Verb, deployment: control.Deployment, control_id: str
    ) -> control.Rollback | None:
        catalogue = self._catalogue()
        there = [s for s in catalogue.snapshots(deployment.agent) if self._fits(s, deployment)]
        keys: tuple[str, ...] = ()
        undoes = ""
        if verb == "undo":
            done = [a.command for a in deployment.rollbacks()]
            if not done or not isinstance(done[-1], control.Rollback):
                return None
            keys, undoes = done[-1].keys, done[-1].id
            there = [s for s in there if s.snapshot_id == undo_id(deployment.agent, undoes)]
            if not there and (early := self._early(deployment)):
                return structs.replace(
                    early, id=control_id, undoes=undoes, if_standing=True, where_standing=True
                )
        elif self._chance.random() < 0.4:
            keys = tuple(self._chance.sample(self._keys, min(2, len(self._keys))))
        if not there:
            return None
        self._broker.counts["rollbacks of keys" if keys else "rollbacks of agents"] += 1
        snapshot = self._chance.choice(there)
        vouched = catalogue.shards(snapshot.snapshot_id)
        return control.Rollback(
            id=control_id,
            agent=deployment.agent,
            life=deployment.life,
            snapshot_id=snapshot.snapshot_id,
            bases=_bases([shard for _, shard in sorted(vouched.items())]),
            keys=keys,
            undoes=undoes,
            if_standing=bool(undoes),
            where_standing=bool(undoes),
            spec_digest=deployment.deploy.digest,
            **self._mode(deployment, undo=verb == "undo"),
        )

    def _early(self, deployment: control.Deployment) -> control.Rollback | None:
        """The way back from the last rollback before its undo snapshot is published, if it is done
        and the agent has no other spec since.
        """
        last = deployment.rollbacks()[-1]
        assert isinstance(last.command, control.Rollback)
        removed = self._catalogue().was_removed(undo_id(deployment.agent, last.control_id))
        same = last.spec_version == deployment.spec_version
        if removed or not same or deployment.replacing() is not None:
            return None
        self._broker.counts["undos of what is not published"] += 1
        return way_back(deployment, last, last.command.keys)

    def _mode(self, deployment: control.Deployment, *, undo: bool) -> dict[str, Any]:
        """A rewind, mostly without some events, as often as not."""
        chance = self._chance
        if undo or chance.random() < 0.5:
            return {}
        self._broker.counts["rewinds"] += 1
        agent, topic = deployment.agent, deployment.source_topic
        offsets = [chance.randrange(80) for _ in range(4)]
        parts: dict[str, Any] = {}
        if chance.random() < 0.4:
            where = [f"{agent}/1/{topic}/{chance.randrange(self._partitions)}/{o}" for o in offsets]
            parts["decisions"] = tuple(where)
        if chance.random() < 0.4:
            parts["keys"] = (chance.choice(self._keys),)
        if chance.random() < 0.3:
            stamps = sorted(chance.sample(self._stamps, 2)) if len(self._stamps) > 1 else [0, 0]
            parts["from_ms"], parts["to_ms"] = stamps
        return {"mode": "rewind", "exclude": Exclusion(**parts) if parts else None}

    def _fits(self, snapshot: SnapshotView, deployment: control.Deployment) -> bool:
        same = snapshot.spec_version == deployment.spec_version
        ours = snapshot.epoch >= deployment.life and not deployment.failed(deployment.deploy.id)
        return snapshot.complete and same and ours

    def _registry(self) -> control.Registry:
        registry = control.Registry()
        for row in self._broker.logs[CONTROL].rows():
            registry.apply(control.decode(row.value or b""), row.offset)
        return registry

    def _catalogue(self) -> Catalogue:
        catalogue = Catalogue()
        for row in self._broker.logs[CATALOGUE].rows():
            catalogue.apply(row.key, row.value, row.offset)
        return catalogue


def _bases(shards: Iterable[Vouched]) -> tuple[control.Base, ...]:
    return tuple(
        control.Base(
            partition=shard.partition,
            epoch=shard.epoch,
            next_offset=shard.next_offset,
            digest=shard.digest,
        )
        for shard in shards
    )


def _by_digest(oracles: Iterable[Oracle]) -> dict[str, tuple[Spec, str]]:
    """Each spec, and the shape of its models, by its digest."""
    specs = [(load_spec(oracle.spec), oracle.shape) for oracle in oracles]
    return {spec.digest: (spec, shape) for spec, shape in specs}
