"""Is the log still the one that this state was learned from?

A shard's state names the cluster and two records that it applied, by timestamp and hash: the last
one, and the anchor, which the log watch has seen. Offsets alone prove nothing, because a topic that
was made anew counts from 0 again. Nor does the last record alone: between two looks of the watch a
flush may hold what was learned from both logs, and then that record is of the new one.
"""

from __future__ import annotations

from headrace.errors import ForeignStateError
from headrace.pipelines.applied import is_that
from headrace.pipelines.reader import Logs, LogSpan
from headrace.state.store import ShardMeta
from headrace.views import Partition


async def check_log(logs: Logs, cluster_id: str, partition: Partition, meta: ShardMeta) -> LogSpan:
    """The log's span. Raises ForeignStateError, saying what to do, unless it is the state's log."""
    where = f"{partition.topic}[{partition.partition}]"
    if meta.cluster_id != cluster_id:
        raise ForeignStateError(
            f"the state of {where} was learned on cluster {meta.cluster_id}, this is cluster "
            f"{cluster_id}: connect to the former, or start with an empty --state-dir"
        )
    log = await logs.span(partition)
    if meta.next_offset > log.end:
        raise ForeignStateError(
            f"the state of {where} has read up to offset {meta.next_offset}, but the log ends at "
            f"{log.end}: the topic was made anew or truncated. Delete the agent and deploy it "
            "again to learn from the new log"
        )
    if meta.next_offset < log.begin:
        raise ForeignStateError(
            f"the log of {where} begins at offset {log.begin}, but the state has read only up to "
            f"{meta.next_offset}: retention has cut {log.begin - meta.next_offset} records that "
            "were never learned. Delete the agent and deploy it again to start from what is left"
        )
    for kept in dict.fromkeys((meta.anchor, meta.applied)):
        if kept is None or kept.offset < log.begin:
            continue  # that record has been retired, which is legal: the cluster's id must suffice
        there = await logs.record_at(partition, kept.offset)
        if there is not None and not is_that(there, kept):
            raise ForeignStateError(
                f"the record at offset {kept.offset} of {where} is not the one that this state was "
                "learned from: the topic was made anew. Delete the agent and deploy it again to "
                "learn from the new log"
            )
    return log
