"""The snapshot that a rollback or a migration begins from: whether it can be, and its shards."""

from __future__ import annotations

from headrace.errors import ConflictError
from headrace.pipelines import control
from headrace.pipelines.vault import Vault
from headrace.views import SnapshotView


def check_life(deployment: control.Deployment, snapshot: SnapshotView) -> None:
    """Raises ConflictError `spec_mismatch` unless it is of the agent as it lives now."""
    agent = deployment.agent
    if snapshot.agent != agent:
        raise ConflictError(
            "spec_mismatch", f"{snapshot.snapshot_id!r} is a snapshot of {snapshot.agent!r}"
        )
    if snapshot.imported:
        raise ConflictError(
            "spec_mismatch",
            f"{snapshot.snapshot_id!r} was imported: agent {agent!r} can be rolled back to it in "
            "mode `revert`, and nothing else",
            snapshot=snapshot.snapshot_id,
        )
    if snapshot.epoch < deployment.life:
        raise ConflictError(
            "spec_mismatch",
            f"{snapshot.snapshot_id!r} is of a former life of agent {agent!r}, which was "
            "deleted and deployed again since",
            snapshot=snapshot.snapshot_id,
        )


def check_complete(snapshot: SnapshotView) -> None:
    """Raises ConflictError `snapshot_incomplete`."""
    if not snapshot.complete:
        raise ConflictError(
            "snapshot_incomplete",
            f"{snapshot.snapshot_id!r} has {len(snapshot.shards)} of {snapshot.partitions} "
            "partitions: it is not published yet, or a worker was lost; take another one",
        )


async def bases(vault: Vault, snapshot: SnapshotView) -> tuple[control.Base, ...]:
    """Its shards. Raises RequestError `snapshot_damaged` if a manifest is not the one vouched for,
    and StateError.
    """
    vouched = vault.catalogue.shards(snapshot.snapshot_id)
    for partition, shard in vouched.items():
        await vault.check(partition, snapshot.snapshot_id, shard.digest)
    return tuple(
        control.Base(
            partition=partition.partition,
            epoch=0 if shard.imported else shard.epoch,
            next_offset=shard.next_offset,
            digest=shard.digest,
        )
        for partition, shard in sorted(vouched.items())
    )
