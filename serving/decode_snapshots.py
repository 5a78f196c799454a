"""Protobuf messages as views of snapshots and rollbacks: what a client is answered, a server asked.

A server trusts nothing here: what is asked is checked against the limits and raises RequestError;
whether there is such an agent, snapshot or rollback, the ports behind it know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.serving import snapshot_pb2
from headrace.serving.decode import bounded, invalid, key_text, name, position, too_large
from headrace.serving.encode_snapshots import KINDS, MODES
from headrace.views import (
    Exclusion,
    MetricChange,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    RowChange,
    RowCount,
    SnapshotDiff,
    SnapshotShard,
    SnapshotView,
)

if TYPE_CHECKING:
    from headrace.serving.limits import Limits  # it loads the models

_KIND_NAMES = {number: text for text, number in KINDS.items()}
_MODE_NAMES = {number: text for text, number in MODES.items()}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # with the longest agent's name: an id of 128
_RESERVED = ("auto-", "undo-")  # the service gives such names itself
_MS_END = 253_402_300_800_000  # of the year 9999, the last that a date can be of
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DECISION = re.compile(r"([^/]+)/\d{1,19}/[^/]+/\d{1,10}/\d{1,19}")


def plan(asked: snapshot_pb2.RollbackPlan, limits: Limits) -> RollbackRequest:
    """What is to be rolled back, with bounded sizes. Raises RequestError."""
    if asked.ByteSize() > limits.rollback_bytes:
        raise too_large("plan", asked.ByteSize(), limits.rollback_bytes, unit="bytes")
    name(asked.agent, limits)
    _keys("keys", asked.keys, limits)
    target = asked.WhichOneof("target")
    if target is None:
        raise invalid("target", "is missing; give snapshot_id or before_ms")
    if target == "before_ms" and not 0 <= asked.before_ms < _MS_END:
        raise invalid("before_ms", f"is {asked.before_ms}; give milliseconds since 1970")
    mode = _MODE_NAMES.get(asked.mode or MODES["revert"])
    if mode is None:
        raise invalid("mode", f"{asked.mode} is not known; give {' or '.join(MODES)}")
    exclude = _exclusion(asked.exclude, asked.agent, limits)
    if exclude is not None and mode != "rewind":
        raise invalid("exclude", f"is for rewind; a {mode} learns nothing again")
    return RollbackRequest(
        agent=asked.agent,
        snapshot_id=snapshot_id(asked.snapshot_id, limits) if target == "snapshot_id" else None,
        before_ms=asked.before_ms if target == "before_ms" else None,
        mode=mode,
        keys=tuple(asked.keys),
        exclude=exclude,
    )


def _exclusion(asked: snapshot_pb2.Exclusion, agent: str, limits: Limits) -> Exclusion | None:
    """What is left out; None where no part is given."""
    _keys("exclude.keys", asked.keys, limits)
    if len(asked.decision_ids) > limits.rollback_items:
        raise too_large("exclude.decision_ids", len(asked.decision_ids), limits.rollback_items)
    for number, text in enumerate(asked.decision_ids):
        decision(f"exclude.decision_ids[{number}]", text, agent)
    for field in ("from_ms", "to_ms"):
        if getattr(asked, field) < 0:
            text = f"is {getattr(asked, field)}; give milliseconds since 1970"
            raise invalid(f"exclude.{field}", text)
    both = asked.HasField("from_ms") and asked.HasField("to_ms")
    if both and asked.from_ms >= asked.to_ms:
        raise invalid("exclude.to_ms", f"is not after from_ms: no event from {asked.from_ms} on")
    if asked.HasField("header"):
        if not asked.header.name:
            raise invalid("exclude.header.name", "is empty; give a header's name")
        bounded("exclude.header.name", asked.header.name, limits.key_chars)
        bounded("exclude.header.value", asked.header.value, limits.key_chars)
    given = exclusion(asked)
    return None if given == Exclusion() else given


def _keys(field: str, keys: Sequence[str], limits: Limits) -> None:
    if len(keys) > limits.rollback_items:
        raise too_large(field, len(keys), limits.rollback_items)
    for key in keys:
        key_text(key, limits)
        if not key:
            raise invalid(field, "holds an empty key, which no event has")


def decision(path: str, text: str, agent: str) -> None:
    """Refuse what is no id of a decision of that agent. Raises RequestError, which names `path`."""
    match = _DECISION.fullmatch(text)
    if match is None:
        raise invalid(path, "is no id of a decision: give agent/epoch/topic/partition/offset")
    if match[1] != agent:
        raise invalid(path, f"is of another agent than {agent}")


def snapshot_id(text: str, limits: Limits, field: str = "snapshot_id") -> str:
    """An id of a snapshot: not empty, and bounded. Raises RequestError."""
    if not text:
        raise invalid(field, "is empty; give a snapshot's id")
    return bounded(field, text, limits.key_chars)


def sha256(field: str, text: str) -> str:
    """A SHA-256. Raises RequestError."""
    if _SHA256.fullmatch(text) is None:
        raise invalid(
            field,
            "is no SHA-256: give the 64 hexadecimal digits that `headrace snapshot export` "
            "printed; what sha256sum says of the file is another",
        )
    return text


def snapshot_name(text: str) -> str:
    """A name that a snapshot can be given. Raises RequestError."""
    if _NAME.fullmatch(text) is None:
        words = (
            "give 1 to 64 of a-z, 0-9, `.`, `_` and `-`: no capitals, and a letter or digit first"
        )
        raise invalid("name", f"{text[:80]!r} cannot be a snapshot's; {words}")
    if text.startswith(_RESERVED):
        own = f"begins with {' or '.join(_RESERVED)}, as the service's own do"
        raise invalid("name", f"{own}; take another name")
    return text


def control_id(text: str, limits: Limits) -> str:
    """An id of a rollback: not empty, and bounded. Raises RequestError."""
    if not text:
        raise invalid("control_id", "is empty; give a rollback's control id")
    return bounded("control_id", text, limits.key_chars)


def request_id(text: str) -> str | None:
    """An id that whoever asks has made up; None: there is none. Raises RequestError."""
    if text and not _REQUEST_ID.fullmatch(text):
        raise invalid("request_id", "is not 32 hexadecimal digits, such as those of a UUID")
    return text or None


def page_token(text: str) -> int | None:
    """How many of the oldest are still to be listed; None: all. Raises RequestError."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("page_token", "is none that a page gave; begin with the first page")
    return int(text)


