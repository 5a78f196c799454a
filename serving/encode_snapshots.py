"""Snapshots and rollbacks as protobuf messages: what a server answers and a client asks."""

from __future__ import annotations

from headrace.errors import RequestError
from headrace.serving import snapshot_pb2
from headrace.serving.encode import position
from headrace.views import (
    Exclusion,
    MetricChange,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotDiff,
    SnapshotShard,
    SnapshotView,
)

KINDS = {
    "automatic": snapshot_pb2.SNAPSHOT_KIND_AUTOMATIC,
    "named": snapshot_pb2.SNAPSHOT_KIND_NAMED,
    "undo": snapshot_pb2.SNAPSHOT_KIND_UNDO,
}
MODES = {
    "revert": snapshot_pb2.ROLLBACK_MODE_REVERT,
    "rewind": snapshot_pb2.ROLLBACK_MODE_REWIND,
}


def snapshot(view: SnapshotView) -> snapshot_pb2.Snapshot:
    """A cut of one agent."""
    return snapshot_pb2.Snapshot(
        snapshot_id=view.snapshot_id,
        agent=view.agent,
        kind=KINDS.get(view.kind, snapshot_pb2.SNAPSHOT_KIND_UNSPECIFIED),
        epoch=view.epoch,
        spec_version=view.spec_version,
        spec_digest=view.spec_digest,
        created_ms=view.created_ms,
        partitions=view.partitions,
        shards=[_shard(shard) for shard in view.shards],
        pinned=view.pinned,
        imported=view.imported,
        former=view.former,
    )


def _shard(view: SnapshotShard) -> snapshot_pb2.SnapshotShard:
    return snapshot_pb2.SnapshotShard(
        topic=view.topic,
        partition=view.partition,
        next_offset=view.next_offset,
        size_bytes=view.size_bytes,
        new_bytes=view.new_bytes,
    )


def diff(found: SnapshotDiff) -> snapshot_pb2.SnapshotDiff:
    """What differs between two states."""
    return snapshot_pb2.SnapshotDiff(
        agent=found.agent,
        earlier=found.earlier,
        later=found.later,
        partitions=found.partitions,
        counts=[
            snapshot_pb2.RowCount(
                kind=count.kind, added=count.added, removed=count.removed, changed=count.changed
            )
            for count in found.counts
        ],
        first=[
            snapshot_pb2.RowChange(
                kind=row.kind, name=row.name, partition=row.partition, how=row.how
            )
            for row in found.first
        ],
        note=found.note,
    )


def plan(asked: RollbackRequest) -> snapshot_pb2.RollbackPlan:
    """What is to be rolled back. Raises RequestError."""
    if (asked.snapshot_id is None) == (asked.before_ms is None):
        raise RequestError("invalid_request", "name a snapshot or a time: one of both, not both")
    if asked.mode not in MODES:
        text = f"there is no mode {asked.mode!r}; give {' or '.join(MODES)}"
        raise RequestError("invalid_request", text)
    try:
        message = snapshot_pb2.RollbackPlan(
            agent=asked.agent,
            snapshot_id=asked.snapshot_id,
            before_ms=asked.before_ms,
            mode=MODES[asked.mode],
            keys=asked.keys,
        )
        if asked.exclude is not None:
            message.exclude.CopyFrom(_exclusion(asked.exclude))
    except (TypeError, ValueError) as error:
        raise RequestError("invalid_request", f"cannot be asked: {error}") from None
    return message


def _exclusion(asked: Exclusion) -> snapshot_pb2.Exclusion:
    message = snapshot_pb2.Exclusion(
        decision_ids=asked.decisions,
        keys=asked.keys,
        from_ms=asked.from_ms,
        to_ms=asked.to_ms,
    )
    if asked.header is not None:
        message.header.name, message.header.value = asked.header
    return message


def preview(found: RollbackPreview) -> snapshot_pb2.RollbackPreview:
    """What a rollback would change."""
    return snapshot_pb2.RollbackPreview(
        agent=found.agent,
        mode=MODES.get(found.mode, snapshot_pb2.ROLLBACK_MODE_UNSPECIFIED),
        snapshot_id=found.snapshot_id,
        events_back=found.events_back,
        events_excluded=found.events_excluded,
        events_excluded_earlier=found.events_excluded_earlier,
        keys_changed=found.keys_changed,
        keys_total=found.keys_total,
        decisions_compared=found.decisions_compared,
        decisions_flipped=found.decisions_flipped,
        metrics=[_metric(metric) for metric in found.metrics],
        note=found.note,
        imported=found.imported,
        withdrawn_most=found.withdrawn_most,
        reinstated_most=found.reinstated_most,
    )


def _metric(view: MetricChange) -> snapshot_pb2.MetricChange:
    return snapshot_pb2.MetricChange(
        name=view.name,
        now=view.now,
        then=view.then,
        bigger_is_better=view.bigger_is_better,
        events=view.events,
    )


def rollback(view: RollbackView) -> snapshot_pb2.Rollback:
    """A rollback on its way, or done."""
    return snapshot_pb2.Rollback(
        control_id=view.control_id,
        agent=view.agent,
        mode=MODES.get(view.mode, snapshot_pb2.ROLLBACK_MODE_UNSPECIFIED),
        snapshot_id=view.snapshot_id,
        undo_snapshot_id=view.undo_snapshot_id,
        undoes=view.undoes,
        keys=view.keys,
        epoch=view.epoch,
        partitions=view.partitions,
        positions=[position(place) for place in view.positions],
        note=view.note,
        published=view.published,
        withdrawn=view.withdrawn,
        reinstated=view.reinstated,
        failed=view.failed,
        left=view.left,
        undone_by=view.undone_by,
        asked_ms=view.asked_ms,
    )
