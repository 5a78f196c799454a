"""Forgetting a key, as people ask for it: what it would do, do, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from headrace.clock import new_id
from headrace.errors import ConflictError, NotFoundError, UnavailableError
from headrace.pipelines import control
from headrace.pipelines.erasing import FORGET_WITHIN_MS, owed_by
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.submission import Submission
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.state.tombstones import Secret, tombstone
from headrace.views import ForgetView, Position

TOPICS: Final = (
    "the topics still hold what they held: the source {source}, the decisions {decisions} and the "
    "quarantine {quarantine}, until their retention or you remove it; so does a key that is a "
    "feature of others"
)
ITEMS: Final = "; what the items of this recommender have learned from it stays counted, unnamed"


class ForgetCommands:
    """Implements `ports.Forgets`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._submission = Submission(worker)

    async def preview(self, agent: str, key: str) -> ForgetView:
        """What would be erased, and what would not. Raises what `forget` would raise."""
        deployment = self._checked(agent)
        partitions = await self._worker.topics.partition_count(deployment.source_topic)
        views = self._worker.vault.catalogue.snapshots(agent)
        kept = [view.kind == "named" or view.pinned for view in views]
        deleting = tuple(v.snapshot_id for v, k in zip(views, kept, strict=True) if not k)
        return ForgetView(
            control_id="",
            agent=agent,
            known=self._is_known(agent, key, partitions),
            partitions=partitions,
            deleting=deleting,
            rewriting=tuple(v.snapshot_id for v, k in zip(views, kept, strict=True) if k),
            rollbacks=tuple(self._losing_undo(deployment, deleting)),
            gone_by_ms=self._worker.vault.now_ms() + FORGET_WITHIN_MS,
            note=self._note(deployment),
        )

    async def forget(self, agent: str, key: str) -> ForgetView:
        """Returns when nobody is answered with the key any more, unless a shard still learns again.

        Raises NotFoundError, ConflictError `not_per_key`, and what a command raises.
        """
        self._checked(agent)
        secret = await self._secret()
        command = control.Forget(
            id=new_id(),
            agent=agent,
            secret_id=secret.id,
            tombstone=tombstone(secret, agent, key),
            asked_ms=self._worker.vault.now_ms(),
        )
        try:
            if (await self._submission.submit(command)).changed:
                await self._submission.swapped(command)
        except UnavailableError as error:
            if error.code != "control_timeout":
                raise
        return self.get(command.id)

    def get(self, control_id: str) -> ForgetView:
        """Raises NotFoundError `unknown_forget`."""
        self._worker.check_ready()
        registry = self._worker.controls.registry
        for deployment in (*registry.live(), *registry.deleted()):
            for accepted in deployment.forgets():
                if accepted.control_id == control_id:
                    return self._view(deployment, accepted)
        raise NotFoundError("unknown_forget", f"nobody was told to forget a key by {control_id!r}")

    def _checked(self, agent: str) -> control.Deployment:
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        spec = spec_of(deployment)
        if spec.shared and spec.kind != "ranker":
            raise ConflictError(
                "not_per_key",
                f"the keys of agent {agent!r} share one model, which has learned from all of them "
                "and cannot unlearn one: rewind the agent without that key's events, to a snapshot "
                "from before the first of them, or delete it and deploy it again",
                agent=agent,
            )
        return deployment

    async def _secret(self) -> Secret:
        """The oldest one. Two workers may make one each: both stay."""
        vault = self._worker.vault
        for secret_id in vault.catalogue.secret_ids():
            secret = vault.catalogue.secret(secret_id)
            assert secret is not None
            return secret
        made = Secret.made()
        await vault.note(made)
        return made

    def _view(self, deployment: control.Deployment, accepted: control.Accepted) -> ForgetView:
        command = accepted.command
        assert isinstance(command, control.Forget)
        positions = deployment.positions(command.id)
        owed = owed_by(self._worker.vault, command.agent)
        return ForgetView(
            control_id=command.id,
            agent=command.agent,
            partitions=self._worker.topics.known_partition_count(deployment.source_topic),
            positions=tuple(
                Position(p.topic, p.partition, offset) for p, offset in sorted(positions.items())
            ),
            deleting=tuple(owed.deleting),
            rewriting=tuple(owed.rewriting),
            gone_by_ms=command.asked_ms + FORGET_WITHIN_MS,
            note=self._note(deployment),
        )

    def _is_known(self, agent: str, key: str, partitions: int) -> bool | None:
        """None: not to this worker's shards, and others have the rest."""
        shards = self._worker.shards.of_agent(agent)
        if any(_knows(shard, key) for shard in shards):
            return True
        return False if len(shards) >= partitions else None

    def _losing_undo(
        self, deployment: control.Deployment, deleting: Sequence[str]
    ) -> Iterator[str]:
        """Rollbacks that can be taken back now, and not without those snapshots; newest first."""
        for accepted in deployment.standing():
            undo = undo_id(deployment.agent, accepted.control_id)
            if undo in deleting or self._worker.vault.owes(undo):
                yield accepted.control_id

    def _note(self, deployment: control.Deployment) -> str:
        note = TOPICS.format(
            source=deployment.source_topic,
            decisions=deployment.deploy.emit_topic,
            quarantine=self._worker.quarantine_topic,
        )
        return note + (ITEMS if spec_of(deployment).kind == "ranker" else "")


def _knows(shard: Shard, key: str) -> bool:
    try:
        shard.learner.describe(key, shard.next_offset)
    except NotFoundError:
        return False
    return True
