"""What people ask for in a world: the records that go into the control log, told from the logs."""

from __future__ import annotations

import random
from typing import Any

from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.vault import undo_id
from headrace.state.catalogue import Catalogue, encode
from headrace.state.tombstones import Secret, tombstone
from headrace.views import Exclusion, SnapshotView
from tests.fold.erased import SECRET
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
        self._specs = {name: load_spec(oracle.spec) for name, oracle in plan.agents.items()}
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
            bases=tuple(
                control.Base(
                    partition=where.partition,
                    epoch=shard.epoch,
                    next_offset=shard.next_offset,
                    digest=shard.digest,
                )
                for where, shard in sorted(vouched.items())
            ),
            keys=keys,
            undoes=undoes,
            **self._mode(deployment, undo=verb == "undo"),
        )

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
        return snapshot.complete and snapshot.epoch >= deployment.life

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
