# mypy: ignore-errors
# ruff: noqa
# fmt: off
from google.rpc import status_pb2 as _status_pb2
from headrace.serving import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureValue(_message.Message):
    __slots__ = ("number", "text", "flag")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    number: float
    text: str
    flag: bool
    def __init__(self, number: _Optional[float] = ..., text: _Optional[str] = ..., flag: _Optional[bool] = ...) -> None: ...

class Candidates(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[str]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("agent", "key", "features", "candidates", "exclude", "k", "setpoint", "item")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeatureValue, _Mapping]] = ...) -> None: ...
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SETPOINT_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    features: _containers.MessageMap[str, FeatureValue]
    candidates: Candidates
    exclude: _containers.RepeatedScalarFieldContainer[str]
    k: int
    setpoint: float
    item: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ..., features: _Optional[_Mapping[str, FeatureValue]] = ..., candidates: _Optional[_Union[Candidates, _Mapping]] = ..., exclude: _Optional[_Iterable[str]] = ..., k: _Optional[int] = ..., setpoint: _Optional[float] = ..., item: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("agent", "spec_version", "epoch", "position", "cold", "updates", "behind", "heard_ms", "imported")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    HEARD_MS_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    agent: str
    spec_version: int
    epoch: int
    position: _position_pb2.Position
    cold: bool
    updates: int
    behind: int
    heard_ms: int
    imported: bool
    def __init__(self, agent: _Optional[str] = ..., spec_version: _Optional[int] = ..., epoch: _Optional[int] = ..., position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., cold: _Optional[bool] = ..., updates: _Optional[int] = ..., behind: _Optional[int] = ..., heard_ms: _Optional[int] = ..., imported: _Optional[bool] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("item", "score")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    item: str
    score: float
    def __init__(self, item: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("standing", "score", "label", "probabilities", "decision", "value", "items")
    class ProbabilitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STANDING_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    score: float
    label: str
    probabilities: _containers.ScalarMap[str, float]
    decision: str
    value: float
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., score: _Optional[float] = ..., label: _Optional[str] = ..., probabilities: _Optional[_Mapping[str, float]] = ..., decision: _Optional[str] = ..., value: _Optional[float] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ...) -> None: ...

class AsOf(_message.Message):
    __slots__ = ("snapshot_id", "offset", "time_ms")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    offset: int
    time_ms: int
    def __init__(self, snapshot_id: _Optional[str] = ..., offset: _Optional[int] = ..., time_ms: _Optional[int] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("question", "as_of")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    question: Question
    as_of: AsOf
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ..., as_of: _Optional[_Union[AsOf, _Mapping]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class PredictBatchRequest(_message.Message):
    __slots__ = ("questions",)
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    questions: _containers.RepeatedCompositeFieldContainer[Question]
    def __init__(self, questions: _Optional[_Iterable[_Union[Question, _Mapping]]] = ...) -> None: ...

class PredictBatchResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("answer", "error")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    error: _status_pb2.Status
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PredictStreamRequest(_message.Message):
    __slots__ = ("tag", "question")
    TAG_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    tag: int
    question: Question
    def __init__(self, tag: _Optional[int] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class PredictStreamResponse(_message.Message):
    __slots__ = ("tag", "outcome")
    TAG_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    tag: int
    outcome: Outcome
    def __init__(self, tag: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ...) -> None: ...

class SubmitFeedbackRequest(_message.Message):
    __slots__ = ("agent", "key", "event")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    event: bytes
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ..., event: _Optional[bytes] = ...) -> None: ...

class SubmitFeedbackResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: _position_pb2.Position
    def __init__(self, position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ...) -> None: ...

class KeyedEvent(_message.Message):
    __slots__ = ("key", "event")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    key: str
    event: bytes
    def __init__(self, key: _Optional[str] = ..., event: _Optional[bytes] = ...) -> None: ...

class SubmitFeedbackBatchRequest(_message.Message):
    __slots__ = ("agent", "events")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    events: _containers.RepeatedCompositeFieldContainer[KeyedEvent]
    def __init__(self, agent: _Optional[str] = ..., events: _Optional[_Iterable[_Union[KeyedEvent, _Mapping]]] = ...) -> None: ...

class SubmitFeedbackBatchResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Submitted]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Submitted, _Mapping]]] = ...) -> None: ...

class Submitted(_message.Message):
    __slots__ = ("position", "error")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    position: _position_pb2.Position
    error: _status_pb2.Status
    def __init__(self, position: _Optional[_Union[_position_pb2.Position, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("agent", "key")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class GetKeyResponse(_message.Message):
    __slots__ = ("standing", "key", "last_learned_ms", "size_bytes", "digest", "model_json", "pending_labels")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LAST_LEARNED_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_JSON_FIELD_NUMBER: _ClassVar[int]
    PENDING_LABELS_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    key: str
    last_learned_ms: int
    size_bytes: int
    digest: str
    model_json: str
    pending_labels: int
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., key: _Optional[str] = ..., last_learned_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[str] = ..., model_json: _Optional[str] = ..., pending_labels: _Optional[int] = ...) -> None: ...