def snapshot(view: snapshot_pb2.Snapshot) -> SnapshotView:
    """A cut of one agent."""
    return SnapshotView(
        snapshot_id=view.snapshot_id,
        agent=view.agent,
        kind=_KIND_NAMES.get(view.kind, "unknown"),
        epoch=view.epoch,
        spec_version=view.spec_version,
        spec_digest=view.spec_digest,
        created_ms=view.created_ms,
        partitions=view.partitions,
        shards=tuple(_shard(shard) for shard in view.shards),
        pinned=view.pinned,
        imported=view.imported,
        former=view.former,
    )


def _shard(view: snapshot_pb2.SnapshotShard) -> SnapshotShard:
    return SnapshotShard(
        topic=view.topic,
        partition=view.partition,
        next_offset=view.next_offset,
        size_bytes=view.size_bytes,
        new_bytes=view.new_bytes,
    )


def diff(found: snapshot_pb2.SnapshotDiff) -> SnapshotDiff:
    """What differs between two states."""
    return SnapshotDiff(
        agent=found.agent,
        earlier=found.earlier,
        later=found.later,
        partitions=found.partitions,
        counts=tuple(
            RowCount(
                kind=count.kind, added=count.added, removed=count.removed, changed=count.changed
            )
            for count in found.counts
        ),
        first=tuple(
            RowChange(kind=row.kind, name=row.name, partition=row.partition, how=row.how)
            for row in found.first
        ),
        note=found.note,
    )


def exclusion(view: snapshot_pb2.Exclusion) -> Exclusion:
    """Events that are left out."""
    header = (view.header.name, view.header.value)
    return Exclusion(
        decisions=tuple(view.decision_ids),
        keys=tuple(view.keys),
        from_ms=view.from_ms if view.HasField("from_ms") else None,
        to_ms=view.to_ms if view.HasField("to_ms") else None,
        header=header if view.HasField("header") else None,
    )


def preview(found: snapshot_pb2.RollbackPreview) -> RollbackPreview:
    """What a rollback would change."""
    return RollbackPreview(
        agent=found.agent,
        mode=_MODE_NAMES.get(found.mode, "unknown"),
        snapshot_id=found.snapshot_id,
        events_back=found.events_back,
        events_excluded=found.events_excluded,
        events_excluded_earlier=found.events_excluded_earlier,
        keys_changed=found.keys_changed,
        keys_total=found.keys_total,
        decisions_compared=found.decisions_compared,
        decisions_flipped=found.decisions_flipped,
        metrics=tuple(_metric(metric) for metric in found.metrics),
        note=found.note,
        imported=found.imported,
        withdrawn_most=found.withdrawn_most,
        reinstated_most=found.reinstated_most,
    )


def _metric(view: snapshot_pb2.MetricChange) -> MetricChange:
    return MetricChange(
        name=view.name,
        now=view.now,
        then=view.then,
        bigger_is_better=view.bigger_is_better,
        events=view.events,
    )


def rollback(view: snapshot_pb2.Rollback) -> RollbackView:
    """A rollback on its way, or done."""
    return RollbackView(
        control_id=view.control_id,
        agent=view.agent,
        mode=_MODE_NAMES.get(view.mode, "unknown"),
        snapshot_id=view.snapshot_id,
        undo_snapshot_id=view.undo_snapshot_id,
        undoes=view.undoes,
        keys=tuple(view.keys),
        epoch=view.epoch,
        partitions=view.partitions,
        positions=tuple(position(place) for place in view.positions),
        note=view.note,
        published=view.published,
        withdrawn=view.withdrawn,
        reinstated=view.reinstated,
        failed=view.failed,
        left=view.left,
        undone_by=view.undone_by,
        asked_ms=view.asked_ms,
    )
