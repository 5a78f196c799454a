"""What a shard is opened with: where it begins, and where its output goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headrace.models.decisions import Origin, encode_decision
from headrace.models.learner import Outcome
from headrace.pipelines import quarantine
from headrace.pipelines.seams import Sink
from headrace.ports import Record
from headrace.state.store import AppliedRecord
from headrace.views import Partition


class Outlets(NamedTuple):
    """Where a shard's output goes."""

    sink: Sink
    decisions: Partition
    quarantine: Partition

    def emit(
        self, records: Sequence[Record], outcome: Outcome, at: ShardStart, origin: Origin
    ) -> None:
        """What has come of the records, and is not in its topic already."""
        sink = self.sink
        for decision in outcome.decisions:
            if decision.position.offset >= at.told_below:
                sink.append(self.decisions, decision.key.encode(), encode_decision(decision))
        if not outcome.refusals:
            return
        by_offset = {record.offset: record for record in records}
        for refusal in outcome.refusals:
            if refusal.offset < at.refused_below:
                continue
            refused = quarantine.quarantined(refusal, by_offset[refusal.offset], origin)
            sink.append(self.quarantine, None, quarantine.encode(refused))


class ShardStart(NamedTuple):
    """Where a shard begins: from its store, or from the effect of its deployment."""

    next_offset: int
    decided_below: int  # events below this offset may have decisions out already
    cluster_id: str
    spec_digest: str
    life: int = 1  # the epoch at which the agent was deployed
    told_below: int = 0  # decisions of events below this offset are in their topic for certain
    anchor: AppliedRecord | None = None  # as in `ShardMeta`, where no record was applied
    refused_below: int = 0  # refusals of events below this offset have been sent for certain
    left_out: Callable[[Record], bool] = lambda _: False  # what its state is to be made without
    over: Callable[[], bool] = lambda: False  # whoever a twin learns for wants it no longer
