"""Views as protobuf messages: what a server answers and a client asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import msgspec

from headrace.errors import RequestError, Violation
from headrace.serving import agent_pb2, position_pb2, prediction_pb2
from headrace.views import (
    AgentView,
    Answer,
    DryRun,
    Effect,
    KeyView,
    MetricView,
    Position,
    Question,
    Refusals,
    ShardView,
    Standing,
)

STATES = {
    "starting": agent_pb2.AGENT_STATE_STARTING,
    "running": agent_pb2.AGENT_STATE_RUNNING,
    "paused": agent_pb2.AGENT_STATE_PAUSED,
    "failed": agent_pb2.AGENT_STATE_FAILED,
    "elsewhere": agent_pb2.AGENT_STATE_ELSEWHERE,
}


def question(asked: Question) -> prediction_pb2.Question:
    """The question; a feature that is None is left out. Raises RequestError."""
    try:
        message = prediction_pb2.Question(
            agent=asked.agent,
            key=asked.key,
            exclude=asked.exclude,
            k=asked.k,
            setpoint=asked.setpoint,
            item=asked.item,
        )
        if asked.candidates is not None:
            message.candidates.SetInParent()
            message.candidates.items.extend(asked.candidates)
        for name, value in asked.features.items():
            if value is not None:
                _set_feature(message.features[name], name, value)
    except (TypeError, ValueError) as error:
        raise RequestError("invalid_request", f"cannot be asked: {error}") from error
    return message


def _set_feature(target: prediction_pb2.FeatureValue, name: str, value: object) -> None:
    if isinstance(value, bool):
        target.flag = value
    elif isinstance(value, str):
        target.text = value
    elif isinstance(value, Real):
        try:
            target.number = float(value)
        except OverflowError:
            raise _bad_feature("out_of_range", name, "no 64-bit float holds it") from None
    else:
        kind = type(value).__name__
        raise _bad_feature(
            "wrong_type", name, f"is of type {kind}; give a number, a text or a boolean"
        )


def _bad_feature(code: str, name: str, text: str) -> RequestError:
    return RequestError(
        code,
        f"feature {name!r}: {text}",
        violations=[Violation(path=f"features.{name}", text=text)],
    )


def answer(found: Answer) -> prediction_pb2.Answer:
    """The answer with the state that it used."""
    message = prediction_pb2.Answer(
        standing=standing(found.standing),
        score=found.score,
        label=found.label,
        probabilities=found.probabilities,
        decision=found.decision,
        value=found.value,
    )
    for ranked in found.items:
        message.items.add(item=ranked.item, score=ranked.score)
    return message


def standing(used: Standing) -> prediction_pb2.Standing:
    """The state that an answer used."""
    return prediction_pb2.Standing(
        agent=used.agent,
        spec_version=used.spec_version,
        epoch=used.epoch,
        position=position_pb2.Position(
            topic=used.topic, partition=used.partition, offset=used.offset
        ),
        cold=used.cold,
        updates=used.updates,
        behind=used.behind,
        heard_ms=used.heard_ms,
        imported=used.imported,
    )


def key(view: KeyView) -> prediction_pb2.GetKeyResponse:
    """One key as it stands."""
    return prediction_pb2.GetKeyResponse(
        standing=standing(view.standing),
        key=view.key,
        last_learned_ms=view.last_learned_ms,
        size_bytes=view.size_bytes,
        digest=view.digest,
        model_json=json_text(view.model),
        pending_labels=view.pending_labels,
    )


def position(place: Position) -> position_pb2.Position:
    """Where a record stands."""
    return position_pb2.Position(topic=place.topic, partition=place.partition, offset=place.offset)


def agent(view: AgentView) -> agent_pb2.Agent:
    """One agent as it stands."""
    return agent_pb2.Agent(
        name=view.name,
        spec_version=view.spec_version,
        epoch=view.epoch,
        digest=view.digest,
        state=STATES.get(view.state, agent_pb2.AGENT_STATE_UNSPECIFIED),
        spec_json=json_text(view.spec),
        shards=[_shard(shard) for shard in view.shards],
        metrics=[_metric(metric) for metric in view.metrics],
        note=view.note,
        first_spec_version=view.first_spec_version,
    )


def _shard(view: ShardView) -> agent_pb2.Shard:
    return agent_pb2.Shard(
        topic=view.topic,
        partition=view.partition,
        next_offset=view.next_offset,
        durable_offset=view.durable_offset,
        end_offset=view.end_offset,
        keys_hot=view.keys_hot,
        accepted=view.accepted,
        quarantined=view.quarantined,
        learned=view.learned,
        paused=view.paused,
        unlabelled=view.unlabelled,
        labels_lost=view.labels_lost,
        keys_full=view.keys_full,
        heard_ms=view.heard_ms,
        waits_for=view.waits_for,
    )


def _metric(view: MetricView) -> agent_pb2.Metric:
    return agent_pb2.Metric(
        name=view.name,
        value=view.value,
        baseline=view.baseline,
        baseline_name=view.baseline_name,
        bigger_is_better=view.bigger_is_better,
        events=view.events,
    )


def effect(done: Effect) -> agent_pb2.Effect:
    """How a control record took effect."""
    return agent_pb2.Effect(
        control_id=done.control_id,
        agent=done.agent,
        spec_version=done.spec_version,
        epoch=done.epoch,
        positions=[position(place) for place in done.positions],
        changed=done.changed,
        note=done.note,
    )


def dry_run(done: DryRun, plan: agent_pb2.MigrationPlan | None) -> agent_pb2.DryRun:
    """What a spec would do, and what would change."""
    return agent_pb2.DryRun(
        read=done.read,
        accepted=done.accepted,
        refused=[_refusals(reason) for reason in done.refused],
        note=done.note,
        migration=plan,
    )


def _refusals(reason: Refusals) -> agent_pb2.Refusals:
    return agent_pb2.Refusals(
        code=reason.code,
        text=reason.text,
        count=reason.count,
        examples=[position(place) for place in reason.examples],
    )


def violations(found: Iterable[Violation]) -> list[agent_pb2.Violation]:
    """All that is wrong with a spec."""
    return [agent_pb2.Violation(path=v.path, text=v.text, hint=v.hint) for v in found]


def json_text(tree: Mapping[str, Any]) -> str:
    """A JSON object for people: what is not JSON is shown as text, NaN as null."""
    return msgspec.json.encode(tree, enc_hook=str).decode()
