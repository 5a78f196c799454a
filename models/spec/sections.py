"""From a spec's plain data to its parts, section by section. What is wrong goes to a list.

A section that has violations is None, so that rules across sections (`spec_rules`) see only
sound ones. The model is read by the catalog, not here.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headrace.errors import Violation
from headrace.models.paths import format_path
from headrace.models.spec.decide import read_decide
from headrace.models.spec.field_reader import (
    FOR_NOW,
    FieldReader,
    is_number,
    read_range,
    shown,
)
from headrace.models.spec.parts import (
    LARGEST,
    MAX_CATEGORY,
    Decide,
    Emit,
    Feature,
    Label,
    Scalar,
    Source,
    StateLimits,
)
from headrace.models.timestamps import parse_rfc3339

MAX_FEATURES = 2_000
MAX_BUCKETS = 1 << 20
ROW_BYTES_MAX = 1 << 27  # that a spec may ask for: well below what the codec writes
AGENT = re.compile(r"[a-z][a-z0-9-]{0,62}")
TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
TOPIC_MEANING = "a topic name (letters, digits, . _ -; at most 249)"
FEATURE_NAME = re.compile(r"[^\x00-\x1f\x7f=#]{1,128}")
TYPES = ("number", "category", "boolean")


class Sections(msgspec.Struct, kw_only=True):
    """A spec in the making: None where a section has violations (label also: where absent)."""

    agent: str | None
    source: Source | None
    features: dict[str, Feature]
    features_sound: bool
    item: str | None
    item_sound: bool
    model: Any
    scope: str
    label: Label | None
    label_type: str  # as declared; empty where the model decides
    label_sound: bool
    decide: Decide | None
    metrics: tuple[str, ...] | None
    emit: Emit | None
    state: StateLimits | None


def read_sections(data: object, found: list[Violation]) -> Sections:
    """Reads everything; violations are added to `found` in the order of the fields below."""
    top = FieldReader(data, "$", found)
    agent = top.need("agent", "the agent's name, as in card-fraud")
    if agent is not None and not (isinstance(agent, str) and AGENT.fullmatch(agent)):
        text = f"{shown(agent)} is not a name: a-z first, then a-z, 0-9 and -, at most 63 in all"
        top.note("agent", text)
        agent = None
    source = _source(top)
    features, features_sound = _features(top)
    before = len(found)
    item = _item(top)
    item_sound = len(found) == before
    model = top.need("model", "an estimator's name, or a list of them for a pipeline")
    scope = top.choice("scope", ("key", "shared"), "key")
    before = len(found)
    label, label_type = _label(top)
    label_sound = len(found) == before
    sections = Sections(
        agent=agent,
        source=source,
        features=features,
        features_sound=features_sound,
        item=item,
        item_sound=item_sound,
        model=model,
        scope=scope,
        label=label,
        label_type=label_type,
        label_sound=label_sound,
        decide=read_decide(top.take("decide"), found),
        metrics=_metrics(top),
        emit=_emit(top),
        state=_state(top),
    )
    top.finish()
    return sections


def _item(top: FieldReader) -> str | None:
    data = top.take("item")
    if data is None:
        return None
    reader = FieldReader({"field": data} if isinstance(data, str) else data, "$.item", top.found)
    item = reader.field("field", reader.need("field", "the path of the item, as in $.item"))
    reader.finish()
    return item


def _source(top: FieldReader) -> Source | None:
    data = top.need("source", "the topic to read and the path of its key")
    if data is None:
        return None
    reader = FieldReader(data, "$.source", top.found)
    topic = reader.need("topic", "the topic to read")
    if isinstance(topic, list):
        reader.note("topic", FOR_NOW, "name one topic")
    elif topic is not None and not (isinstance(topic, str) and TOPIC.fullmatch(topic)):
        reader.note("topic", f"{shown(topic)} is not {TOPIC_MEANING}")
    key = reader.need("key", "the path of the field whose text is the record's key: $.card_id")
    if isinstance(key, (list, dict)):
        reader.note("key", FOR_NOW, "name one field, as in $.card_id")
        key = None
    key = reader.field("key", key)
    time = reader.field("time", reader.take("time"))
    start = reader.take("start") or "latest"
    if start not in ("latest", "earliest"):
        try:
            parse_rfc3339(str(start))
        except ValueError as error:
            reader.note("start", str(error), "latest, earliest or a timestamp")
    reader.finish()
    if not reader.clean:
        return None
    return Source(topic=topic, key=key or "", time=time, start=str(start))


def _features(top: FieldReader) -> tuple[dict[str, Feature], bool]:
    data = top.take("features")
    if data is None:
        return {}, True
    before = len(top.found)
    if not isinstance(data, dict):
        top.note("features", f"must be a mapping of names to types, not {shown(data)}")
        return {}, False
    if len(data) > MAX_FEATURES:
        top.note("features", f"{len(data):,} features; at most {MAX_FEATURES:,} are allowed")
        return {}, False
    features = {}
    for name, declared in data.items():
        if FEATURE_NAME.fullmatch(name) is None:
            text = "not a feature's name: 1 to 128 characters without = and #"
            top.note(f"features.{name[:40]}", text)
            continue
        if isinstance(declared, str):  # `amount: number` is short for {type: number}
            declared = {"type": declared}
        features[name] = _feature(name, FieldReader(declared, f"$.features.{name}", top.found))
    return features, len(top.found) == before


def _feature(name: str, reader: FieldReader) -> Feature:
    kind = reader.choice("type", TYPES, "number")
    if "type" not in reader.data:
        reader.note("type", "is required", "number, category or boolean")
    # A path that cannot be read is noted; another stands in while the rest is looked at.
    path = reader.field("path", reader.take("path") or format_path((name,))) or "$.unread"
    low, high = read_range(reader, "range", (-LARGEST, LARGEST))
    if kind != "number" and reader.data.get("range") is not None:
        reader.note("range", f"only a number has a range, not a {kind}")
    missing, default = _missing(reader, kind)
    if is_number(default) and kind == "number" and not low <= float(default or 0) <= high:
        reader.note("missing", f"{default} is not within the range [{low:g}, {high:g}]")
    encode = reader.choice("encode", ("value", "onehot", "hash"), "value")
    buckets = reader.whole("buckets", 0, (1, MAX_BUCKETS))
    if kind != "category" and encode != "value":
        reader.note("encode", f"only a category is encoded, not a {kind}")
    if encode == "hash" and buckets == 0 and reader.data.get("buckets") is None:
        reader.note("buckets", "is required with encode: hash", "how many: 32, say")
    if encode != "hash" and buckets:
        reader.note("buckets", "only encode: hash has buckets")
    reader.finish()
    return msgspec.convert(
        {
            "path": path,
            "type": kind,
            "low": low,
            "high": high,
            "missing": missing,
            "default": default,
            "encode": encode,
            "buckets": buckets,
        },
        Feature,
    )


def _missing(reader: FieldReader, kind: str) -> tuple[str, Scalar | None]:
    value = reader.take("missing")
    if value is None:
        return "reject", None
    if value in ("reject", "skip") and isinstance(value, str):
        return value, None
    if isinstance(value, dict):
        inner = FieldReader(value, f"{reader.path}.missing", reader.found)
        value = inner.need("value", "the value that stands in")
        inner.finish()
        if value is None:
            return "reject", None
    default = as_scalar(value, kind)
    if default is None:
        hint = "reject, skip, or a value; for a category that is called so: {value: skip}"
        reader.note("missing", f"{shown(value)} cannot stand in for a {kind}", hint)
        return "reject", None
    return "value", default


def as_scalar(value: object, kind: str) -> Scalar | None:
    """A value of a declared type as models see it; None if it is of another type."""
    if kind == "number":
        return float(value) if is_number(value) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, str):
        return value if len(value) <= MAX_CATEGORY else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _label(top: FieldReader) -> tuple[Label | None, str]:
    """The label without its type, and the type as declared."""
    data = top.take("label")
    if data is None:
        return None, ""
    reader = FieldReader(data, "$.label", top.found)
    for name in ("topic", "key", "join", "joins"):
        if name in reader.data:
            reader.known.append(name)
            reader.note(name, FOR_NOW, "labels from another topic come later")
    field, later = reader.take("field"), reader.take("later")
    after = reader.duration("after", None)
    how = reader.choice("as", ("value", "change"), "value")
    kind = reader.choice("type", TYPES, "")
    low, high = read_range(reader, "range", (-LARGEST, LARGEST))
    path = reader.field("field", field) or reader.field("later", later)
    reader.finish()
    if (field is None) == (later is None) and reader.clean:
        reader.note("", "needs either field (the truth is in the event) or later (in a later one)")
    if later is not None and reader.data.get("after") is None:
        reader.note("after", "is required with later", "how long after the event: 30s, say")
    if later is None and ("after" in reader.data or "as" in reader.data):
        reader.note("", "after and as belong to a label that comes later", "use later: $.path")
    if how == "change" and kind in ("category", "boolean"):
        reader.note("as", f"only a number changes, not a {kind}")
    if kind in ("category", "boolean") and "range" in reader.data:
        reader.note("range", f"only a number has a range, not a {kind}")
    if not reader.clean or path is None:
        return None, kind
    label = Label(
        path=path,
        type="number",
        later=later is not None,
        after_ms=after or 0,
        change=how == "change",
        low=low,
        high=high,
    )
    return label, kind


def _metrics(top: FieldReader) -> tuple[str, ...] | None:
    value = top.take("metrics")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        top.note("metrics", f"must be a list of metric names, not {shown(value)}")
        return None
    for name in {name for name in value if value.count(name) > 1}:
        top.note("metrics", f"{name} is given twice")
    if len(value) > 16:
        top.note("metrics", f"{len(value)} metrics; at most 16 are kept")
    return tuple(value)


def _emit(top: FieldReader) -> Emit | None:
    data = top.take("emit")
    if data is None:
        return Emit()
    reader = FieldReader(data, "$.emit", top.found)
    topic = reader.text("topic", TOPIC, TOPIC_MEANING)
    when = reader.take("when")
    if isinstance(when, str):
        when = [when]
    if when is not None and not (
        isinstance(when, list) and when and all(isinstance(name, str) for name in when)
    ):
        reader.note("when", f"must be a list of verdicts, not {shown(when)}")
        when = None
    reader.finish()
    if not reader.clean:
        return None
    return Emit(topic=topic, when=None if when is None else tuple(dict.fromkeys(when)))


def _state(top: FieldReader) -> StateLimits | None:
    data = top.take("state")
    if data is None:
        return StateLimits()
    reader = FieldReader(data, "$.state", top.found)
    limits = StateLimits()
    state = StateLimits(
        hot_keys_max=reader.whole("hot_keys_max", limits.hot_keys_max, (1, 100_000_000)),
        idle_ttl_ms=reader.duration("idle_ttl", None, 1_000),
        flush_ms=reader.whole("flush_ms", limits.flush_ms, (10, 600_000)),
        flush_keys=reader.whole("flush_keys", limits.flush_keys, (1, 10_000_000)),
        snapshot_s=reader.whole("snapshot_s", limits.snapshot_s, (1, 86_400)),
        pending_max=reader.whole("pending_max", limits.pending_max, (1, 1_000_000)),
        row_bytes_max=reader.whole("row_bytes_max", limits.row_bytes_max, (1_024, ROW_BYTES_MAX)),
    )
    reader.finish()
    return state if reader.clean else None
