# mypy: ignore-errors
# ruff: noqa
# fmt: off
from headrace.serving import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SnapshotKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SNAPSHOT_KIND_UNSPECIFIED: _ClassVar[SnapshotKind]
    SNAPSHOT_KIND_AUTOMATIC: _ClassVar[SnapshotKind]
    SNAPSHOT_KIND_NAMED: _ClassVar[SnapshotKind]
    SNAPSHOT_KIND_UNDO: _ClassVar[SnapshotKind]

class RollbackMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLBACK_MODE_UNSPECIFIED: _ClassVar[RollbackMode]
    ROLLBACK_MODE_REVERT: _ClassVar[RollbackMode]
    ROLLBACK_MODE_REWIND: _ClassVar[RollbackMode]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_CONFIRMED: _ClassVar[Verdict]
    VERDICT_CONTRADICTED: _ClassVar[Verdict]
    VERDICT_UNVERIFIABLE: _ClassVar[Verdict]
SNAPSHOT_KIND_UNSPECIFIED: SnapshotKind
SNAPSHOT_KIND_AUTOMATIC: SnapshotKind
SNAPSHOT_KIND_NAMED: SnapshotKind
SNAPSHOT_KIND_UNDO: SnapshotKind
ROLLBACK_MODE_UNSPECIFIED: RollbackMode
ROLLBACK_MODE_REVERT: RollbackMode
ROLLBACK_MODE_REWIND: RollbackMode
VERDICT_UNSPECIFIED: Verdict
VERDICT_CONFIRMED: Verdict
VERDICT_CONTRADICTED: Verdict
VERDICT_UNVERIFIABLE: Verdict

class SnapshotShard(_message.Message):
    __slots__ = ("topic", "partition", "next_offset", "size_bytes", "new_bytes")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEW_BYTES_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    next_offset: int
    size_bytes: int
    new_bytes: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., next_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., new_bytes: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("snapshot_id", "agent", "kind", "epoch", "spec_version", "spec_digest", "created_ms", "partitions", "shards", "pinned", "imported", "former")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    FORMER_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    agent: str
    kind: SnapshotKind
    epoch: int
    spec_version: int
    spec_digest: str
    created_ms: int
    partitions: int
    shards: _containers.RepeatedCompositeFieldContainer[SnapshotShard]
    pinned: bool
    imported: bool
    former: bool
    def __init__(self, snapshot_id: _Optional[str] = ..., agent: _Optional[str] = ..., kind: _Optional[_Union[SnapshotKind, str]] = ..., epoch: _Optional[int] = ..., spec_version: _Optional[int] = ..., spec_digest: _Optional[str] = ..., created_ms: _Optional[int] = ..., partitions: _Optional[int] = ..., shards: _Optional[_Iterable[_Union[SnapshotShard, _Mapping]]] = ..., pinned: _Optional[bool] = ..., imported: _Optional[bool] = ..., former: _Optional[bool] = ...) -> None: ...

class RowCount(_message.Message):
    __slots__ = ("kind", "added", "removed", "changed")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    added: int
    removed: int
    changed: int
    def __init__(self, kind: _Optional[str] = ..., added: _Optional[int] = ..., removed: _Optional[int] = ..., changed: _Optional[int] = ...) -> None: ...

class RowChange(_message.Message):
    __slots__ = ("kind", "name", "partition", "how")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    partition: int
    how: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., partition: _Optional[int] = ..., how: _Optional[str] = ...) -> None: ...

