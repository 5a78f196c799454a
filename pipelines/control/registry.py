"""The control log as a pure fold: which agents exist, and where each change took effect.

The control log is one topic of one partition. It holds *commands* (deploy, pause, resume, delete,
snapshot, rollback, migrate, forget) and, for every shard that a command concerns, an *effect*: the
next offset of the shard at the moment at which the command was applied. `Registry.apply` folds the
records in order; two workers that have read the same prefix of the log hold the same registry. So
what a command meant (accepted, refused, without effect) is decided by its place in the log and by
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from headrace.errors import ConflictError, NotFoundError, OverloadError, RequestError
from headrace.pipelines.control.deployment import Accepted, Deployment
from headrace.pipelines.control.records import (
    Command,
    ControlRecord,
    Delete,
    Deploy,
    Hello,
    Migrate,
    Pause,
    Resume,
    Rollback,
    ShardEffect,
    Snapshot,
    Withdrawn,
)
from headrace.views import Partition

OUTCOMES_MAX = 10_000
"""Commands whose outcome is remembered. A repeat of one, by a retrying producer, comes soon."""

AGENTS_MAX = 1_000
"""Agents at a time."""

NAMES_MAX = 10_000
"""Names that agents have ever had: each keeps its epoch, and its last spec, for good."""

COMMANDS_MAX = 10_000
"""Commands of one deployment: each is kept with its place in every partition."""

ROOM_RETRY_S = 60.0
"""When a command for which there is no room may come again: somebody has to act first."""


class Outcome(NamedTuple):
    """What became of a command; neither: it was fine, and there was nothing to change."""

    accepted: Accepted | None
    refused: RequestError | None = None


class Registry:
    """All deployments that a prefix of the control log amounts to.

    Order of calls: `apply` for each record with its offset, in order; everything else reads.
    """

    def __init__(self) -> None:
        self._live: dict[str, Deployment] = {}
        self._last: dict[str, Deployment] = {}  # also deleted ones: epochs never fall
        # Lives that are over but for effects that are on their way, by agent and life.
        self._ending: dict[tuple[str, int], Deployment] = {}
        # By agent and life, also when that is over.
        self._owing: dict[tuple[str, int], Deployment] = {}
        self._outcomes: dict[str, Outcome] = {}  # the newest, in the order of the log
        self.next_offset = 0

    def live(self) -> Iterator[Deployment]:
        """The deployments that are not deleted, by name."""
        yield from (self._live[name] for name in sorted(self._live))

    def deleted(self) -> list[Deployment]:
        """The newest deployments of the agents that are deleted, by name."""
        return [last for _, last in sorted(self._last.items()) if last.deleted]

    def owing(self) -> list[Deployment]:
        """Those of which withdrawn ids are not all published, by name, former lives first."""
        return [self._owing[life] for life in sorted(self._owing)]

    def get(self, agent: str) -> Deployment:
        """Raises NotFoundError `unknown_agent`."""
        if agent not in self._live:
            known = ", ".join(sorted(self._live)) or "none"
            raise NotFoundError(
                "unknown_agent", f"no agent is called {agent!r}; deployed: {known}", agent=agent
            )
        return self._live[agent]

    def last(self, agent: str) -> Deployment | None:
        """The newest deployment under this name, deleted or not."""
        return self._last.get(agent)

    def life(self, agent: str, life: int) -> Deployment | None:
        """The deployment of that life, if it is the newest or something of it is on its way."""
        last = self._last.get(agent)
        if last is not None and last.life == life:
            return last
        return self._ending.get((agent, life)) or self._owing.get((agent, life))

    def outcome(self, control_id: str) -> Outcome:
        """What became of a command. Raises KeyError if it has not been read, or long ago."""
        return self._outcomes[control_id]

    def refusal(self, control_id: str) -> RequestError | None:
        """Why a command was not accepted; None: it was, or has not been read, or long ago."""
        outcome = self._outcomes.get(control_id)
        return None if outcome is None else outcome.refused

    def has_seen(self, control_id: str) -> bool:
        """Whether a command of that id has been read, not long ago."""
        return control_id in self._outcomes

    def apply(self, record: ControlRecord | None, offset: int) -> Accepted | None:
        """Fold one record (None: one of somebody else). Returns the command if it changed
        something, else None.
        """
        self.next_offset = offset + 1
        if isinstance(record, ShardEffect):
            self._effect(record)
            return None
        if isinstance(record, Withdrawn):
            self._withdrawn(record)
            return None
        if record is None or isinstance(record, Hello) or record.id in self._outcomes:
            return None
        try:
            outcome = Outcome(self._command(record, offset))
        except RequestError as error:
            outcome = Outcome(None, error.with_traceback(None))
        self._outcomes[record.id] = outcome
        if len(self._outcomes) > OUTCOMES_MAX:
            del self._outcomes[next(iter(self._outcomes))]
        return outcome.accepted

    def _effect(self, effect: ShardEffect) -> None:
        deployment = self._in_epoch(effect.agent, effect.epoch)
        if deployment is None:
            return  # of a life that is over
        partition = Partition(effect.topic, effect.partition)
        accepted = deployment.accepted(effect.control_id)
        replaces = accepted is not None and isinstance(accepted.command, Rollback | Migrate)
        known = deployment.effects.setdefault(effect.control_id, {})
        if partition in known and not deployment.counts_anew(effect, partition):
            return
        if replaces and deployment.ended_in(partition):
            return
        known[partition] = effect.next_offset
        if effect.failed:
            deployment.failures.setdefault(effect.control_id, {})[partition] = effect.failed
        if accepted is not None and accepted.kind == "rollback":
            deployment.owed[effect.control_id, partition] = accepted
            self._owing[deployment.agent, deployment.life] = deployment
        if deployment.ended and self._last[effect.agent] is not deployment:
            self._ending.pop((deployment.agent, deployment.life), None)

    def _in_epoch(self, agent: str, epoch: int) -> Deployment | None:
        last = self._last.get(agent)
        if last is not None and last.life <= epoch <= last.epoch:
            return last
        # Commands are accepted before they count: an effect may come behind the next deploy.
        ending = (over for over in self._ending.values() if over.agent == agent)
        return next((over for over in ending if over.life <= epoch <= over.epoch), None)

    def _withdrawn(self, record: Withdrawn) -> None:
        deployment = self._owing.get((record.agent, record.life))
        partition = Partition(record.topic, record.partition)
        if deployment is None or (record.control_id, partition) not in deployment.owed:
            return  # it was published before
        del deployment.owed[record.control_id, partition]
        told = deployment.published.setdefault(record.control_id, {})
        told[partition] = (record.withdrawn, record.reinstated)
        if not deployment.owed:
            del self._owing[record.agent, record.life]

    def _command(self, record: Command, offset: int) -> Accepted | None:
        if isinstance(record, Deploy):
            return self._deploy(record, offset)
        deployment = self.get(record.agent)
        if isinstance(record, Delete):
            deployment.deleted = True
            del self._live[record.agent]
            return deployment.accept(record, offset)
        if isinstance(record, Pause | Resume) and deployment.paused == isinstance(record, Pause):
            return None
        if len(deployment.commands) > COMMANDS_MAX:
            raise _no_room(
                f"agent {record.agent!r} has had {COMMANDS_MAX:,} commands; "
                "delete it and deploy it again"
            )
        if isinstance(record, Snapshot | Rollback | Migrate):
            self.check_life(deployment, record)
        if isinstance(record, Migrate):
            return self._migrate(deployment, record, offset)
        if isinstance(record, Snapshot):
            _check_free(deployment, record)
        if isinstance(record, Pause | Resume):
            deployment.paused = isinstance(record, Pause)
        elif isinstance(record, Rollback):
            if record.spec_digest:
                _check_spec(deployment, record.spec_digest)
            self.check_replacing(deployment)
            if record.if_standing:
                deployment.check_undo(record)
            deployment.epoch += 1
        return deployment.accept(record, offset)

    def _migrate(self, deployment: Deployment, record: Migrate, offset: int) -> Accepted | None:
        if not (record.anew or deployment.takes(record.digest)):
            return None
        _check_spec(deployment, record.replaces)
        self.check_replacing(deployment)
        deployment.deploy = record
        deployment.epoch += 1
        deployment.spec_version += 1
        return deployment.accept(record, offset)

    def check_life(self, deployment: Deployment, record: Snapshot | Rollback | Migrate) -> None:
        """Raises ConflictError if the agent is not the one that the command was meant for."""
        if record.life != deployment.life:
            raise ConflictError(
                "spec_mismatch",
                f"agent {record.agent!r} was deployed anew meanwhile: ask again",
                agent=record.agent,
            )

    def check_replacing(self, deployment: Deployment) -> None:
        """Raises ConflictError if a rollback or a migration of the agent is on its way."""
        running = deployment.replacing()
        if running is not None:
            migrated = running.kind == "migrate"
            doing = "migrated" if migrated else "rolled back"
            look = f"headrace {'agents' if migrated else 'rollbacks'} {deployment.agent}"
            assert isinstance(running.command, Rollback | Migrate)
            done, of = len(deployment.positions(running.control_id)), running.command.partitions
            raise ConflictError(
                "rollback_running",
                f"agent {deployment.agent!r} is being {doing} ({running.control_id}), and that is "
                f"done in {done} of {of} partitions: wait until it is in all, and ask again; "
                f"`{look}` shows how far it is. Each does it when a worker holds it and has "
                "learned its log that far. If it stays so, look whether all workers run, and what "
                "they log; mend that, or delete the agent and deploy it again as the last resort, "
                "which loses all that it has learned",
                agent=deployment.agent,
            )

    def _deploy(self, record: Deploy, offset: int) -> Accepted | None:
        self.check_deploy(record)
        if record.agent in self._live:
            return None
        before = self._last.get(record.agent)
        epoch = max(record.epoch_min, before.epoch + 1 if before else 1)
        forgets = tuple(before.forgets()) if before else ()
        deployment = Deployment(
            deploy=record,
            life=epoch,
            epoch=epoch,
            spec_version=before.spec_version + 1 if before else 1,
            first_life=before.first_life if before else epoch,
            effects=_effects_of(forgets, before),
            former_forgets=forgets,
        )
        if before is not None and not before.ended:
            self._ending[before.agent, before.life] = before
        self._live[record.agent] = self._last[record.agent] = deployment
        return deployment.accept(record, offset)

    def check_deploy(self, record: Deploy) -> None:
        """Raises ConflictError if this deploy contradicts what is there, OverloadError `no_room`
        if there are too many agents.
        """
        if record.agent not in self._live and len(self._live) >= AGENTS_MAX:
            raise _no_room(f"there are {AGENTS_MAX:,} agents already: delete one first")
        if record.agent not in self._last and len(self._last) >= NAMES_MAX:
            raise _no_room(
                f"{NAMES_MAX:,} names have been used for agents: deploy under a used one"
            )
        there = self.changed(record)
        if there is not None:
            raise ConflictError(
                "agent_exists",
                f"agent {record.agent!r} runs another spec (digest {there.deploy.digest[:12]}): "
                "say how its state migrates",
                agent=record.agent,
            )
        for other in self._live.values():
            if other.agent == record.agent:
                continue
            if other.deploy.emit_topic == record.emit_topic:
                raise ConflictError(
                    "emit_topic_taken",
                    f"topic {record.emit_topic!r} already takes the decisions of agent "
                    f"{other.agent!r}; choose another emit.topic",
                    agent=record.agent,
                )
        self._check_loop(record)

    def changed(self, record: Deploy) -> Deployment | None:
        """The live agent whose spec this deploy would change; None: it would change none."""
        there = self._live.get(record.agent)
        return there if there is not None and there.takes(record.digest) else None

    def _check_loop(self, record: Deploy) -> None:
        """A decision must not come back as an event: the agents would feed each other for ever."""
        begin = record.spec.get("source", {}).get("topic")
        reached, follow = {record.emit_topic}, [record.emit_topic]
        while follow:
            topic = follow.pop()
            for other in self._live.values():
                onward = other.deploy.emit_topic
                if other.source_topic == topic and onward not in reached:
                    reached.add(onward)
                    follow.append(onward)
        if begin in reached:
            raise ConflictError(
                "emit_loop",
                f"the decisions of {record.agent!r} would come back to its source {begin!r}, "
                "through itself or other agents; choose another emit.topic",
                agent=record.agent,
            )


def _check_free(deployment: Deployment, record: Snapshot) -> None:
    """Raises ConflictError if another command has asked for a snapshot of that id, and it was not
    removed since: two would be one, made of shards of both.
    """
    if record.free_from is None:
        return
    for accepted in deployment.commands:
        there = accepted.command
        same = isinstance(there, Snapshot) and there.snapshot_id == record.snapshot_id
        if same and accepted.offset >= record.free_from:
            raise ConflictError(
                "snapshot_exists",
                f"a snapshot {record.snapshot_id!r} has been asked for already",
                snapshot=record.snapshot_id,
            )


def _check_spec(deployment: Deployment, digest: str) -> None:
    """Raises ConflictError if the agent's spec is not the one that a command was checked with."""
    if digest != deployment.deploy.digest:
        raise ConflictError(
            "spec_mismatch",
            f"agent {deployment.agent!r} was given another spec meanwhile: ask again",
            agent=deployment.agent,
        )


def _effects_of(
    forgets: tuple[Accepted, ...], deployment: Deployment | None
) -> dict[str, dict[Partition, int]]:
    if deployment is None:
        return {}
    return {each.control_id: deployment.positions(each.control_id) for each in forgets}


def _no_room(text: str) -> OverloadError:
    return OverloadError("no_room", text, retry_s=ROOM_RETRY_S)
