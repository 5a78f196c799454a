"""The `decide` section: verdict, score, recommend or adjust, exactly one of them."""

from __future__ import annotations

import re
from typing import Any

from headrace.errors import Violation
from headrace.models.spec.field_reader import (
    FieldReader,
    did_you_mean,
    is_number,
    read_range,
    shown,
)
from headrace.models.spec.parts import Adjust, Cold, Decide, Recommend, Score, Verdict

POLICIES = ("verdict", "score", "recommend", "adjust")
MAX_K = 1_000
MAX_VERDICTS = 32
MAX_SEARCH = 10_000  # candidates that one adjustment may try
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


def read_decide(data: object, found: list[Violation]) -> Decide | None:
    """The policy; the default is to publish the score. None where there are violations."""
    path = "$.decide"
    if data is None:
        return Score()
    if isinstance(data, str):  # `decide: score` is short for {score: {}}
        data = {data: {}}
    if not isinstance(data, dict) or len(data) != 1:
        text = f"must be exactly one of {', '.join(POLICIES)}"
        found.append(Violation(path, text))
        return None
    ((name, body),) = data.items()
    if name not in POLICIES:
        found.append(Violation(f"{path}.{name}", "unknown policy", did_you_mean(name, POLICIES)))
        return None
    reader = FieldReader({} if body is None else body, f"{path}.{name}", found)
    decide: Decide | None
    if name == "verdict":
        decide = _verdict(reader)
    elif name == "score":
        decide = Score()
    elif name == "recommend":
        decide = _recommend(reader)
    else:
        decide = _adjust(reader)
    reader.finish()
    return decide if reader.clean else None


def _verdict(reader: FieldReader) -> Verdict | None:
    otherwise = reader.need("else", "the verdict below all thresholds: {block: 0.9, else: allow}")
    if otherwise is not None and not _is_name(otherwise):
        reader.note("else", f"must name a verdict, not {shown(otherwise)}")
    thresholds: list[tuple[str, float]] = []
    for name, value in reader.data.items():
        if name == "else":
            continue
        reader.known.append(name)
        if not _is_name(name):
            reader.note(name[:40], "a verdict's name has 1 to 64 characters")
        elif not is_number(value):
            reader.note(name, f"the threshold must be a number, not {shown(value)}")
        elif thresholds and float(value) >= thresholds[-1][1]:
            text = f"{value} is not below {thresholds[-1][0]}'s {thresholds[-1][1]:g}"
            reader.note(name, text, "thresholds go down: the first that the score reaches wins")
        elif name == otherwise:
            reader.note("else", f"{name} also has a threshold")
        else:
            thresholds.append((name, float(value)))
    if reader.clean and not thresholds:
        reader.note("", "has no threshold", "as in {block: 0.9, else: allow}")
    if len(thresholds) > MAX_VERDICTS:
        reader.note("", f"more than {MAX_VERDICTS} thresholds")
    return Verdict(thresholds=tuple(thresholds), otherwise=otherwise) if reader.clean else None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _recommend(reader: FieldReader) -> Recommend:
    return Recommend(
        k=reader.whole("k", 10, (1, MAX_K)),
        exclude_seen=reader.flag("exclude_seen", True),
        candidates=reader.field("candidates", reader.take("candidates")),
        exclude=reader.field("exclude", reader.take("exclude")),
    )


def _adjust(reader: FieldReader) -> Adjust | None:
    actuator = reader.need("actuator", "the number feature that the machine obeys")
    if actuator is not None and not isinstance(actuator, str):
        reader.note("actuator", f"must name a feature, not {shown(actuator)}")
    target = reader.need("setpoint", "a number, or the path of one in the event: $.setpoint")
    fixed = float(target) if is_number(target) else None
    path = None if fixed is not None else reader.field("setpoint", target)
    reader.need("range", "the actuator's hard limits: [0, 100]")
    low, high = read_range(reader, "range", (0.0, 1.0))
    step = reader.number("search_step", (high - low) / 50, 0.0) or 0.0
    if step <= 0.0 or (high - low) / step > MAX_SEARCH:
        text = f"must divide the range into 1 to {MAX_SEARCH:,} steps"
        reader.note("search_step", text)
    max_step = reader.number("max_step", None, 0.0)
    if max_step == 0.0:
        reader.note("max_step", "0 would never move the actuator", "leave it out for no limit")
    dead_band = reader.number("dead_band", 0.0, 0.0) or 0.0
    stale = reader.duration("stale_after", None)
    reader.need("safe", "the actuator's value while the model is stale or not finite")
    safe = reader.number("safe", None)
    cold = _cold(reader)
    if reader.clean and safe is not None and not low <= safe <= high:
        reader.note("safe", f"{safe:g} is not within the range [{low:g}, {high:g}]")
    if not reader.clean or safe is None:
        return None
    return Adjust(
        actuator=actuator,
        low=low,
        high=high,
        setpoint=fixed,
        setpoint_path=path,
        search_step=step,
        max_step=max_step,
        dead_band=dead_band,
        cold=cold,
        stale_after_ms=stale,
        safe=safe,
    )


def _cold(outer: FieldReader) -> Cold:
    default = Cold()
    data: Any = outer.need("cold", "the open loop to begin with: {updates: 20, value: 50}")
    if data is None:
        return default
    reader = FieldReader(data, f"{outer.path}.cold", outer.found)
    updates = reader.whole("updates", default.updates, (0, 1_000_000))
    value = reader.need("value", "a number, or {bias: …, slope: …} of the set-point")
    bias, slope = default.bias, 0.0
    if isinstance(value, dict):
        inner = FieldReader(value, f"{reader.path}.value", outer.found)
        bias = inner.number("bias", 0.0) or 0.0
        slope = inner.number("slope", 0.0) or 0.0
        inner.finish()
    elif is_number(value):
        bias = float(value)
    elif value is not None:
        reader.note("value", f"must be a number or {{bias, slope}}, not {shown(value)}")
    reader.finish()
    return Cold(updates=updates, bias=bias, slope=slope)
