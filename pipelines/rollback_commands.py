"""Rolling an agent back, as people ask for it: preview, do, undo, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from headrace.pipelines.past.reach import check_past
from headrace.pipelines.previewing import Preview
from headrace.pipelines.reader import KafkaLogs
from headrace.pipelines.rollback_views import Views
from headrace.pipelines.site import spec_of
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.submission import Submission, used_otherwise
from headrace.pipelines.undoing import keeping, to_undo, way_back
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.views import (
    Partition,
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

    async def rollback(
        self, request: RollbackRequest, request_id: str | None = None
    ) -> RollbackView:
        """Returns when the shards of this worker answer from the new epoch; at once, if this has
        been asked before under that id.

        Raises NotFoundError, ConflictError, RequestError, CorruptStateError `snapshot_damaged`,
        and what a command raises.
        """
        begun = self._begun(request.agent, request_id, lambda done: _asks_for(request, done))
        return begun or await self._roll_back(await self._command(request), request_id)

    async def undo(
        self, agent: str, control_id: str | None, request_id: str | None = None
    ) -> RollbackView:
        """Go back to what the rollback replaced, in the same scope; `request_id` as in `rollback`.

        Raises NotFoundError `unknown_rollback`, ConflictError, RequestError.
        """
        begun = self._begun(
            agent, request_id, lambda done: bool(done.undoes) and control_id in (None, done.undoes)
        )
        if begun is not None:
            return begun
        deployment = self._worker.controls.registry.get(agent)
        accepted = to_undo(deployment, control_id)
        assert isinstance(accepted.command, control.Rollback)
        keys = accepted.command.keys
        command = self._early(deployment, accepted, keys)
        if command is None:
            snapshot = self._snapshots.get(undo_id(agent, accepted.control_id))
            command = await self._to(deployment, snapshot, keys)
        command = msgspec.structs.replace(
            command, undoes=accepted.control_id, if_standing=True, where_standing=True
        )
        return await self._roll_back(command, request_id)

    def get(self, control_id: str) -> RollbackView:
        """Raises NotFoundError `unknown_rollback`."""
        self._worker.check_ready()
        for deployment in self._worker.controls.registry.live():
            for accepted in deployment.rollbacks():
                if accepted.control_id == control_id:
                    return Views(self._worker, deployment, [accepted])[0]
        raise NotFoundError("unknown_rollback", f"there is no rollback {control_id!r}")

    def list(self, agent: str) -> Sequence[RollbackView]:
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        return Views(self._worker, deployment, deployment.rollbacks()[::-1])

    # -- what is asked for -------------------------------------------------------------------

    def _begun(
        self, agent: str, request_id: str | None, is_it: Callable[[control.Rollback], bool]
    ) -> RollbackView | None:
        """What was asked for under that id before; None: nothing was.

        Raises RequestError if that was something else, and what it was refused with.
        """
        self._worker.check_ready()
        registry = self._worker.controls.registry
        deployment = registry.get(agent)
        if request_id is None:
            return None
        done = deployment.accepted(request_id)
        if done is None:
            refused = registry.refusal(request_id)
            if refused is not None:
                raise refused
            if registry.has_seen(request_id):
                raise used_otherwise(request_id)
            return None
        if not isinstance(done.command, control.Rollback) or not is_it(done.command):
            raise used_otherwise(request_id)
        return Views(self._worker, deployment, [done])[0]

    async def _command(self, request: RollbackRequest) -> control.Rollback:
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(request.agent)
        _check_mode(request)
        kept_by = keeping(deployment, request.snapshot_id or "")
        if kept_by is not None and request.mode == "revert":
            early = self._early(deployment, kept_by, request.keys)
            if early is not None:
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
        check_past(request.before_ms, self._worker.vault.now_ms())
        former = 0
        for view in self._snapshots.list(request.agent):  # newest first
            taken = view.complete and view.kind != "undo" and not (view.imported or view.former)
            if view.created_ms >= request.before_ms:
                continue
            if taken:
                return view
            former += view.former
        before = datetime.fromtimestamp(request.before_ms / 1000, UTC)
        raise NotFoundError(
            "unknown_snapshot",
            f"agent {request.agent!r} has no complete snapshot from before {before:%F %T} UTC"
            + (f" of its present life, and {former} of former ones" if former else "")
            + f"; `headrace snapshot ls {request.agent}` lists them",
        )

    def _early(
        self, deployment: control.Deployment, accepted: control.Accepted, keys: tuple[str, ...]
    ) -> control.Rollback | None:
        """The way back to what a rollback replaced, while that is not published as a whole; None:
        it is, or was removed, or is of another spec. Raises ConflictError.
        """
        catalogue = self._worker.vault.catalogue
        snapshot_id = undo_id(deployment.agent, accepted.control_id)
        view = catalogue.get(snapshot_id)
        if (view is not None and view.complete) or catalogue.was_removed(snapshot_id):
            return None
        if accepted.spec_version != deployment.spec_version:
            return None
        self._check_keys(deployment, keys)
        self._worker.controls.registry.check_replacing(deployment)
        return way_back(deployment, accepted, keys)

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
            both = (
                f"to go back to both, deploy that spec with --migration from={snapshot.snapshot_id}"
            )
            if snapshot.imported:
                both = "deploy that spec first, then roll back to the snapshot"
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot.snapshot_id!r} is of spec version {snapshot.spec_version} (digest "
                f"{snapshot.spec_digest[:12]}), and agent {agent!r} runs {deployment.spec_version} "
                f"({deployment.deploy.digest[:12]}): {both}",
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
            spec_digest=snapshot.spec_digest,
        )

    async def _check_partitions(
        self, deployment: control.Deployment, snapshot: SnapshotView
    ) -> None:
        """Raises ConflictError unless an imported snapshot has a shard for each partition of the
        agent's topic.
        """
        topic = deployment.source_topic
        other = {shard.topic for shard in snapshot.shards} - {topic}
        if other:
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot.snapshot_id!r} is of topic {min(other)!r}, and agent "
                f"{deployment.agent!r} reads {topic!r}",
                snapshot=snapshot.snapshot_id,
            )
        partitions = await self._worker.topics.partition_count(topic)
        if snapshot.partitions != partitions:
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot.snapshot_id!r} has {snapshot.partitions} partitions, and {topic!r} has "
                f"{partitions}: their keys lie elsewhere",
                snapshot=snapshot.snapshot_id,
            )

    # -- on its way --------------------------------------------------------------------------

    async def _roll_back(self, command: control.Rollback, request_id: str | None) -> RollbackView:
        now_ms = self._worker.vault.now_ms()
        command = msgspec.structs.replace(command, id=request_id or command.id, asked_ms=now_ms)
        try:
            await self._submission.submit(command)
            self._check_own(command)
            await self._submission.swapped(command)
        except UnavailableError as error:
            if error.code != "control_timeout":
                raise
            self._check_own(command)
            if command.mode != "rewind":
                raise UnavailableError(
                    "control_timeout",
                    f"the rollback {command.id} is in the control log, and not done yet: "
                    f"`headrace rollbacks {command.agent}` shows how far it is",
                    rollback=command.id,
                ) from None
        return self.get(command.id)  # a rewind takes as long as its log is long

    def _check_own(self, command: control.Rollback) -> None:
        """Raises RequestError if somebody was quicker to ask for another thing under that id."""
        accepted = self._worker.controls.registry.get(command.agent).accepted(command.id)
        done = command if accepted is None else accepted.command
        assert isinstance(done, control.Rollback)
        if _meant(done) != _meant(command):
            raise used_otherwise(command.id)


def _meant(command: control.Rollback) -> tuple[object, ...]:
    """What it says but for what was reckoned of that."""
    return command.snapshot_id, command.mode, command.keys, command.exclude, command.undoes


def _asks_for(request: RollbackRequest, done: control.Rollback) -> bool:
    """Whether that is what came of the request: a time is not held against the snapshot."""
    same = (done.mode, done.keys, done.exclude) == (request.mode, request.keys, request.exclude)
    return same and not done.undoes and request.snapshot_id in (None, done.snapshot_id)


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
