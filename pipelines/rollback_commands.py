"""Rolling an agent back, as people ask for it: preview, do, undo, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from headrace.clock import new_id
from headrace.errors import (
    ConflictError,
    NotFoundError,
    RequestError,
    UnavailableError,
)
from headrace.models import exclusion
from headrace.models.reverting import can_revert_keys
from headrace.pipelines import control
from headrace.pipelines.bases import bases, check_complete, check_life
from headrace.pipelines.previewing import Preview
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.site import spec_of
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.submission import Submission
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.views import (
    Partition,
    Position,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotView,
)


class RollbackCommands:
    """Implements `ports.Rollbacks`."""

    def __init__(self, worker: Worker, snapshots: SnapshotCommands) -> None:
        self._worker = worker
        self._snapshots = snapshots
        self._submission = Submission(worker)
        self._logs = KafkaLogs(worker.broker.bootstrap)

    async def preview(self, request: RollbackRequest) -> RollbackPreview:
        """Raises what `rollback` would raise. Changes nothing."""
        command = await self._command(request)
        return await Preview(self._worker, command).made()

    async def rollback(self, request: RollbackRequest) -> RollbackView:
        """Returns when the shards of this worker answer from the new epoch.

        Raises NotFoundError, ConflictError, RequestError, CorruptStateError `snapshot_damaged`,
        and what a command raises.
        """
        return await self._roll_back(await self._command(request))

    async def undo(self, agent: str, control_id: str | None) -> RollbackView:
        """Go back to what the rollback replaced, in the same scope.

        Raises NotFoundError `unknown_rollback`, ConflictError.
        """
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        done = [
            a.command for a in deployment.rollbacks() if isinstance(a.command, control.Rollback)
        ]
        undone = {command.undoes for command in done}
        found = [
            command
            for command in done
            if (command.id == control_id)
            or (control_id is None and not command.undoes and command.id not in undone)
        ]
        if not found:
            which = "no rollback to undo" if control_id is None else f"no rollback {control_id!r}"
            raise NotFoundError(
                "unknown_rollback", f"agent {agent!r} has {which}", rollback=control_id or ""
            )
        undone_now = found[-1]
        snapshot_id = undo_id(agent, undone_now.id)
        command = self._not_published(deployment, snapshot_id, undone_now.keys)
        if command is None:
            snapshot = self._snapshots.get(snapshot_id)
            command = await self._to(deployment, snapshot, undone_now.keys)
        return await self._roll_back(msgspec.structs.replace(command, undoes=undone_now.id))

    def get(self, control_id: str) -> RollbackView:
        """Raises NotFoundError `unknown_rollback`."""
        self._worker.check_ready()
        for deployment in self._worker.controls.registry.live():
            for accepted in deployment.rollbacks():
                if accepted.control_id == control_id:
                    return self._view(deployment, accepted)
        raise NotFoundError("unknown_rollback", f"there is no rollback {control_id!r}")

    def list(self, agent: str) -> Sequence[RollbackView]:
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        return [self._view(deployment, accepted) for accepted in deployment.rollbacks()[::-1]]

    # -- what is asked for -------------------------------------------------------------------

    async def _command(self, request: RollbackRequest) -> control.Rollback:
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(request.agent)
        _check_mode(request)
        early = self._not_published(deployment, request.snapshot_id or "", request.keys)
        if early is not None and request.mode == "revert":
            return early
        snapshot = self._chosen(request)
        command = await self._to(deployment, snapshot, request.keys)
        if request.mode != "rewind":
            return command
        if snapshot.imported:
            raise ConflictError(
                "log_too_short",
                f"{snapshot.snapshot_id!r} was imported: where it ends in this log nobody knows, "
                "so what came since cannot be learned again. Take mode `revert`",
                snapshot=snapshot.snapshot_id,
            )
        command = msgspec.structs.replace(command, mode="rewind", exclude=request.exclude)
        await self._check_reach(deployment, command)
        return command

    async def _check_reach(self, deployment: control.Deployment, command: control.Rollback) -> None:
        """Raises ConflictError `log_too_short` if what came since has been retired in part."""
        for base in command.bases:
            where = Partition(deployment.source_topic, base.partition)
            log_span = await self._logs.span(where)
            if base.next_offset < log_span.begin:
                raise ConflictError(
                    "log_too_short",
                    f"{where.topic}[{where.partition}] begins at offset {log_span.begin}, and "
                    f"{command.snapshot_id!r} goes on from {base.next_offset}: what came in "
                    "between cannot be learned again. Take a newer snapshot, or mode `revert`",
                    snapshot=command.snapshot_id,
                )

    def _chosen(self, request: RollbackRequest) -> SnapshotView:
        if request.snapshot_id is not None:
            return self._snapshots.get(request.snapshot_id)
        if request.before_ms is None:
            raise RequestError("invalid_request", "name a snapshot, or a time before which")
        for view in self._snapshots.list(request.agent):  # newest first
            taken = view.complete and view.kind != "undo" and not view.imported
            if taken and view.created_ms < request.before_ms:
                return view
        before = datetime.fromtimestamp(request.before_ms / 1000, UTC)
        raise NotFoundError(
            "unknown_snapshot",
            f"agent {request.agent!r} has no complete snapshot from before {before:%F %T} UTC; "
            f"`headrace snapshot ls {request.agent}` lists them",
        )

    def _not_published(
        self, deployment: control.Deployment, snapshot_id: str, keys: tuple[str, ...]
    ) -> control.Rollback | None:
        """The command that goes back to the undo snapshot of a rollback which has been done in all
        partitions, as long as it is not published as a whole; else None. Raises ConflictError.
        """
        view = self._worker.vault.catalogue.get(snapshot_id)
        if (view is not None and view.complete) or self._worker.vault.catalogue.was_removed(
            snapshot_id
        ):
            return None
        for accepted in deployment.rollbacks():
            agent, control_id = deployment.agent, accepted.control_id
            of_spec = accepted.spec_version == deployment.spec_version
            if undo_id(agent, control_id) != snapshot_id or not of_spec:
                continue
            self._check_keys(deployment, keys)
            self._worker.controls.registry.check_replacing(deployment)
            return control.Rollback(
                id=new_id(),
                agent=agent,
                life=deployment.life,
                snapshot_id=snapshot_id,
                bases=tuple(
                    control.Base(
                        partition=partition.partition,
                        epoch=accepted.epoch - 1,
                        next_offset=offset,
                        digest="",
                    )
                    for partition, offset in sorted(deployment.positions(control_id).items())
                ),
                keys=keys,
            )
        return None

    def _check_keys(self, deployment: control.Deployment, keys: tuple[str, ...]) -> None:
        """Raises ConflictError `not_per_key` if single keys of the agent cannot go back."""
        if keys and not can_revert_keys(spec_of(deployment)):
            raise ConflictError(
                "not_per_key",
                f"the keys of agent {deployment.agent!r} share a model: only the whole agent can "
                "go back",
            )

    async def _to(
        self, deployment: control.Deployment, snapshot: SnapshotView, keys: tuple[str, ...]
    ) -> control.Rollback:
        """The command that goes back to that snapshot, after everything that speaks against it."""
        agent = deployment.agent
        if snapshot.agent == agent and snapshot.imported:
            await self._check_partitions(deployment, snapshot)
        else:
            check_life(deployment, snapshot)
        same = snapshot.imported or snapshot.spec_version == deployment.spec_version
        if not same or snapshot.spec_digest != deployment.deploy.digest:
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot.snapshot_id!r} is of spec version {snapshot.spec_version} (digest "
                f"{snapshot.spec_digest[:12]}), and agent {agent!r} runs {deployment.spec_version} "
                f"({deployment.deploy.digest[:12]}): to go back to both, deploy that spec with "
                f"--migration from={snapshot.snapshot_id}",
                snapshot=snapshot.snapshot_id,
            )
        check_complete(snapshot)
        self._check_keys(deployment, keys)
        self._worker.controls.registry.check_replacing(deployment)
        return control.Rollback(
            id=new_id(),
            agent=agent,
            life=deployment.life,
            snapshot_id=snapshot.snapshot_id,
            bases=await bases(self._worker.vault, snapshot),
            keys=keys,
        )

    async def _check_partitions(
        self, deployment: control.Deployment, snapshot: SnapshotView
    ) -> None:
        """Raises ConflictError unless an imported snapshot has a shard for each partition."""
        topic = deployment.source_topic
        partitions = await self._worker.topics.partition_count(topic)
        if snapshot.partitions != partitions:
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot.snapshot_id!r} has {snapshot.partitions} partitions, and {topic!r} has "
                f"{partitions}: their keys lie elsewhere",
                snapshot=snapshot.snapshot_id,
            )

    # -- on its way --------------------------------------------------------------------------

    async def _roll_back(self, command: control.Rollback) -> RollbackView:
        try:
            await self._submission.submit(command)
            await self._submission.swapped(command)
        except UnavailableError as error:
            if error.code != "control_timeout":
                raise
            if command.mode != "rewind":
                raise UnavailableError(
                    "control_timeout",
                    f"the rollback {command.id} is in the control log, and not done yet: "
                    f"`headrace rollbacks {command.agent}` shows how far it is",
                    rollback=command.id,
                ) from None
        return self.get(command.id)  # a rewind takes as long as its log is long

    def _view(self, deployment: control.Deployment, accepted: control.Accepted) -> RollbackView:
        command = accepted.command
        assert isinstance(command, control.Rollback)
        return RollbackView(
            control_id=command.id,
            agent=command.agent,
            mode=command.mode,
            snapshot_id=command.snapshot_id,
            undo_snapshot_id=undo_id(command.agent, command.id),
            undoes=command.undoes,
            keys=command.keys,
            epoch=accepted.epoch,
            partitions=len(command.bases),
            positions=tuple(
                Position(p.topic, p.partition, offset)
                for p, offset in sorted(deployment.positions(command.id).items())
            ),
            note="; ".join(
                f"not done in {p.topic}[{p.partition}]: {why}"
                for p, why in sorted(deployment.failed(command.id).items())
            ),
        )


def _check_mode(request: RollbackRequest) -> None:
    """Raises RequestError if mode and exclusion do not go together."""
    if request.mode not in ("revert", "rewind"):
        raise RequestError("invalid_request", f"there is no mode {request.mode[:40]!r}")
    if request.exclude is None:
        return
    if request.mode == "revert":
        raise RequestError(
            "invalid_request", "only mode `rewind` learns again, so only there events are excluded"
        )
    if found := exclusion.problems(request.exclude):
        raise RequestError("invalid_request", "the exclusion is wrong", violations=found)
