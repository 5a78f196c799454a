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

class AgentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGENT_STATE_UNSPECIFIED: _ClassVar[AgentState]
    AGENT_STATE_STARTING: _ClassVar[AgentState]
    AGENT_STATE_RUNNING: _ClassVar[AgentState]
    AGENT_STATE_PAUSED: _ClassVar[AgentState]
    AGENT_STATE_FAILED: _ClassVar[AgentState]
    AGENT_STATE_ELSEWHERE: _ClassVar[AgentState]

class MigrationMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_MODE_UNSPECIFIED: _ClassVar[MigrationMode]
    MIGRATION_MODE_KEEP: _ClassVar[MigrationMode]
    MIGRATION_MODE_RESET: _ClassVar[MigrationMode]
    MIGRATION_MODE_REFOLD: _ClassVar[MigrationMode]
    MIGRATION_MODE_FROM: _ClassVar[MigrationMode]
AGENT_STATE_UNSPECIFIED: AgentState
AGENT_STATE_STARTING: AgentState
AGENT_STATE_RUNNING: AgentState
AGENT_STATE_PAUSED: AgentState
AGENT_STATE_FAILED: AgentState
AGENT_STATE_ELSEWHERE: AgentState
MIGRATION_MODE_UNSPECIFIED: MigrationMode
MIGRATION_MODE_KEEP: MigrationMode
MIGRATION_MODE_RESET: MigrationMode
MIGRATION_MODE_REFOLD: MigrationMode
MIGRATION_MODE_FROM: MigrationMode

class Metric(_message.Message):
    __slots__ = ("name", "value", "baseline", "baseline_name", "bigger_is_better", "events")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    BIGGER_IS_BETTER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    baseline: float
    baseline_name: str
    bigger_is_better: bool
    events: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., baseline: _Optional[float] = ..., baseline_name: _Optional[str] = ..., bigger_is_better: _Optional[bool] = ..., events: _Optional[int] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("topic", "partition", "next_offset", "durable_offset", "end_offset", "keys_hot", "accepted", "quarantined", "learned", "paused", "unlabelled", "labels_lost", "keys_full", "heard_ms", "waits_for")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEYS_HOT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    UNLABELLED_FIELD_NUMBER: _ClassVar[int]
    LABELS_LOST_FIELD_NUMBER: _ClassVar[int]
    KEYS_FULL_FIELD_NUMBER: _ClassVar[int]
    HEARD_MS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    next_offset: int
    durable_offset: int
    end_offset: int
    keys_hot: int
    accepted: int
    quarantined: int
    learned: int
    paused: bool
    unlabelled: int
    labels_lost: int
    keys_full: int
    heard_ms: int
    waits_for: str
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., next_offset: _Optional[int] = ..., durable_offset: _Optional[int] = ..., end_offset: _Optional[int] = ..., keys_hot: _Optional[int] = ..., accepted: _Optional[int] = ..., quarantined: _Optional[int] = ..., learned: _Optional[int] = ..., paused: _Optional[bool] = ..., unlabelled: _Optional[int] = ..., labels_lost: _Optional[int] = ..., keys_full: _Optional[int] = ..., heard_ms: _Optional[int] = ..., waits_for: _Optional[str] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("name", "spec_version", "epoch", "digest", "state", "spec_json", "shards", "metrics", "note", "first_spec_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec_version: int
    epoch: int
    digest: str
    state: AgentState
    spec_json: str
    shards: _containers.RepeatedCompositeFieldContainer[Shard]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    note: str
    first_spec_version: int
    def __init__(self, name: _Optional[str] = ..., spec_version: _Optional[int] = ..., epoch: _Optional[int] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[AgentState, str]] = ..., spec_json: _Optional[str] = ..., shards: _Optional[_Iterable[_Union[Shard, _Mapping]]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., note: _Optional[str] = ..., first_spec_version: _Optional[int] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("control_id", "agent", "spec_version", "epoch", "positions", "changed", "note")
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    control_id: str
    agent: str
    spec_version: int
    epoch: int
    positions: _containers.RepeatedCompositeFieldContainer[_position_pb2.Position]
    changed: bool
    note: str
    def __init__(self, control_id: _Optional[str] = ..., agent: _Optional[str] = ..., spec_version: _Optional[int] = ..., epoch: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[_position_pb2.Position, _Mapping]]] = ..., changed: _Optional[bool] = ..., note: _Optional[str] = ...) -> None: ...

class Refusals(_message.Message):
    __slots__ = ("code", "text", "count", "examples")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    count: int
    examples: _containers.RepeatedCompositeFieldContainer[_position_pb2.Position]
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ..., count: _Optional[int] = ..., examples: _Optional[_Iterable[_Union[_position_pb2.Position, _Mapping]]] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("mode", "snapshot_id")
    MODE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    mode: MigrationMode
    snapshot_id: str
    def __init__(self, mode: _Optional[_Union[MigrationMode, str]] = ..., snapshot_id: _Optional[str] = ...) -> None: ...

