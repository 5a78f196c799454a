"""Making, keeping and removing snapshots, as people ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.clock import new_id
from headrace.errors import ConflictError, NotFoundError, OverloadError, RequestError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import in_use_by
from headrace.pipelines.submission import Submission
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.state.catalogue import NAMED_MAX, Catalogue
from headrace.state.cut import agent_of
from headrace.state.manifest import is_snapshot_id
from headrace.views import SnapshotView

PUBLISH_WAIT_S = 30.0
"""How long `create` waits until all of a snapshot is published; it goes on without being waited
for."""
PUBLISH_LOOK_S = 0.02


class SnapshotCommands:
    """Implements `ports.Snapshots`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._submission = Submission(worker)

    async def create(self, agent: str, name: str) -> SnapshotView:
        """The snapshot, complete unless publishing it takes very long.

        Raises RequestError, NotFoundError, ConflictError `snapshot_exists`, and what a command
        raises.
        """
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        snapshot_id = f"{agent}.{name}"
        if not is_snapshot_id(snapshot_id) or name.startswith(("auto-", "undo-")):
            raise RequestError(
                "invalid_request",
                f"{name[:80]!r} cannot name a snapshot: take a-z, 0-9, '.', '_' and '-', and begin "
                "with neither 'auto-' nor 'undo-', which are the service's own",
            )
        if self._worker.vault.catalogue.get(snapshot_id) is not None:
            raise ConflictError(
                "snapshot_exists",
                f"there is a snapshot {snapshot_id!r} already",
                snapshot=snapshot_id,
            )
        check_room(self._worker.vault.catalogue, agent)
        partitions = await self._worker.topics.partition_count(deployment.source_topic)
        await self._submission.submit(
            control.Snapshot(
                id=new_id(),
                agent=agent,
                life=deployment.life,
                snapshot_id=snapshot_id,
                partitions=partitions,
            )
        )
        return await self.published(snapshot_id)

    async def published(self, snapshot_id: str) -> SnapshotView:
        """The snapshot, as soon as it is complete; after PUBLISH_WAIT_S as it stands."""
        catalogue = self._worker.vault.catalogue
        clock = asyncio.get_running_loop().time
        until = clock() + PUBLISH_WAIT_S
        while clock() < until:
            view = catalogue.get(snapshot_id)
            if view is not None and view.complete:
                return view
            self._worker.check_ready()
            await asyncio.sleep(PUBLISH_LOOK_S)
        return self.get(snapshot_id)

    def list(self, agent: str | None) -> Sequence[SnapshotView]:
        self._worker.check_ready()
        return self._worker.vault.catalogue.snapshots(agent)

    def get(self, snapshot_id: str) -> SnapshotView:
        """Raises NotFoundError: `unknown_snapshot`, or `snapshot_expired` if it was there; and
        ConflictError `snapshot_incomplete` if nothing of it is published yet.
        """
        self._worker.check_ready()
        catalogue = self._worker.vault.catalogue
        view = catalogue.get(snapshot_id)
        if view is not None:
            return view
        if catalogue.was_removed(snapshot_id):
            raise NotFoundError(
                "snapshot_expired",
                f"snapshot {snapshot_id!r} has been removed",
                snapshot=snapshot_id,
            )
        partitions = self._partitions_of(snapshot_id)
        if partitions is not None:
            raise ConflictError(
                "snapshot_incomplete",
                f"snapshot {snapshot_id!r} is being published: 0 of {partitions} partitions are "
                "in the repository. Ask again in a moment",
                snapshot=snapshot_id,
            )
        raise NotFoundError(
            "unknown_snapshot",
            f"no snapshot is called {snapshot_id!r}; `headrace snapshot ls` lists them",
            snapshot=snapshot_id,
        )

    def _partitions_of(self, snapshot_id: str) -> int | None:
        """Of a snapshot that the control log asks for; None if it does not."""
        deployment = self._worker.controls.registry.last(agent_of(snapshot_id))
        for accepted in reversed(deployment.commands if deployment else []):
            command = accepted.command
            if isinstance(command, control.Snapshot) and command.snapshot_id == snapshot_id:
                return command.partitions
            if (
                isinstance(command, control.Rollback)
                and undo_id(command.agent, command.id) == snapshot_id
            ):
                return len(command.bases)
        return None

    async def pin(self, snapshot_id: str, *, pinned: bool) -> SnapshotView:
        self.get(snapshot_id)
        await self._worker.vault.pin(snapshot_id, pinned=pinned)
        return self.get(snapshot_id)

    async def delete(self, snapshot_id: str) -> None:
        """Raises ConflictError `snapshot_in_use` if a rollback may still need it."""
        view = self.get(snapshot_id)
        if snapshot_id in in_use_by(self._worker.controls.registry, self._worker.vault):
            raise ConflictError(
                "snapshot_in_use",
                f"agent {view.agent!r} was rolled back to {snapshot_id!r}, and no complete "
                "snapshot of what came of that is there yet: try again in a minute",
            )
        await self._worker.vault.remove(snapshot_id)


def check_room(catalogue: Catalogue, agent: str) -> None:
    """Raises OverloadError `no_room` if the agent has as many named snapshots as it may have."""
    if sum(view.kind == "named" for view in catalogue.snapshots(agent)) >= NAMED_MAX:
        raise OverloadError(
            "no_room",
            f"agent {agent!r} has {NAMED_MAX:,} named snapshots: delete one first",
            retry_s=control.ROOM_RETRY_S,
        )
