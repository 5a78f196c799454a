"""What became of the rollbacks of an agent, as people are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from headrace.counts import counted
from headrace.pipelines import control
from headrace.pipelines.vault import undo_id
from headrace.pipelines.worker import Worker
from headrace.views import Partition, Position, RollbackView

UNDO_GONE = "its undo snapshot has been removed: it cannot be taken back"
UNDO_OF_AN_UNDO_GONE = "cannot be taken back itself: its undo snapshot has been removed"


class Views(Sequence[RollbackView]):
    """One view per rollback, made when somebody looks at it: there may be thousands."""

    def __init__(
        self, worker: Worker, deployment: control.Deployment, done: Sequence[control.Accepted]
    ) -> None:
        self._worker = worker
        self._deployment = deployment
        self._done = done
        self._undone = deployment.undone()

    def __len__(self) -> int:
        return len(self._done)

    @overload
    def __getitem__(self, at: int) -> RollbackView: ...

    @overload
    def __getitem__(self, at: slice) -> Views: ...

    def __getitem__(self, at: int | slice) -> RollbackView | Views:
        if isinstance(at, slice):
            return Views(self._worker, self._deployment, self._done[at])
        return self._view(self._done[at])

    def _view(self, accepted: control.Accepted) -> RollbackView:
        deployment, command = self._deployment, accepted.command
        assert isinstance(command, control.Rollback)
        told = deployment.published.get(command.id, {}).values()
        answering = {
            partition: offset
            for partition, offset in sorted(deployment.positions(command.id).items())
            if self._answers_from(accepted, partition)
        }
        failures = deployment.failed(command.id)
        unchanged = [(p, failures[p]) for p in answering if p in failures]
        failed = [(p, why) for p, why in unchanged if not deployment.leaves(accepted, p)]
        notes = [f"not done in {p.topic}[{p.partition}]: {why}" for p, why in failed]
        if left := len(unchanged) - len(failed):
            notes.append(f"there was nothing to take back in {counted(left, 'partition')}")
        undone_by = self._undone.get(command.id, "")
        removed = self._worker.vault.catalogue.was_removed(undo_id(command.agent, command.id))
        if removed and not undone_by:
            notes.append(UNDO_OF_AN_UNDO_GONE if command.undoes else UNDO_GONE)
        if broken := self._worker.holdings.broken.get(command.agent):
            notes.append(f"the agent has failed: {broken}")
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
                Position(p.topic, p.partition, offset) for p, offset in answering.items()
            ),
            note="; ".join(notes),
            published=len(told),
            withdrawn=sum(withdrawn for withdrawn, _ in told),
            reinstated=sum(reinstated for _, reinstated in told),
            failed=len(failed),
            left=left,
            undone_by=undone_by,
            asked_ms=command.asked_ms,
        )

    def _answers_from(self, accepted: control.Accepted, partition: Partition) -> bool:
        """Whether a partition where it counts answers so. Of those that other workers hold only the
        log tells, which knows it a moment before; one that is being opened here does not answer.
        """
        shard = self._worker.shards.find(accepted.agent, partition)
        if shard is None:
            return partition not in self._worker.streams.assigned(partition.topic)
        return shard.origin.epoch >= accepted.epoch
