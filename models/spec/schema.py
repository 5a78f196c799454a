"""The JSON Schema of specs, draft 2020-12: what editors complete and underline.

It says less than `load_spec`, which also holds the rules across sections; whatever `load_spec`
accepts, the schema accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river.base import Estimator

from headrace.models.catalog import Entry, catalog
from headrace.models.metrics import families
from headrace.models.spec.decide import MAX_K, POLICIES
from headrace.models.spec.sections import (
    AGENT,
    MAX_BUCKETS,
    MAX_FEATURES,
    ROW_BYTES_MAX,
    TOPIC,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DURATION = r"^\d+(\.\d+)?\s?(ms|s|m|h|d)$"

Schema = dict[str, Any]


def json_schema() -> Schema:
    """A valid schema, every field with a description.

    >>> schema = json_schema()
    >>> schema["required"], schema["properties"]["scope"]["enum"]
    (['agent', 'source', 'model'], ['key', 'shared'])
    """
    return {
        "$schema": DRAFT,
        "title": "Headrace agent",
        "description": "One online model per key of a Kafka topic, and what is decided with it.",
        **_object(
            {
                "agent": _text("The agent's name", f"^{AGENT.pattern}$"),
                "source": _source(),
                "features": _features(),
                "item": _item(),
                "model": {"$ref": "#/$defs/model"},
                "scope": _enum(("key", "shared"), "One model per key (default), or one for all"),
                "label": _label(),
                "decide": _decide(),
                "metrics": _metrics(),
                "emit": _emit(),
                "state": _state(),
            },
            required=("agent", "source", "model"),
        ),
        "$defs": _definitions(catalog()),
    }


def _object(properties: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    return {**schema, "required": list(required)} if required else schema


def _optional(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _text(description: str, pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


def _enum(values: tuple[str, ...], description: str) -> Schema:
    return {"enum": list(values), "description": description}


def _path(description: str) -> Schema:
    return _text(f"{description}: a path such as $.a.b", r"^\$(\.|\[)")


def _number(description: str, **bounds: float) -> Schema:
    return {"type": "number", "description": description, **bounds}


def _whole(description: str, low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high, "description": description}


def _duration(description: str) -> Schema:
    return _text(f"{description}: 250ms, 30s, 15m, 2h, 90d", DURATION)


def _range(description: str) -> Schema:
    return {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
        "description": f"{description}: [low, high], both inclusive",
    }


def _source() -> Schema:
    schema = _object(
        {
            "topic": _text("The topic to read; its records' key is the model's key",
                           f"^{TOPIC.pattern}$"),
            "key": _path("The field whose text equals the record's key"),
            "time": _path("The event's own time, seconds or milliseconds or RFC 3339"),
            "start": {
                "type": "string",
                "description": "latest (default), earliest, or an RFC 3339 timestamp",
            },
        },
        required=("topic", "key"),
    )  # fmt: skip
    return {**schema, "description": "Where events come from"}


def _features() -> Schema:
    feature = _object(
        {
            "type": _enum(("number", "category", "boolean"), "What the field holds"),
            "path": _path("Where it is; the field of the feature's name by default"),
            "range": _range("Numbers outside go to quarantine; ±1e15 by default"),
            "missing": {
                "description": "reject (default), skip, or a value that stands in",
                "anyOf": [
                    {"enum": ["reject", "skip"]},
                    {"type": ["number", "string", "boolean"]},
                    _object({"value": {"type": ["number", "string", "boolean"]}}, ("value",)),
                ],
            },
            "encode": _enum(("value", "onehot", "hash"), "How a category enters the model"),
            "buckets": _whole("Of encode: hash", 1, MAX_BUCKETS),
        },
        required=("type",),
    )
    return {
        "type": "object",
        "maxProperties": MAX_FEATURES,
        "description": "What the model sees, by name. What is not listed is not seen",
        "additionalProperties": {
            "anyOf": [_enum(("number", "category", "boolean"), "Short for {type: …}"), feature]
        },
    }


def _item() -> Schema:
    return {
        "description": "Recommenders: the item that the key interacts with",
        "anyOf": [_path("The item"), _object({"field": _path("The item")}, ("field",))],
    }


def _label() -> Schema:
    common = {
        "type": _enum(("number", "category", "boolean"), "The model decides by default"),
        "range": _range("Numbers outside go to quarantine"),
    }
    in_event = _object({"field": _path("The truth, in the event"), **common}, ("field",))
    how = _enum(("value", "change"), "The later value, or the difference since the event")
    later = _object(
        {
            "later": _path("The truth, in a later event of the same key"),
            "after": _duration("How long after the event"),
            "as": how,
            **common,
        },
        ("later", "after"),
    )
    return {"description": "What the model learns to predict", "anyOf": [in_event, later]}


def _decide() -> Schema:
    verdict = {
        "type": "object",
        "description": "Name: threshold, from the highest down; else: the verdict below all",
        "properties": {"else": {"type": "string"}},
        "additionalProperties": {"type": "number"},
        "required": ["else"],
        "minProperties": 2,
    }
    recommend = _object(
        {
            "k": _whole("How many items", 1, MAX_K),
            "exclude_seen": {"type": "boolean", "description": "Leave out what the key had"},
            "candidates": _path("Items to rank, a list in the event"),
            "exclude": _path("Items to leave out, a list in the event"),
        }
    )
    bodies = {
        "verdict": verdict,
        "score": _optional(_object({})),
        "recommend": _optional(recommend),
        "adjust": _adjust(),
    }
    choices = [_object({name: bodies[name]}, (name,)) for name in POLICIES]
    return {
        "description": "What is made of a prediction; by default the score is published",
        "anyOf": [{"enum": ["score", "recommend"]}, *choices],
    }


def _adjust() -> Schema:
    line = _object({"bias": _number("At set-point 0"), "slope": _number("Per unit of set-point")})
    cold = _object(
        {
            "updates": _whole("Open loop below so many updates", 0, 1_000_000),
            "value": {"anyOf": [_number("A fixed value"), line]},
        },
        ("value",),
    )
    return _object(
        {
            "actuator": {"type": "string", "description": "The number feature to be set"},
            "setpoint": {"anyOf": [_number("A fixed set-point"), _path("The set-point")]},
            "range": _range("Hard limits of the actuator"),
            "search_step": _number("How finely values are tried", exclusiveMinimum=0),
            "max_step": _number("The furthest move at once", exclusiveMinimum=0),
            "dead_band": _number("No move while the prediction is so near", minimum=0),
            "cold": {**cold, "description": "The open loop to begin with"},
            "stale_after": _duration("Take the safe value if nothing was learned for so long"),
            "safe": _number("The value while the model is stale or not finite"),
        },
        required=("actuator", "setpoint", "range", "cold", "safe"),
    )


def _metrics() -> Schema:
    return {
        "type": "array",
        "items": {"enum": sorted(families())},
        "uniqueItems": True,
        "maxItems": 16,
        "description": "What is measured on each event before it is learned",
    }


def _emit() -> Schema:
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    return {
        "description": "Where decisions go, and which",
        **_object(
            {
                "topic": _text("decisions.<agent> by default", f"^{TOPIC.pattern}$"),
                "when": {
                    "anyOf": [{"type": "string"}, names],
                    "description": "Only these verdicts; all by default",
                },
            }
        ),
    }


def _state() -> Schema:
    return {
        "description": "Bounds of the agent's state, per shard",
        **_object(
            {
                "hot_keys_max": _whole("Models kept live", 1, 100_000_000),
                "idle_ttl": _duration("Forget keys that were not seen for so long"),
                "flush_ms": _whole("Make state durable at least so often", 10, 600_000),
                "flush_keys": _whole("… or after so many changed keys", 1, 10_000_000),
                "snapshot_s": _whole("Seconds between automatic snapshots", 1, 86_400),
                "pending_max": _whole("Events of one key that wait for a label", 1, 1_000_000),
                "row_bytes_max": _whole("A key's model may not grow beyond", 1_024, ROW_BYTES_MAX),
            }
        ),
    }


def _definitions(entries: Mapping[str, Entry]) -> Schema:
    models = {name: entry for name, entry in entries.items() if issubclass(entry.cls, Estimator)}
    named = _object({name: _parameters(entry) for name, entry in models.items()})
    named |= {"minProperties": 1, "maxProperties": 1}
    steps = {"type": "array", "items": {"$ref": "#/$defs/model"}, "minItems": 1}
    return {
        "model": {
            "description": "An estimator by name, {name: parameters}, or a list: a pipeline",
            "anyOf": [{"enum": list(models)}, named, steps],
        },
    }


def _parameters(entry: Entry) -> Schema:
    known = {name: {"description": str(what)} for name, what in entry.parameters.items()}
    open_ended = any(what.extra or what.many for what in entry.parameters.values())
    return {
        "type": ["object", "null", "array"],
        "properties": known,
        "additionalProperties": open_ended,
    }
