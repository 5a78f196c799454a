"""The control log as a pure fold: which agents exist, and where each change took effect.

The control log is one topic of one partition. It holds *commands* (deploy, pause, resume, delete,
snapshot, rollback) and, for every shard that a command concerns, an *effect*: the next offset of
the shard at the moment at which the command was applied. `Registry.apply` folds the records in
order; two workers that have read the same prefix of the log hold the same registry. So what a
command meant (accepted, refused, without effect) is decided by its place in the log and by nothing
else.
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
    Pause,
    Resume,
    Rollback,
    ShardEffect,
    Snapshot,
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
        self._outcomes: dict[str, Outcome] = {}  # the newest, in the order of the log
        self.next_offset = 0

    def live(self) -> Iterator[Deployment]:
        """The deployments that are not deleted, by name."""
        yield from (self._live[name] for name in sorted(self._live))

    def deleted(self) -> list[Deployment]:
        """The newest deployments of the agents that are deleted, by name."""
        return [last for _, last in sorted(self._last.items()) if last.deleted]

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

    def outcome(self, control_id: str) -> Outcome:
        """What became of a command. Raises KeyError if it has not been read, or long ago."""
        return self._outcomes[control_id]

    def apply(self, record: ControlRecord | None, offset: int) -> Accepted | None:
        """Fold one record (None: one of somebody else). Returns the command if it changed
        something, else None.
        """
        self.next_offset = offset + 1
        if isinstance(record, ShardEffect):
            self._effect(record)
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
        deployment = self._last.get(effect.agent)
        if deployment is None or not deployment.life <= effect.epoch <= deployment.epoch:
            return  # of a life that is over
        partition = Partition(effect.topic, effect.partition)
        place = (effect.control_id, partition)
        if place not in deployment.effects:
            deployment.effects[place] = effect.next_offset
            if effect.failed:
                deployment.failures[place] = effect.failed

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
        if isinstance(record, Snapshot | Rollback):
            self.check_life(deployment, record)
        if isinstance(record, Pause | Resume):
            deployment.paused = isinstance(record, Pause)
        elif isinstance(record, Rollback):
            self.check_rollback(deployment)
            deployment.epoch += 1
        return deployment.accept(record, offset)

    def check_life(self, deployment: Deployment, record: Snapshot | Rollback) -> None:
        """Raises ConflictError if the agent is not the one that the command was meant for."""
        if record.life != deployment.life:
            raise ConflictError(
                "spec_mismatch",
                f"agent {record.agent!r} was deployed anew meanwhile: ask again",
                agent=record.agent,
            )

    def check_rollback(self, deployment: Deployment) -> None:
        """Raises ConflictError if a rollback of the agent is on its way."""
        running = deployment.rolling_back()
        if running is not None:
            raise ConflictError(
                "rollback_running",
                f"agent {deployment.agent!r} is being rolled back ({running.control_id}): "
                "ask again when that is done",
                agent=deployment.agent,
            )

    def _deploy(self, record: Deploy, offset: int) -> Accepted | None:
        self.check_deploy(record)
        if record.agent in self._live:
            return None
        before = self._last.get(record.agent)
        epoch = max(record.epoch_min, before.epoch + 1 if before else 1)
        deployment = Deployment(
            deploy=record,
            life=epoch,
            epoch=epoch,
            spec_version=before.spec_version + 1 if before else 1,
        )
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
        there = self._live.get(record.agent)
        if there is not None and there.deploy.digest != record.digest:
            raise ConflictError(
                "agent_exists",
                f"agent {record.agent!r} runs another spec (digest {there.deploy.digest[:12]}); "
                "a changed spec under an existing name is not taken over yet: "
                "delete the agent first, or deploy under a new name",
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


def _no_room(text: str) -> OverloadError:
    return OverloadError("no_room", text, retry_s=ROOM_RETRY_S)
