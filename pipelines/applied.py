"""The record that a shard applied last, as it is remembered: by it a log is known again."""

from __future__ import annotations

import hashlib

from headrace.ports import Record
from headrace.state.store import AppliedRecord


def applied(record: AppliedRecord | Record | None) -> AppliedRecord | None:
    """What is kept of a record: offset, timestamp and digest."""
    if record is None or isinstance(record, AppliedRecord):
        return record
    return AppliedRecord(
        offset=record.offset, timestamp=record.timestamp, sha256=record_digest(record)
    )


def is_that(record: Record, kept: AppliedRecord) -> bool:
    """Whether it is the record that was kept."""
    return record.timestamp == kept.timestamp and record_digest(record) == kept.sha256


def record_digest(record: Record) -> str:
    """SHA-256 over a record's key and value, lengths included so that no two can be mixed up."""
    digest = hashlib.sha256()
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part) + part)
    return digest.hexdigest()
