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
    itself, or by an earlier rewind that was not undone, which excluded records below where it
    counted: of its keys, if it was of some.
    """
    topic, number = partition
    rules = [
        (
            exclusion.matcher(command.exclude, topic=topic, partition=number),
            {key.encode() for key in command.keys},
            below,
        )
        for command, below in _lineage(deployment, accepted, partition)
        if command.exclude is not None
    ]

    def is_left_out(record: Record) -> bool:
        return any(
            (below is None or record.offset < below)
            and (not only or record.key in only)
            and rule(record)
            for rule, only, below in rules
        )

    return is_left_out


def _lineage(
    deployment: control.Deployment, accepted: control.Accepted, partition: Partition
) -> Iterable[tuple[control.Rollback, int | None]]:
    """The earlier rollbacks that hold, with where each counted, and this one."""
    before = [other for other in deployment.rollbacks() if other.offset < accepted.offset]
    undone: set[str] = set()
    for other in reversed(before):  # what is undone itself undoes nothing
        command = other.command
        assert isinstance(command, control.Rollback)
        failed = partition in deployment.failed(command.id)
        if not failed and command.id not in undone:
            undone.add(command.undoes)
            yield command, deployment.effect(command.id, partition)
    if isinstance(accepted.command, control.Rollback):
        yield accepted.command, None
