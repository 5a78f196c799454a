"""The snapshot that a rollback or a migration begins from: whether it can be, and its shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import ConflictError, NotFoundError
from headrace.pipelines import control
from headrace.pipelines.vault import Vault
from headrace.state.cut import is_own
from headrace.views import SnapshotView


def check_life(deployment: control.Deployment, snapshot: SnapshotView) -> None:
    """Raises ConflictError `spec_mismatch` unless it is of the agent as it lives now."""
    agent = deployment.agent
    if snapshot.agent != agent:
        raise ConflictError(
            "spec_mismatch",
            f"{snapshot.snapshot_id!r} is a snapshot of {snapshot.agent!r}: `headrace snapshot ls "
            f"{agent}` lists those of {agent!r}",
            snapshot=snapshot.snapshot_id,
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
            f"deleted and deployed again since{_way_back(deployment, snapshot)}",
            snapshot=snapshot.snapshot_id,
        )


def _way_back(deployment: control.Deployment, snapshot: SnapshotView) -> str:
    """How a snapshot of a former life can be gone back to all the same, if it can be."""
    id_ = snapshot.snapshot_id
    if is_own(id_):
        return ". Only named ones can be brought back, as imported ones: this one cannot"
    same = snapshot.spec_digest == deployment.deploy.digest
    spec = "" if same else f", once the agent runs that spec (digest {snapshot.spec_digest[:12]})"
    return (
        f". Bring it back as an imported one: `headrace snapshot export {id_} FILE`, then "
        f"`headrace snapshot rm {id_}`, then `headrace snapshot import FILE --digest SHA256` with "
        f"the digest that the export says; then mode `revert` goes back to it{spec}"
    )


def check_complete(snapshot: SnapshotView) -> None:
    """Raises ConflictError `snapshot_incomplete`."""
    if not snapshot.complete:
        raise ConflictError(
            "snapshot_incomplete",
            f"{snapshot.snapshot_id!r} has {len(snapshot.shards)} of {snapshot.partitions} "
            "partitions: it is not published yet, or a worker was lost; take another one",
            snapshot=snapshot.snapshot_id,
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


@contextmanager
def held(vault: Vault, command: control.Command) -> Iterator[None]:
    """While a command is appended: nobody here removes the snapshot that it begins from, if any.

    Raises NotFoundError `snapshot_expired` if that has been removed since its `bases` were looked
    at, and ConflictError `snapshot_in_use` if it is being removed.
    """
    if not isinstance(command, control.Rollback | control.Migrate) or not command.snapshot_id:
        yield
        return
    snapshot_id = command.snapshot_id
    there = vault.catalogue.shards(snapshot_id)
    digests = {place.partition: (v.digest, *v.replaces) for place, v in there.items()}
    if any(b.digest and b.digest not in digests.get(b.partition, ()) for b in command.bases):
        text = f"snapshot {snapshot_id!r} has been removed meanwhile"
        raise NotFoundError("snapshot_expired", text, snapshot=snapshot_id)
    with vault.uses.wanted(snapshot_id):
        yield