class SnapshotDiff(_message.Message):
    __slots__ = ("agent", "earlier", "later", "partitions", "counts", "first", "note")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    earlier: str
    later: str
    partitions: int
    counts: _containers.RepeatedCompositeFieldContainer[RowCount]
    first: _containers.RepeatedCompositeFieldContainer[RowChange]
    note: str
    def __init__(self, agent: _Optional[str] = ..., earlier: _Optional[str] = ..., later: _Optional[str] = ..., partitions: _Optional[int] = ..., counts: _Optional[_Iterable[_Union[RowCount, _Mapping]]] = ..., first: _Optional[_Iterable[_Union[RowChange, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class ArchiveHead(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class RecordHeader(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Exclusion(_message.Message):
    __slots__ = ("decision_ids", "keys", "from_ms", "to_ms", "header")
    DECISION_IDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    decision_ids: _containers.RepeatedScalarFieldContainer[str]
    keys: _containers.RepeatedScalarFieldContainer[str]
    from_ms: int
    to_ms: int
    header: RecordHeader
    def __init__(self, decision_ids: _Optional[_Iterable[str]] = ..., keys: _Optional[_Iterable[str]] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., header: _Optional[_Union[RecordHeader, _Mapping]] = ...) -> None: ...

class RollbackPlan(_message.Message):
    __slots__ = ("agent", "snapshot_id", "before_ms", "mode", "keys", "exclude")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    snapshot_id: str
    before_ms: int
    mode: RollbackMode
    keys: _containers.RepeatedScalarFieldContainer[str]
    exclude: Exclusion
    def __init__(self, agent: _Optional[str] = ..., snapshot_id: _Optional[str] = ..., before_ms: _Optional[int] = ..., mode: _Optional[_Union[RollbackMode, str]] = ..., keys: _Optional[_Iterable[str]] = ..., exclude: _Optional[_Union[Exclusion, _Mapping]] = ...) -> None: ...

class MetricChange(_message.Message):
    __slots__ = ("name", "now", "then", "bigger_is_better", "events")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    BIGGER_IS_BETTER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    now: float
    then: float
    bigger_is_better: bool
    events: int
    def __init__(self, name: _Optional[str] = ..., now: _Optional[float] = ..., then: _Optional[float] = ..., bigger_is_better: _Optional[bool] = ..., events: _Optional[int] = ...) -> None: ...

class RollbackPreview(_message.Message):
    __slots__ = ("agent", "mode", "snapshot_id", "events_back", "events_excluded", "keys_changed", "keys_total", "decisions_compared", "decisions_flipped", "metrics", "note", "events_excluded_earlier", "imported", "withdrawn_most", "reinstated_most")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_BACK_FIELD_NUMBER: _ClassVar[int]
    EVENTS_EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    KEYS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    KEYS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_COMPARED_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FLIPPED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_EXCLUDED_EARLIER_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_MOST_FIELD_NUMBER: _ClassVar[int]
    REINSTATED_MOST_FIELD_NUMBER: _ClassVar[int]
    agent: str
    mode: RollbackMode
    snapshot_id: str
    events_back: int
    events_excluded: int
    keys_changed: int
    keys_total: int
    decisions_compared: int
    decisions_flipped: int
    metrics: _containers.RepeatedCompositeFieldContainer[MetricChange]
    note: str
    events_excluded_earlier: int
    imported: bool
    withdrawn_most: int
    reinstated_most: int
    def __init__(self, agent: _Optional[str] = ..., mode: _Optional[_Union[RollbackMode, str]] = ..., snapshot_id: _Optional[str] = ..., events_back: _Optional[int] = ..., events_excluded: _Optional[int] = ..., keys_changed: _Optional[int] = ..., keys_total: _Optional[int] = ..., decisions_compared: _Optional[int] = ..., decisions_flipped: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[MetricChange, _Mapping]]] = ..., note: _Optional[str] = ..., events_excluded_earlier: _Optional[int] = ..., imported: _Optional[bool] = ..., withdrawn_most: _Optional[int] = ..., reinstated_most: _Optional[int] = ...) -> None: ...

class Rollback(_message.Message):
    __slots__ = ("control_id", "agent", "mode", "snapshot_id", "undo_snapshot_id", "undoes", "keys", "epoch", "partitions", "positions", "note", "published", "withdrawn", "reinstated", "failed", "undone_by", "asked_ms", "left")
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    UNDO_SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    UNDOES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    REINSTATED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    UNDONE_BY_FIELD_NUMBER: _ClassVar[int]
    ASKED_MS_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    control_id: str
    agent: str
    mode: RollbackMode
    snapshot_id: str
    undo_snapshot_id: str
    undoes: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    epoch: int
    partitions: int
    positions: _containers.RepeatedCompositeFieldContainer[_position_pb2.Position]
    note: str
    published: int
    withdrawn: int
    reinstated: int
    failed: int
    undone_by: str
    asked_ms: int
    left: int
    def __init__(self, control_id: _Optional[str] = ..., agent: _Optional[str] = ..., mode: _Optional[_Union[RollbackMode, str]] = ..., snapshot_id: _Optional[str] = ..., undo_snapshot_id: _Optional[str] = ..., undoes: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., epoch: _Optional[int] = ..., partitions: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[_position_pb2.Position, _Mapping]]] = ..., note: _Optional[str] = ..., published: _Optional[int] = ..., withdrawn: _Optional[int] = ..., reinstated: _Optional[int] = ..., failed: _Optional[int] = ..., undone_by: _Optional[str] = ..., asked_ms: _Optional[int] = ..., left: _Optional[int] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("agent", "name")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    agent: str
    name: str
    def __init__(self, agent: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class GetSnapshotRequest(_message.Message):
    __slots__ = ("snapshot_id",)
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    def __init__(self, snapshot_id: _Optional[str] = ...) -> None: ...

class GetSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("agent", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots", "next_page_token")
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    next_page_token: str
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PinSnapshotRequest(_message.Message):
    __slots__ = ("snapshot_id", "unpin")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    UNPIN_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    unpin: bool
    def __init__(self, snapshot_id: _Optional[str] = ..., unpin: _Optional[bool] = ...) -> None: ...

class PinSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("snapshot_id",)
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    def __init__(self, snapshot_id: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiffSnapshotsRequest(_message.Message):
    __slots__ = ("earlier", "later")
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    earlier: str
    later: str
    def __init__(self, earlier: _Optional[str] = ..., later: _Optional[str] = ...) -> None: ...

class DiffSnapshotsResponse(_message.Message):
    __slots__ = ("diff",)
    DIFF_FIELD_NUMBER: _ClassVar[int]
    diff: SnapshotDiff
    def __init__(self, diff: _Optional[_Union[SnapshotDiff, _Mapping]] = ...) -> None: ...

class ExportSnapshotRequest(_message.Message):
    __slots__ = ("snapshot_id",)
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    def __init__(self, snapshot_id: _Optional[str] = ...) -> None: ...

class ExportSnapshotResponse(_message.Message):
    __slots__ = ("head", "piece")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    head: ArchiveHead
    piece: bytes
    def __init__(self, head: _Optional[_Union[ArchiveHead, _Mapping]] = ..., piece: _Optional[bytes] = ...) -> None: ...

class ImportSnapshotRequest(_message.Message):
    __slots__ = ("digest", "piece")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    piece: bytes
    def __init__(self, digest: _Optional[str] = ..., piece: _Optional[bytes] = ...) -> None: ...

class ImportSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class PreviewRollbackRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: RollbackPlan
    def __init__(self, plan: _Optional[_Union[RollbackPlan, _Mapping]] = ...) -> None: ...

class PreviewRollbackResponse(_message.Message):
    __slots__ = ("preview",)
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    preview: RollbackPreview
    def __init__(self, preview: _Optional[_Union[RollbackPreview, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("plan", "request_id")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    plan: RollbackPlan
    request_id: str
    def __init__(self, plan: _Optional[_Union[RollbackPlan, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("rollback",)
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    rollback: Rollback
    def __init__(self, rollback: _Optional[_Union[Rollback, _Mapping]] = ...) -> None: ...

class UndoRollbackRequest(_message.Message):
    __slots__ = ("agent", "control_id", "request_id")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    agent: str
    control_id: str
    request_id: str
    def __init__(self, agent: _Optional[str] = ..., control_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UndoRollbackResponse(_message.Message):
    __slots__ = ("rollback",)
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    rollback: Rollback
    def __init__(self, rollback: _Optional[_Union[Rollback, _Mapping]] = ...) -> None: ...

class GetRollbackRequest(_message.Message):
    __slots__ = ("control_id",)
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    control_id: str
    def __init__(self, control_id: _Optional[str] = ...) -> None: ...

class GetRollbackResponse(_message.Message):
    __slots__ = ("rollback",)
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    rollback: Rollback
    def __init__(self, rollback: _Optional[_Union[Rollback, _Mapping]] = ...) -> None: ...

class ListRollbacksRequest(_message.Message):
    __slots__ = ("agent", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRollbacksResponse(_message.Message):
    __slots__ = ("rollbacks", "next_page_token")
    ROLLBACKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rollbacks: _containers.RepeatedCompositeFieldContainer[Rollback]
    next_page_token: str
    def __init__(self, rollbacks: _Optional[_Iterable[_Union[Rollback, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("field", "found", "expected")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    field: str
    found: str
    expected: str
    def __init__(self, field: _Optional[str] = ..., found: _Optional[str] = ..., expected: _Optional[str] = ...) -> None: ...

class VerifyDecisionRequest(_message.Message):
    __slots__ = ("decision_id", "record")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    record: bytes
    def __init__(self, decision_id: _Optional[str] = ..., record: _Optional[bytes] = ...) -> None: ...

class VerifyDecisionResponse(_message.Message):
    __slots__ = ("decision_id", "verdict", "reason", "text", "differences", "snapshot_id", "events", "note")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    verdict: Verdict
    reason: str
    text: str
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    snapshot_id: str
    events: int
    note: str
    def __init__(self, decision_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ..., snapshot_id: _Optional[str] = ..., events: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...
