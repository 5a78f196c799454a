"""Protobuf messages as views: what a client is answered and a server is asked.

A server trusts nothing here: `question` checks sizes and values against the limits and raises
RequestError; what the spec says about a feature is checked by the Predictor behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import RequestError, Violation
from headrace.serving import agent_pb2, position_pb2, prediction_pb2
from headrace.serving.encode import STATES
from headrace.views import (
    AgentView,
    Answer,
    DryRun,
    Effect,
    KeyView,
    MetricView,
    MigrationPlan,
    Position,
    Question,
    Refusals,
    ScoredItem,
    ShardView,
    Standing,
)

if TYPE_CHECKING:
    from headrace.serving.limits import Limits  # as of keys in events, so it loads the models

_STATE_NAMES = {number: name for name, number in STATES.items()}


def question(asked: prediction_pb2.Question, limits: Limits) -> Question:
    """The question, with bounded sizes and finite numbers. Raises RequestError."""
    name(asked.agent, limits)
    key_text(asked.key, limits)
    if len(asked.features) > limits.features:
        raise too_large("features", len(asked.features), limits.features)
    for field, items in (("candidates", asked.candidates.items), ("exclude", asked.exclude)):
        if len(items) > limits.items:
            raise too_large(field, len(items), limits.items)
    if asked.HasField("k") and not 1 <= asked.k <= limits.recommended:
        raise invalid("k", f"is {asked.k}; give 1 to {limits.recommended}")
    if not math.isfinite(asked.setpoint):
        raise invalid("setpoint", f"is {asked.setpoint}; give a finite number", code="not_finite")
    return Question(
        agent=asked.agent,
        key=asked.key,
        features={each: _feature(each, value) for each, value in asked.features.items()},
        candidates=tuple(asked.candidates.items) if asked.HasField("candidates") else None,
        exclude=tuple(asked.exclude),
        k=asked.k if asked.HasField("k") else None,
        setpoint=asked.setpoint if asked.HasField("setpoint") else None,
        item=asked.item if asked.HasField("item") else None,
    )


def _feature(feature: str, value: prediction_pb2.FeatureValue) -> float | str | bool:
    kind = value.WhichOneof("value")
    if kind == "number":
        if not math.isfinite(value.number):
            text = f"is {value.number}; give a finite number"
            raise invalid(f"features.{feature}", text, code="not_finite")
        return value.number
    if kind == "text":
        return value.text
    if kind == "flag":
        return value.flag
    raise invalid(f"features.{feature}", "has no value", code="wrong_type")


def name(text: str, limits: Limits) -> str:
    """An agent's name: not empty, and bounded. Raises RequestError."""
    if not text:
        raise invalid("agent", "is empty; give an agent's name")
    return bounded("agent", text, limits.key_chars)


def key_text(text: str, limits: Limits) -> str:
    """A key: bounded. It may be empty where the agent shares one model. Raises RequestError."""
    return bounded("key", text, limits.key_chars)


def bounded(field: str, text: str, limit: int) -> str:
    """A text of at most `limit` characters. Raises RequestError."""
    if len(text) > limit:
        raise too_large(field, len(text), limit, unit="characters")
    return text


def invalid(path: str, text: str, *, code: str = "invalid_request") -> RequestError:
    """A request whose field at `path` is wrong."""
    return RequestError(code, f"{path} {text}", violations=[Violation(path=path, text=text)])


def too_large(path: str, size: int, limit: int, *, unit: str = "entries") -> RequestError:
    """A request whose field at `path` is above a limit."""
    return invalid(path, f"has {size} {unit}; the limit is {limit}", code="too_large")


def answer(found: prediction_pb2.Answer) -> Answer:
    """The answer with the state that it used."""
    return Answer(
        standing=standing(found.standing),
        score=found.score if found.HasField("score") else None,
        label=found.label if found.HasField("label") else None,
        probabilities=dict(found.probabilities),
        decision=found.decision if found.HasField("decision") else None,
        value=found.value if found.HasField("value") else None,
        items=tuple(ScoredItem(item=ranked.item, score=ranked.score) for ranked in found.items),
    )


