"""What topics of decisions hold already: looked at by a deploy, and by what learns again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from headrace.models.decisions import Decision, decode_decision
from headrace.ports import Record
from headrace.views import Partition

NEWEST_DECISIONS = 10
"""Records read at the end of a partition of decisions: some offsets hold none."""


def decided_below(records: Iterable[Record], agent: str, where: Partition, life: int) -> int:
    """Decisions of that life of the agent on events below this offset are in their topic: they
    went there in the order of the events. `records`: the newest of the partition of decisions;
    `where`: the partition of the events.
    """
    return max(
        (
            decision.offset + 1
            for decision in _decisions(records, agent)
            if decision.epoch >= life
            and (decision.position.topic, decision.position.partition) == where
        ),
        default=0,
    )


def newest_epoch(records: Iterable[Record], agent: str) -> int:
    """The highest epoch in which the agent decided any of them; 0: it decided none."""
    return max((decision.epoch for decision in _decisions(records, agent)), default=0)


def _decisions(records: Iterable[Record], agent: str) -> Iterator[Decision]:
    for record in records:
        try:
            decision = decode_decision(record.value or b"")
        except msgspec.DecodeError:
            continue  # what else may be in that topic
        if decision.agent == agent:
            yield decision
