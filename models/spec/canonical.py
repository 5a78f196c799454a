"""A spec as plain data again, and the order of names that its digest rests on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.models.spec.durations import format_duration
from headrace.models.spec.parts import (
    Adjust,
    Decide,
    Feature,
    Label,
    Recommend,
    StateLimits,
    Verdict,
)

if TYPE_CHECKING:
    from headrace.models.spec.spec import Spec

_ESTIMATOR = re.compile(r"(?:[a-z_][a-z0-9_]*\.)*[A-Z]\w*|[a-z_][a-z0-9_]*(?:\.\w+)+")


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Every field in the order of docs/spec.md; what is absent (None) is left out."""
    source = spec.source
    data: dict[str, Any] = {
        "agent": spec.agent,
        "source": _present(
            {"topic": source.topic, "key": source.key, "time": source.time, "start": source.start}
        ),
        "features": {name: _feature(feature) for name, feature in spec.features.items()},
    }
    if spec.item is not None:
        data["item"] = {"field": spec.item}
    data["model"] = spec.model
    data["scope"] = spec.scope
    if spec.label is not None:
        data["label"] = _label(spec.label)
    data["decide"] = _decide(spec.decide)
    data["metrics"] = list(spec.metrics)
    when = None if spec.emit.when is None else list(spec.emit.when)
    data["emit"] = _present({"topic": spec.emit_topic, "when": when})
    data["state"] = _state(spec.state)
    return data


def _present(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def _feature(feature: Feature) -> dict[str, Any]:
    data: dict[str, Any] = {"type": feature.type, "path": feature.path}
    if feature.type == "number":
        data["range"] = [feature.low, feature.high]
    data["missing"] = {"value": feature.default} if feature.missing == "value" else feature.missing
    if feature.type == "category":
        data["encode"] = feature.encode
    if feature.encode == "hash":
        data["buckets"] = feature.buckets
    return data


def _label(label: Label) -> dict[str, Any]:
    data: dict[str, Any] = {"later" if label.later else "field": label.path}
    if label.later:
        data["after"] = format_duration(label.after_ms)
        data["as"] = "change" if label.change else "value"
    data["type"] = label.type
    if label.type == "number":
        data["range"] = [label.low, label.high]
    return data


def _decide(decide: Decide) -> dict[str, Any]:
    if isinstance(decide, Verdict):
        return {"verdict": {**dict(decide.thresholds), "else": decide.otherwise}}
    if isinstance(decide, Recommend):
        named = {"candidates": decide.candidates, "exclude": decide.exclude}
        body = {"k": decide.k, "exclude_seen": decide.exclude_seen, **_present(named)}
        return {"recommend": body}
    if isinstance(decide, Adjust):
        return {"adjust": _adjust(decide)}
    return {"score": {}}


def _adjust(adjust: Adjust) -> dict[str, Any]:
    stale = adjust.stale_after_ms
    cold = adjust.cold
    return _present(
        {
            "actuator": adjust.actuator,
            "setpoint": adjust.setpoint_path or adjust.setpoint,
            "range": [adjust.low, adjust.high],
            "search_step": adjust.search_step,
            "max_step": adjust.max_step,
            "dead_band": adjust.dead_band,
            "cold": {"updates": cold.updates, "value": {"bias": cold.bias, "slope": cold.slope}},
            "stale_after": None if stale is None else format_duration(stale),
            "safe": adjust.safe,
        }
    )


def _state(state: StateLimits) -> dict[str, Any]:
    idle = state.idle_ttl_ms
    return _present(
        {
            "hot_keys_max": state.hot_keys_max,
            "idle_ttl": None if idle is None else format_duration(idle),
            "flush_ms": state.flush_ms,
            "flush_keys": state.flush_keys,
            "snapshot_s": state.snapshot_s,
            "pending_max": state.pending_max,
            "row_bytes_max": state.row_bytes_max,
        }
    )


def canonical_order(data: dict[str, Any]) -> dict[str, Any]:
    """Names sorted where order means nothing; features, verdicts and the model keep theirs."""
    ordered = {}
    for name in sorted(data):
        value = data[name]
        if name == "features":
            value = {feature: _sorted(declared) for feature, declared in value.items()}
        elif name == "decide" and "verdict" in value:
            value = {"verdict": dict(value["verdict"])}
        elif name != "model":
            value = _sorted(value)
        ordered[name] = value
    return ordered


def _sorted(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {name: _sorted(data[name]) for name in sorted(data)}


def canonical_model(model: Any) -> Any:
    """The model as written, with parameters sorted by name: `{SGD: {b: 1, a: 2}}` and `SGD`.

    Mappings that are not an estimator's parameters keep their order: a union of transformers
    hands its parts to the model in that order.
    """
    if isinstance(model, list):
        return [canonical_model(part) for part in model]
    if not isinstance(model, dict):
        return model
    if len(model) == 1:
        ((name, parameters),) = model.items()
        if isinstance(name, str) and _ESTIMATOR.fullmatch(name):
            if parameters is None or parameters == {}:
                return name
            if isinstance(parameters, dict):
                ordered = {key: canonical_model(parameters[key]) for key in sorted(parameters)}
                return {name: ordered}
    return {name: canonical_model(part) for name, part in model.items()}