def standing(used: prediction_pb2.Standing) -> Standing:
    """The state that an answer used."""
    return Standing(
        agent=used.agent,
        spec_version=used.spec_version,
        epoch=used.epoch,
        topic=used.position.topic,
        partition=used.position.partition,
        offset=used.position.offset,
        cold=used.cold,
        updates=used.updates,
        behind=used.behind if used.HasField("behind") else None,
        heard_ms=used.heard_ms if used.HasField("heard_ms") else None,
        imported=used.imported,
    )


def key(view: prediction_pb2.GetKeyResponse) -> KeyView:
    """One key as it stands."""
    return KeyView(
        standing=standing(view.standing),
        key=view.key,
        last_learned_ms=view.last_learned_ms if view.HasField("last_learned_ms") else None,
        size_bytes=view.size_bytes,
        digest=view.digest,
        model=json_object(view.model_json),
        pending_labels=view.pending_labels,
    )


def position(place: position_pb2.Position) -> Position:
    """Where a record stands."""
    return Position(topic=place.topic, partition=place.partition, offset=place.offset)


def agent(view: agent_pb2.Agent) -> AgentView:
    """One agent as it stands."""
    return AgentView(
        name=view.name,
        spec_version=view.spec_version,
        epoch=view.epoch,
        digest=view.digest,
        state=_STATE_NAMES.get(view.state, "unknown"),
        spec=json_object(view.spec_json),
        shards=tuple(_shard(shard) for shard in view.shards),
        metrics=tuple(_metric(metric) for metric in view.metrics),
        note=view.note,
        first_spec_version=view.first_spec_version or view.spec_version,
    )


def _shard(view: agent_pb2.Shard) -> ShardView:
    return ShardView(
        topic=view.topic,
        partition=view.partition,
        next_offset=view.next_offset,
        durable_offset=view.durable_offset,
        end_offset=view.end_offset if view.HasField("end_offset") else None,
        keys_hot=view.keys_hot,
        accepted=view.accepted,
        quarantined=view.quarantined,
        learned=view.learned,
        paused=view.paused,
        unlabelled=view.unlabelled,
        labels_lost=view.labels_lost,
        keys_full=view.keys_full,
        heard_ms=view.heard_ms if view.HasField("heard_ms") else None,
        waits_for=view.waits_for,
    )


def _metric(view: agent_pb2.Metric) -> MetricView:
    return MetricView(
        name=view.name,
        value=view.value,
        baseline=view.baseline if view.HasField("baseline") else None,
        baseline_name=view.baseline_name if view.HasField("baseline_name") else None,
        bigger_is_better=view.bigger_is_better,
        events=view.events,
    )


def effect(done: agent_pb2.Effect) -> Effect:
    """How a control record took effect."""
    return Effect(
        control_id=done.control_id,
        agent=done.agent,
        spec_version=done.spec_version,
        epoch=done.epoch,
        positions=tuple(position(place) for place in done.positions),
        changed=done.changed,
        note=done.note,
    )


def dry_run(done: agent_pb2.DryRun, plan: MigrationPlan | None) -> DryRun:
    """What a spec would do, and what would change."""
    return DryRun(
        read=done.read,
        accepted=done.accepted,
        refused=tuple(_refusals(reason) for reason in done.refused),
        note=done.note,
        migration=plan,
    )


def _refusals(reason: agent_pb2.Refusals) -> Refusals:
    return Refusals(
        code=reason.code,
        text=reason.text,
        count=reason.count,
        examples=tuple(position(place) for place in reason.examples),
    )


def violations(found: Iterable[agent_pb2.Violation]) -> list[Violation]:
    """All that is wrong with a spec."""
    return [Violation(path=v.path, text=v.text, hint=v.hint) for v in found]


def json_object(text: str) -> dict[str, Any]:
    """An object that travelled as text; empty: there is none."""
    return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
