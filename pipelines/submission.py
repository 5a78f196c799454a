"""A command on its way: appended to the control log, and waited for until it has taken effect."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from headrace.errors import (
    DiskFullError,
    NotFoundError,
    OtherBuildError,
    OverloadError,
    RequestError,
    StateError,
    UnavailableError,
)
from headrace.pipelines import control
from headrace.pipelines.bases import held
from headrace.pipelines.worker import Worker
from headrace.views import Effect, Position

WAITING_MAX = 100
"""Commands read from the control log and not applied yet; beyond it no more are appended."""

SWAP_LOOK_S = 0.005
"""Between two looks at whether the shards here answer from the new epoch."""

WAITING_RETRY_S = 5.0
"""When to try again then: a command is applied in milliseconds, or, with a new topic, seconds."""

Swapping: TypeAlias = control.Rollback | control.Migrate | control.Forget
"""What puts another state in place of an agent's."""


class Submission:
    """Submits commands. One whose answer was lost can be sent again, under its own id."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def submit(self, command: control.Command) -> Effect:
        """Raises what the control log decides against it, UnavailableError, OverloadError, and
        StateError if the agent cannot run.
        """
        self._worker.check_ready()
        self._worker.presence.check()
        controls = self._worker.controls
        if controls.waiting >= WAITING_MAX:
            text = f"{WAITING_MAX} commands are waiting to be applied; try again later"
            raise OverloadError("overloaded", text, retry_s=WAITING_RETRY_S)
        if not isinstance(command, control.Deploy):
            controls.registry.get(command.agent)  # raises before anything is appended
            broken = self._worker.holdings.broken.get(command.agent)
            cured = isinstance(command, control.Delete) or (
                isinstance(broken, OtherBuildError) and control.begins_anew(command)
            )
            if broken is not None and not cured:
                raise type(broken)(str(broken))
        with held(self._worker.vault, command):
            await controls.append_in_time(command)
            outcome = controls.registry.outcome(command.id)
        if outcome.refused is not None:
            raise outcome.refused
        deployment = controls.registry.last(command.agent)
        assert deployment is not None
        done = outcome.accepted
        if done is not None and (done.agent, done.kind) != (command.agent, command.kind):
            raise used_otherwise(command.id)
        if done is None:
            return _effect(deployment, command.id, changed=False, note="nothing to change")
        await self._took_effect(deployment, command.id)
        return self.standing(command)

    def standing(self, command: control.Command) -> Effect:
        """How far a command that was accepted has taken effect."""
        deployment = self._worker.controls.registry.last(command.agent)
        assert deployment is not None
        return _effect(deployment, command.id, changed=True)

    async def swapped(self, command: Swapping) -> None:
        """Return when all shards of the agent that are here answer as the command says: from its
        epoch, or without the key.

        Raises UnavailableError `control_timeout`, and StateError if they cannot.
        """
        try:
            async with asyncio.timeout(self._worker.config.control_timeout_s):
                while not self._answers_from(command):  # noqa: ASYNC110 - it is not told
                    await asyncio.sleep(SWAP_LOOK_S)
        except TimeoutError:
            raise UnavailableError(
                "control_timeout", f"{command.id} is in the control log, and not done here yet"
            ) from None

    def _answers_from(self, command: Swapping) -> bool:
        broken = self._worker.holdings.broken.get(command.agent)
        if broken is not None:
            raise type(broken)(str(broken))
        accepted = self._worker.controls.registry.outcome(command.id).accepted
        assert accepted is not None
        shards = self._worker.shards.of_agent(command.agent)
        if isinstance(command, control.Forget):
            return all(shard.forgotten.newest >= accepted.offset for shard in shards)
        return all(shard.origin.epoch >= accepted.epoch for shard in shards)

    async def _took_effect(self, deployment: control.Deployment, control_id: str) -> None:
        controls = self._worker.controls
        topic = deployment.source_topic
        partitions = await self._worker.topics.partition_count(topic)
        seconds = self._worker.config.control_timeout_s

        def done() -> bool:
            return len(deployment.positions(control_id)) >= partitions

        def overtaken() -> bool:
            return controls.registry.last(deployment.agent) is not deployment or (
                deployment.deleted and deployment.commands[-1].control_id != control_id
            )

        def broken() -> StateError | None:
            why = self._worker.holdings.broken.get(deployment.agent)
            # A delete concerns it all the same, and an agent without room is tried again.
            passes = deployment.deleted or isinstance(why, DiskFullError)
            # What is learned anew is so because of that.
            last = deployment.commands[-1].command
            passes |= isinstance(why, OtherBuildError) and control.begins_anew(last)
            return None if passes else why

        try:
            await asyncio.wait_for(
                controls.wait_for(lambda: done() or overtaken() or broken() is not None),
                seconds,
            )
            if not done() and not overtaken() and (why := broken()) is not None:
                raise type(why)(str(why))
            if not done():
                raise NotFoundError(
                    "unknown_agent", f"agent {deployment.agent!r} was deleted meanwhile"
                )
            await asyncio.wait_for(self._worker.holdings.all_open(), seconds)
        except TimeoutError:
            raise UnavailableError(
                "control_timeout",
                f"the command is in the control log but has not taken effect in all {partitions} "
                f"partitions of {topic!r} after {seconds:g} s; `headrace agents` shows when it has",
            ) from None


def used_otherwise(control_id: str) -> RequestError:
    """What is said where an id that a caller has made up names another command already."""
    text = f"request_id: {control_id} has been used to ask for another thing"
    return RequestError("invalid_request", text)


def _effect(
    deployment: control.Deployment, control_id: str, *, changed: bool, note: str = ""
) -> Effect:
    return Effect(
        control_id=control_id,
        agent=deployment.agent,
        spec_version=deployment.spec_version,
        epoch=deployment.epoch,
        positions=tuple(
            Position(p.topic, p.partition, offset)
            for p, offset in sorted(deployment.positions(control_id).items())
        ),
        changed=changed,
        note=note,
    )
