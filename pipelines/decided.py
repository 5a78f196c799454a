"""What topics of decisions hold already: looked at by a deploy, and by what learns again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from headrace.models.decisions import Boundary, Decision, decode_record
from headrace.pipelines import control
from headrace.ports import Record
from headrace.views import Partition

NEWEST_DECISIONS = 10
"""Records read at the end of a partition of decisions: some offsets hold none."""
EPOCHS_MAX = 10**15
"""No agent has had so many: each takes a command."""


def decided_below(
    records: Iterable[Record], deployment: control.Deployment, where: Partition
) -> int:
    """Decisions of this life of the agent on events below this offset are in their topic: they went
    there in the order of the events, and a boundary behind them. What is void tells nothing: a
    worker that did not know of the boundary has written it.

    `records`: the newest of the partition of decisions; `where`: the partition of the events.
    """
    below = 0
    for record in _records(records, deployment.agent):
        if (record.position.topic, record.position.partition) != where:
            continue
        offset = record.position.offset
        if isinstance(record, Boundary):
            below = max(below, offset if record.life == deployment.life else 0)
        elif record.epoch >= max(deployment.life, deployment.epoch_at(where, offset)):
            below = max(below, offset + 1)
    return below


def newest_epoch(records: Iterable[Record], agent: str) -> int:
    """The highest epoch of the agent of which any of them tells; 0: none does. One from
    `EPOCHS_MAX` on is not of ours.
    """
    epochs = (record.epoch for record in _records(records, agent))
    return max((epoch for epoch in epochs if epoch < EPOCHS_MAX), default=0)


def _records(records: Iterable[Record], agent: str) -> Iterator[Decision | Boundary]:
    for record in records:
        try:
            found = decode_record(record.value or b"")
        except msgspec.DecodeError:
            continue  # what else may be in that topic
        if found.agent == agent:
            yield found