class MigrationPlan(_message.Message):
    __slots__ = ("spec_version", "new_spec_version", "changes", "keep_problems", "events")
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEW_SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    KEEP_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    spec_version: int
    new_spec_version: int
    changes: _containers.RepeatedCompositeFieldContainer[Violation]
    keep_problems: _containers.RepeatedCompositeFieldContainer[Violation]
    events: int
    def __init__(self, spec_version: _Optional[int] = ..., new_spec_version: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., keep_problems: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., events: _Optional[int] = ...) -> None: ...

class DryRun(_message.Message):
    __slots__ = ("read", "accepted", "refused", "note", "migration")
    READ_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    read: int
    accepted: int
    refused: _containers.RepeatedCompositeFieldContainer[Refusals]
    note: str
    migration: MigrationPlan
    def __init__(self, read: _Optional[int] = ..., accepted: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[Refusals, _Mapping]]] = ..., note: _Optional[str] = ..., migration: _Optional[_Union[MigrationPlan, _Mapping]] = ...) -> None: ...

class Violation(_message.Message):
    __slots__ = ("path", "text", "hint")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    path: str
    text: str
    hint: str
    def __init__(self, path: _Optional[str] = ..., text: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...

class DeployAgentRequest(_message.Message):
    __slots__ = ("spec", "dry_run", "migration")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    spec: bytes
    dry_run: bool
    migration: Migration
    def __init__(self, spec: _Optional[bytes] = ..., dry_run: _Optional[bool] = ..., migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class DeployAgentResponse(_message.Message):
    __slots__ = ("effect", "dry_run")
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    dry_run: DryRun
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ..., dry_run: _Optional[_Union[DryRun, _Mapping]] = ...) -> None: ...

class ValidateAgentRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: bytes
    def __init__(self, spec: _Optional[bytes] = ...) -> None: ...

class ValidateAgentResponse(_message.Message):
    __slots__ = ("violations", "digest", "spec_json")
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    violations: _containers.RepeatedCompositeFieldContainer[Violation]
    digest: str
    spec_json: str
    def __init__(self, violations: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., digest: _Optional[str] = ..., spec_json: _Optional[str] = ...) -> None: ...

class GetAgentRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class GetAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

class GetSpecRequest(_message.Message):
    __slots__ = ("agent", "spec_version")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    spec_version: int
    def __init__(self, agent: _Optional[str] = ..., spec_version: _Optional[int] = ...) -> None: ...

class GetSpecResponse(_message.Message):
    __slots__ = ("spec_json",)
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    spec_json: str
    def __init__(self, spec_json: _Optional[str] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents",)
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    def __init__(self, agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ...) -> None: ...

class PauseLearningRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class PauseLearningResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class ResumeLearningRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class ResumeLearningResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class DeleteAgentRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class DeleteAgentResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ("control_id", "agent", "known", "partitions", "positions", "deleting", "rewriting", "gone_by_ms", "note", "rollbacks")
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    DELETING_FIELD_NUMBER: _ClassVar[int]
    REWRITING_FIELD_NUMBER: _ClassVar[int]
    GONE_BY_MS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ROLLBACKS_FIELD_NUMBER: _ClassVar[int]
    control_id: str
    agent: str
    known: bool
    partitions: int
    positions: _containers.RepeatedCompositeFieldContainer[_position_pb2.Position]
    deleting: _containers.RepeatedScalarFieldContainer[str]
    rewriting: _containers.RepeatedScalarFieldContainer[str]
    gone_by_ms: int
    note: str
    rollbacks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, control_id: _Optional[str] = ..., agent: _Optional[str] = ..., known: _Optional[bool] = ..., partitions: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[_position_pb2.Position, _Mapping]]] = ..., deleting: _Optional[_Iterable[str]] = ..., rewriting: _Optional[_Iterable[str]] = ..., gone_by_ms: _Optional[int] = ..., note: _Optional[str] = ..., rollbacks: _Optional[_Iterable[str]] = ...) -> None: ...

class PreviewForgetKeyRequest(_message.Message):
    __slots__ = ("agent", "key")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class PreviewForgetKeyResponse(_message.Message):
    __slots__ = ("forget",)
    FORGET_FIELD_NUMBER: _ClassVar[int]
    forget: Forget
    def __init__(self, forget: _Optional[_Union[Forget, _Mapping]] = ...) -> None: ...

class ForgetKeyRequest(_message.Message):
    __slots__ = ("agent", "key")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class ForgetKeyResponse(_message.Message):
    __slots__ = ("forget",)
    FORGET_FIELD_NUMBER: _ClassVar[int]
    forget: Forget
    def __init__(self, forget: _Optional[_Union[Forget, _Mapping]] = ...) -> None: ...

class GetForgetRequest(_message.Message):
    __slots__ = ("control_id",)
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    control_id: str
    def __init__(self, control_id: _Optional[str] = ...) -> None: ...

class GetForgetResponse(_message.Message):
    __slots__ = ("forget",)
    FORGET_FIELD_NUMBER: _ClassVar[int]
    forget: Forget
    def __init__(self, forget: _Optional[_Union[Forget, _Mapping]] = ...) -> None: ...
