"""Making, keeping and removing snapshots, as people ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from headrace.clock import new_id
from headrace.errors import ConflictError, NotFoundError, OverloadError, RequestError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import in_use_by, known_of
from headrace.pipelines.submission import Submission
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.state.catalogue import NAMED_MAX, Catalogue
from headrace.state.cut import agent_of, is_own
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
        self.coming: set[str] = set()  # what imports are bringing

    async def create(self, agent: str, name: str) -> SnapshotView:
        """The snapshot, complete unless publishing it takes very long.

        Raises RequestError, NotFoundError, ConflictError `snapshot_exists`, and what a command
        raises.
        """
        self._worker.check_ready()
        deployment = self._worker.controls.registry.get(agent)
        snapshot_id = f"{agent}.{name}"
        if not is_snapshot_id(snapshot_id) or is_own(snapshot_id):
            raise RequestError(
                "invalid_request",
                f"{name[:80]!r} cannot name a snapshot: take a-z, 0-9, '.', '_' and '-', and begin "
                "with neither 'auto-' nor 'undo-', which are the service's own",
            )
        there = self._worker.vault.catalogue.get(snapshot_id)
        if there is not None or snapshot_id in self.coming:
            raise _exists(
                f"there is a snapshot {snapshot_id!r} already: take another name, or remove that"
                f" one with `headrace snapshot rm {snapshot_id}`",
                snapshot_id,
            )
        self.check_not_going(snapshot_id)
        self.check_not_asked_for(snapshot_id)
        check_room(self._worker.vault.catalogue, agent)
        partitions = await self._worker.topics.partition_count(deployment.source_topic)
        await self._submission.submit(
            control.Snapshot(
                id=new_id(),
                agent=agent,
                life=deployment.life,
                snapshot_id=snapshot_id,
                partitions=partitions,
                free_from=self._worker.vault.catalogue.free_from(snapshot_id, deployment.life),
            )
        )
        made = await self.published(snapshot_id, deployment.life)
        if made.imported:
            text = f"an import has brought a snapshot {snapshot_id!r} meanwhile"
            raise _exists(text, snapshot_id)
        return made

    def check_not_going(self, snapshot_id: str) -> None:
        """Raises ConflictError `snapshot_exists` if one of that id is being removed here: the name
        is free when that is over.
        """
        if self._worker.vault.uses.is_going(snapshot_id):
            text = f"a snapshot {snapshot_id!r} is being removed: try again in a moment"
            raise _exists(text, snapshot_id)

    def check_not_asked_for(self, snapshot_id: str) -> None:
        """Raises ConflictError `snapshot_exists` if one of that id is on its way."""
        if self._is_asked_for(snapshot_id):
            raise _exists(
                f"a snapshot {snapshot_id!r} is being made: wait for it, or give it up with"
                f" `headrace snapshot rm {snapshot_id}`",
                snapshot_id,
            )

    def _is_asked_for(self, snapshot_id: str) -> bool:
        """Whether it is being made, somewhere: a user has asked for it, it is not complete, and was
        not removed since.
        """
        catalogue = self._worker.vault.catalogue
        deployment = self._worker.controls.registry.last(agent_of(snapshot_id))
        view = catalogue.get(snapshot_id)
        return (view is None or not view.complete) and any(
            isinstance(accepted.command, control.Snapshot)
            and accepted.command.snapshot_id == snapshot_id
            and not catalogue.is_over(snapshot_id, accepted.epoch, accepted.offset)
            for accepted in (deployment.commands if deployment else ())
        )

    async def published(self, snapshot_id: str, life: int = 0) -> SnapshotView:
        """The snapshot, as soon as it is complete; after PUBLISH_WAIT_S as it stands. One of a life
        before that one is another.
        """
        catalogue = self._worker.vault.catalogue
        clock = asyncio.get_running_loop().time
        until = clock() + PUBLISH_WAIT_S
        while clock() < until:
            view = catalogue.get(snapshot_id)
            if view is not None and view.complete and (view.imported or view.epoch >= life):
                return view
            self._worker.check_ready()
            await asyncio.sleep(PUBLISH_LOOK_S)
        return self.get(snapshot_id)

    def list(self, agent: str | None) -> Sequence[SnapshotView]:
        self._worker.check_ready()
        return [self._lived(view) for view in self._worker.vault.catalogue.snapshots(agent)]

    def get(self, snapshot_id: str) -> SnapshotView:
        """Raises NotFoundError: `unknown_snapshot`, or `snapshot_expired` if it was there; and
        ConflictError `snapshot_incomplete` if nothing of it is published yet.
        """
        self._worker.check_ready()
        catalogue = self._worker.vault.catalogue
        view = catalogue.get(snapshot_id)
        if view is not None:
            return self._lived(view)
        if catalogue.was_removed(snapshot_id) and not self._is_asked_for(snapshot_id):
            text = f"snapshot {snapshot_id!r} has been removed"
            if is_own(snapshot_id) and self._partitions_of(snapshot_id) is not None:
                text += ": that rollback cannot be taken back any more"
            raise NotFoundError("snapshot_expired", text, snapshot=snapshot_id)
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

    def _lived(self, view: SnapshotView) -> SnapshotView:
        """The same, marked if the life that it is of is over."""
        last = self._worker.controls.registry.last(view.agent)
        over = last is not None and (last.deleted or view.epoch < last.life)
        former = over and not view.imported
        return msgspec.structs.replace(view, former=True) if former else view

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
        """Also of what is still being made. Raises NotFoundError, ConflictError: `snapshot_in_use`
        if a rollback may still need it, `snapshot_exists` if an import of that id is not done.
        """
        if not self._is_asked_for(snapshot_id):
            self.get(snapshot_id)
        if snapshot_id in self.coming:
            raise _exists(f"an import brings {snapshot_id!r} just now", snapshot_id)
        vault = self._worker.vault
        self._check_not_being_filled(snapshot_id)
        if vault.uses.is_wanted(snapshot_id):
            raise ConflictError(
                "snapshot_in_use",
                f"a rollback or a migration begins from {snapshot_id!r} just now",
                snapshot=snapshot_id,
            )
        if snapshot_id in in_use_by(self._worker.controls.registry, vault):
            raise ConflictError(
                "snapshot_in_use",
                f"agent {agent_of(snapshot_id)!r} was rolled back to {snapshot_id!r}, and no "
                "complete snapshot of what came of that is there yet: try again in a minute",
            )
        known = known_of(snapshot_id, self._worker.controls.registry)
        await vault.remove(snapshot_id, *known)  # it says so before it waits for anything

    def _check_not_being_filled(self, snapshot_id: str) -> None:
        """Raises ConflictError `snapshot_in_use` if a rollback is putting into it what it replaces:
        the other shards would be taken back alone.
        """
        deployment = self._worker.controls.registry.last(agent_of(snapshot_id))
        running = deployment.replacing() if deployment else None
        if running is not None and undo_id(running.agent, running.control_id) == snapshot_id:
            raise ConflictError(
                "snapshot_in_use",
                f"{running.control_id!r} is putting into {snapshot_id!r} what it replaces: ask"
                " again when it is done",
                snapshot=snapshot_id,
            )


def _exists(text: str, snapshot_id: str) -> ConflictError:
    return ConflictError("snapshot_exists", text, snapshot=snapshot_id)


def check_room(catalogue: Catalogue, agent: str) -> None:
    """Raises OverloadError `no_room` if the agent has as many named snapshots as it may have."""
    if sum(view.kind == "named" for view in catalogue.snapshots(agent)) >= NAMED_MAX:
        raise OverloadError(
            "no_room",
            f"agent {agent!r} has {NAMED_MAX:,} named snapshots: delete one first",
            retry_s=control.ROOM_RETRY_S,
        )
