"""Messages for hostile calls: good ones, well-formed ones full of odd values, and monsters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from headrace.serving import agent_pb2, decision_pb2, prediction_pb2, snapshot_pb2
from headrace.serving.limits import Limits
from tests.hostile.targets import TARGETS, raw

SNAPSHOT = "hostile-cards.before"
DECISION = "hostile-cards/1/hostile-cards/0/7"
NAMES = (
    *(target.spec.agent for target in TARGETS.values()),
    *("k1", "k4", "f1", "before", SNAPSHOT, DECISION),
)
TEXTS = (
    "", " ", "\x00", "nobody-is-here", "K", "x" * 300,
    "é" * 600, "𝄞", "\u202e", "a/b", "../..", "%s",
    "amount", "balance", "merchant", "T", "q", "-", "None", "hostile-cards\n", "headrace.v1.X",
)  # fmt: skip
NUMBERS = (0.0, -0.0, 1.0, 12.5, 1e6, 1e15, 1e16, -1e300, 5e-324, float("nan"), float("inf"))
WHOLES = (0, 1, 2, 3, -1, 10, 1000, 1001, 2**31 - 1, -(2**31))
_SPECS = [target.text.encode() for target in TARGETS.values()]
_EVENTS = [raw(target.good(4)) for target in TARGETS.values()]


def filled(kind: Descriptor, chance: Random, careful: bool, depth: int = 0) -> Message:
    """A message of the kind, about half of its fields set to odd or to fitting values.

    `careful`: no name in it is an agent's.
    """
    message: Message = GetMessageClass(kind)()
    for field in kind.fields:
        if chance.random() < 0.35 or depth > 4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = getattr(message, field.name)
            for _ in range(chance.randint(0, 5)):
                name = chance.choice((*TEXTS, "amount", "balance", "merchant", "T", "q"))
                kind_of_value = field.message_type.fields[1].message_type
                assert kind_of_value is not None, "every map here is one of messages"
                values[name].CopyFrom(filled(kind_of_value, chance, careful, depth + 1))
        elif field.is_repeated:
            values = [_value(field, chance, careful, depth) for _ in range(chance.randint(0, 4))]
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            inner = filled(field.message_type, chance, careful, depth + 1)
            getattr(message, field.name).CopyFrom(inner)
        else:
            setattr(message, field.name, _value(field, chance, careful, depth))
    return message


def _value(field: FieldDescriptor, chance: Random, careful: bool, depth: int) -> Any:
    if field.message_type is not None:
        return filled(field.message_type, chance, careful, depth + 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return chance.choice(NUMBERS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice((*_SPECS, *_EVENTS, b"", b"{}", b"[", b"\xff"))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return chance.choice(TEXTS if careful or chance.random() < 0.4 else NAMES)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice((0, 1, 2, 77))
    return chance.choice(WHOLES)


def monsters() -> Sequence[bytes]:
    """Messages that are well formed and far too much of something, and some that are not."""
    question = prediction_pb2.Question(agent="hostile-cards", key="k1")
    question.exclude.extend(["x"] * 20_000)
    wide = prediction_pb2.Question(agent="hostile-cards", key="k1")
    for number in range(2_000):
        wide.features[f"f{number}"].number = number
    odd = prediction_pb2.Question(agent="hostile-films", key="k1", k=-(2**31), setpoint=1e308)
    odd.features["amount"].number = float("nan")
    back = snapshot_pb2.RollbackPlan(agent="hostile-cards", snapshot_id=SNAPSHOT)
    back.keys.extend(["x"] * 20_000)
    without = snapshot_pb2.RollbackPlan(agent="hostile-cards", before_ms=2**62)
    without.exclude.decision_ids.extend([DECISION + "7" * 100] * 9_000)
    large = b" " * (Limits.event_bytes + 1)
    text: dict[str, Any] = {"agent": "hostile-cards", "key": "k" * 100_000}
    messages: list[Message] = [
        prediction_pb2.PredictRequest(question=question),
        prediction_pb2.PredictRequest(question=wide),
        prediction_pb2.PredictRequest(question=odd),
        prediction_pb2.PredictBatchRequest(questions=[odd] * 2_000),
        prediction_pb2.GetKeyRequest(**text),
        prediction_pb2.GetKeyRequest(agent="a" * 70_000),
        prediction_pb2.SubmitFeedbackRequest(**text, event=b"{" * 3_000),
        prediction_pb2.SubmitFeedbackRequest(agent="hostile-cards", key="k1", event=large),
        agent_pb2.ValidateAgentRequest(spec=b"[" * 60_000),
        agent_pb2.ValidateAgentRequest(spec=b"x" * 100_000),
        snapshot_pb2.PreviewRollbackRequest(plan=back),
        snapshot_pb2.PreviewRollbackRequest(plan=without),
        snapshot_pb2.GetSnapshotRequest(snapshot_id="s" * 100_000),
        snapshot_pb2.ListSnapshotsRequest(page_token="9" * 100_000),
    ]
    return [
        *(message.SerializeToString() for message in messages),
        b"\x0a" + b"\xff\xff\xff\xff\x0f" + b"x" * 50,  # a length of 4 GB
        b"\x0b" * 20_000,  # groups in groups
        b"\x0a\x02\xff\xfe",  # a text that is not UTF-8
        b"\x00" * 100,
        b"x" * (Limits.message_bytes + 1_000),
    ]


_RECORD = (
    b'{"id": "hostile-cards/1/hostile-cards/0/3", "agent": "hostile-cards", "epoch": 1, '
    b'"decision": "allow", "position": {"topic": "hostile-cards", "partition": 0, "offset": 3}}'
)


def good(method: str) -> list[bytes]:
    """Good messages of a method. Commands are for an agent that is not there."""
    return [message.SerializeToString() for message in _GOOD[method]]


def _questions() -> list[prediction_pb2.Question]:
    card = prediction_pb2.Question(agent="hostile-cards", key="k4")
    card.features["amount"].number = 12.5
    card.features["balance"].number = 3
    card.features["merchant"].text = "shop 1"
    card.features["online"].flag = True
    heater = prediction_pb2.Question(agent="hostile-heaters", key="k9", setpoint=25.0)
    heater.features["T"].number = 21.0
    heater.features["q"].number = 50.0
    film = prediction_pb2.Question(agent="hostile-films", key="k1", item="f3", k=3)
    film.exclude.append("f2")
    film.candidates.items.append("f1")
    return [card, heater, film]


def _plans(agent: str) -> list[snapshot_pb2.RollbackPlan]:
    keys = snapshot_pb2.RollbackPlan(agent=agent, snapshot_id=SNAPSHOT, keys=["k1", "k4"])
    again = snapshot_pb2.RollbackPlan(agent=agent, before_ms=2**60)
    again.mode = snapshot_pb2.ROLLBACK_MODE_REWIND
    again.exclude.keys.append("k1")
    again.exclude.from_ms, again.exclude.to_ms = 5, 1_700_000_000_000
    again.exclude.header.name = "src"
    return [keys, again]


_GOOD: Mapping[str, list[Message]] = {
    "Predict": [
        prediction_pb2.PredictRequest(question=q, as_of=state)
        for q in _questions()
        for state in (None, prediction_pb2.AsOf(offset=7), prediction_pb2.AsOf(time_ms=5))
    ],
    "PredictBatch": [prediction_pb2.PredictBatchRequest(questions=_questions())],
    "PredictStream": [prediction_pb2.PredictStreamRequest(tag=7, question=q) for q in _questions()],
    "SubmitFeedback": [
        prediction_pb2.SubmitFeedbackRequest(agent="hostile-cards", key="k16", event=_EVENTS[0])
    ],
    "SubmitFeedbackBatch": [
        prediction_pb2.SubmitFeedbackBatchRequest(
            agent="hostile-cards",
            events=[prediction_pb2.KeyedEvent(key="k16", event=event) for event in _EVENTS],
        )
    ],
    "GetKey": [prediction_pb2.GetKeyRequest(agent="hostile-heaters", key="k1")],
    "WatchDecisions": [decision_pb2.WatchDecisionsRequest(agent="hostile-cards", until_end=True)],
    "WatchQuarantine": [decision_pb2.WatchQuarantineRequest(until_end=True)],
    "WatchWithdrawn": [decision_pb2.WatchWithdrawnRequest(until_end=True)],
    "DeployAgent": [agent_pb2.DeployAgentRequest(spec=s, dry_run=True) for s in _SPECS],
    "ValidateAgent": [agent_pb2.ValidateAgentRequest(spec=s) for s in _SPECS],
    "GetAgent": [agent_pb2.GetAgentRequest(agent="hostile-films")],
    "GetSpec": [agent_pb2.GetSpecRequest(agent="hostile-films", spec_version=1)],
    "ListAgents": [agent_pb2.ListAgentsRequest()],
    "PauseLearning": [agent_pb2.PauseLearningRequest(agent="nobody-is-here")],
    "ResumeLearning": [agent_pb2.ResumeLearningRequest(agent="nobody-is-here")],
    "DeleteAgent": [agent_pb2.DeleteAgentRequest(agent="nobody-is-here")],
    "PreviewForgetKey": [agent_pb2.PreviewForgetKeyRequest(agent="hostile-cards", key="k4")],
    "ForgetKey": [agent_pb2.ForgetKeyRequest(agent="nobody-is-here", key="k4")],
    "GetForget": [agent_pb2.GetForgetRequest(control_id="c")],
    "CreateSnapshot": [snapshot_pb2.CreateSnapshotRequest(agent="hostile-cards", name="before")],
    "GetSnapshot": [snapshot_pb2.GetSnapshotRequest(snapshot_id=SNAPSHOT)],
    "ListSnapshots": [snapshot_pb2.ListSnapshotsRequest(agent="hostile-cards")],
    "PinSnapshot": [snapshot_pb2.PinSnapshotRequest(snapshot_id=SNAPSHOT)],
    "DeleteSnapshot": [snapshot_pb2.DeleteSnapshotRequest(snapshot_id=SNAPSHOT)],
    "DiffSnapshots": [snapshot_pb2.DiffSnapshotsRequest(earlier=SNAPSHOT)],
    "ExportSnapshot": [snapshot_pb2.ExportSnapshotRequest(snapshot_id=SNAPSHOT)],
    "ImportSnapshot": [
        snapshot_pb2.ImportSnapshotRequest(digest="ab" * 32),
        snapshot_pb2.ImportSnapshotRequest(piece=b"no archive"),
    ],
    "PreviewRollback": [
        snapshot_pb2.PreviewRollbackRequest(plan=p) for p in _plans("hostile-cards")
    ],
    "Rollback": [snapshot_pb2.RollbackRequest(plan=p) for p in _plans("nobody-is-here")],
    "UndoRollback": [snapshot_pb2.UndoRollbackRequest(agent="nobody-is-here", control_id="c")],
    "GetRollback": [snapshot_pb2.GetRollbackRequest(control_id="c")],
    "ListRollbacks": [snapshot_pb2.ListRollbacksRequest(agent="hostile-cards")],
    "VerifyDecision": [
        snapshot_pb2.VerifyDecisionRequest(decision_id="hostile-cards/1/hostile-cards/0/3"),
        snapshot_pb2.VerifyDecisionRequest(record=_RECORD),
    ],
    "Check": [health_pb2.HealthCheckRequest(service="headrace.v1.AgentService")],
    "Watch": [health_pb2.HealthCheckRequest()],
    "ServerReflectionInfo": [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="headrace.v1.AgentService"),
    ],
}
