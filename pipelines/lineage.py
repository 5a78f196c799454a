"""Which named snapshots an agent's present state descends from, as the control log tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headrace.pipelines import control
from headrace.views import Partition


class Descent(NamedTuple):
    """`live`: the newest named snapshot that the present state was learned on from; `previous`: the
    one before that changed last. None: there is none in this life.
    """

    live: str | None
    previous: str | None


class Taken(NamedTuple):
    """A named snapshot: its epoch, and where each shard stood."""

    snapshot_id: str
    epoch: int
    positions: Mapping[Partition, int]


def descent(deployment: control.Deployment, kept: Mapping[str, Taken]) -> Descent:
    """The descent of an agent's state in its present life.

    `kept`: the named snapshots that there are, by the control id of the command that took them.
    A named snapshot is live from its place in the control log on. A rollback of the whole agent
    counts when all partitions have done it: live is then its base if that is a named one, else the
    newest that the base descends from. A rollback of keys leaves the agent what it was. So does a
    migration that keeps what was learned; one from a snapshot counts like a rollback to it, and a
    reset or a refold begins with nothing that anybody named.
    """
    live: str | None = None
    previous: str | None = None
    taken: list[Taken] = []
    began: dict[int, str | None] = {}  # epoch -> what its state descended from when it began
    for accepted in deployment.commands:
        command = accepted.command
        now = live
        if accepted.control_id in kept:
            taken.append(kept[accepted.control_id])
            now = taken[-1].snapshot_id
        elif isinstance(command, control.Rollback | control.Migrate):
            if len(deployment.positions(command.id)) < command.partitions:
                continue  # its state is not there yet
            of_keys = isinstance(command, control.Rollback) and bool(command.keys)
            if command.snapshot_id and not of_keys:
                now = _origin(command, deployment.source_topic, taken, began)
            elif isinstance(command, control.Migrate) and command.how != "keep":
                now = None
            began[accepted.epoch] = now
        if now != live:
            live, previous = now, live
    return Descent(live, previous)


def _origin(
    command: control.Rollback | control.Migrate,
    topic: str,
    taken: list[Taken],
    began: Mapping[int, str | None],
) -> str | None:
    """The newest named snapshot at or before a command's base, in the base's epoch; else what that
    epoch began with.
    """
    bases = {Partition(topic, base.partition): base.next_offset for base in command.bases}
    epoch = command.bases[0].epoch  # a cut has one
    found = [
        one.snapshot_id
        for one in taken
        if one.epoch == epoch
        and all(one.positions.get(place, offset + 1) <= offset for place, offset in bases.items())
    ]
    if command.snapshot_id in found:
        return command.snapshot_id  # others may have been taken at the same place
    return found[-1] if found else began.get(epoch)
