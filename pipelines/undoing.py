"""Taking a rollback back: which one is meant, and the way back while its snapshot is on its way."""

from __future__ import annotations

from headrace.clock import new_id
from headrace.errors import NotFoundError
from headrace.pipelines import control
from headrace.pipelines.vault import undo_id


def to_undo(deployment: control.Deployment, control_id: str | None) -> control.Accepted:
    """The rollback of that id; without one, the last that stands, and never an undo.

    Raises NotFoundError `unknown_rollback`, ConflictError `not_standing`.
    """
    if control_id is None:
        found = [each for each in deployment.standing() if not _is_undo(each)]
        which = "no rollback to undo (an undo, by its id alone)"
    else:
        found = [each for each in deployment.rollbacks() if each.control_id == control_id]
        which = f"no rollback {control_id!r}"
    if not found:
        text = f"agent {deployment.agent!r} has {which}"
        raise NotFoundError("unknown_rollback", text, rollback=control_id or "")
    deployment.check_standing(found[0].control_id)
    return found[0]


def keeping(deployment: control.Deployment, snapshot_id: str) -> control.Accepted | None:
    """The rollback that keeps what it replaced in that snapshot; None: none of this life does."""
    agent = deployment.agent
    if not snapshot_id.startswith(f"{agent}.undo-"):
        return None
    kept = (a for a in deployment.rollbacks() if undo_id(agent, a.control_id) == snapshot_id)
    return next(kept, None)


def way_back(
    deployment: control.Deployment, accepted: control.Accepted, keys: tuple[str, ...]
) -> control.Rollback:
    """The command that goes back to what a rollback replaced, which has been done in all
    partitions: to its undo snapshot, which need not be published.
    """
    positions = deployment.positions(accepted.control_id)
    return control.Rollback(
        id=new_id(),
        agent=deployment.agent,
        life=deployment.life,
        snapshot_id=undo_id(deployment.agent, accepted.control_id),
        bases=tuple(
            control.Base(
                partition=partition.partition,
                epoch=accepted.epoch - 1,
                next_offset=offset,
                digest="",
            )
            for partition, offset in sorted(positions.items())
        ),
        keys=keys,
        spec_digest=deployment.deploy.digest,
    )


def _is_undo(accepted: control.Accepted) -> bool:
    return isinstance(accepted.command, control.Rollback) and bool(accepted.command.undoes)
