"""Which records of the log a state was learned without, as the control log tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.models import exclusion
from headrace.pipelines import control
from headrace.ports import Record
from headrace.views import Partition


def left_out(
    deployment: control.Deployment, accepted: control.Accepted, partition: Partition
) -> Callable[[Record], bool]:
    """Whether a record is excluded where a rewind or a refold learns the log again: by the command
    itself, or by an earlier rewind that was not undone, which excluded records from its snapshot on
    to where it counted: of its keys, if it was of some.
    """
    topic, number = partition
    rules = [
        (
            exclusion.matcher(command.exclude, topic=topic, partition=number),
            {key.encode() for key in command.keys},
            command.base(number).next_offset,
            below,
        )
        for command, below in _lineage(deployment, accepted, partition)
        if command.exclude is not None
    ]

    def is_left_out(record: Record) -> bool:
        return any(
            begin <= record.offset
            and (below is None or record.offset < below)
            and (not only or record.key in only)
            and rule(record)
            for rule, only, begin, below in rules
        )

    return is_left_out


def _lineage(
    deployment: control.Deployment, accepted: control.Accepted, partition: Partition
) -> Iterable[tuple[control.Rollback, int | None]]:
    """The earlier rollbacks that hold, with where each counted, and this one."""
    for other in deployment.standing(partition, below=accepted.offset):
        assert isinstance(other.command, control.Rollback)
        yield other.command, deployment.effect(other.control_id, partition)
    if isinstance(accepted.command, control.Rollback):
        yield accepted.command, None
