"""What is wanted from an event, field by field, and whether a value is it.

`checked` is the rule itself; `headrace.models.typed_reader` makes the same rule a decoder in C,
and a law in the tests says that they agree.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headrace.errors import EventError
from headrace.models.paths import Path, format_path, parse_path
from headrace.models.spec import Adjust, Recommend, Spec
from headrace.models.spec.parts import LARGEST, MAX_CATEGORY
from headrace.models.timestamps import to_milliseconds

MAX_KEY = 512  # characters
MAX_ITEMS = 10_000  # candidates or exclusions that one event may bring
LEAST_WHOLE, MOST_WHOLE = -(1 << 63), (1 << 63) - 1  # of whole numbers that stand for texts


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One value that is read from every event.

    A `flag` is a boolean that may also come as 0 or 1; a `text` or a `key` may come as a whole
    number.
    `low` and `high` are of numbers, `longest` (characters) of texts.
    """

    name: str  # as messages call it
    path: Path
    kind: Literal["key", "number", "boolean", "flag", "text", "texts", "time"]
    required: bool = True
    low: float = -LARGEST
    high: float = LARGEST
    longest: int = MAX_CATEGORY

    def fail(self, code: str, text: str) -> EventError:
        """An error about this field; `text` follows its name."""
        return EventError(code, f"`{self.name}` {text}", path=format_path(self.path))

    def missing(self) -> EventError:
        """The error where nothing stands at the path."""
        return self.fail("key_missing" if self.kind == "key" else "missing", "is missing")


def wants_of(spec: Spec) -> dict[str, Want]:
    """Everything that is read from an event, by role, in the order in which reasons are given:
    key, the features (`features.<name>`), label, time, item, setpoint, candidates, exclude.
    """
    key = parse_path(spec.source.key)
    wants = {"key": Want(name="key", path=key, kind="key", longest=MAX_KEY)}
    for name, feature in spec.features.items():
        wants[f"features.{name}"] = Want(
            name=name,
            path=parse_path(feature.path),
            kind="text" if feature.type == "category" else feature.type,
            required=feature.missing == "reject",
            low=feature.low,
            high=feature.high,
        )
    label = spec.label
    if label is not None:
        wants["label"] = Want(
            name="label",
            path=parse_path(label.path),
            kind=_label_kind(label.type),
            required=False,
            low=label.low,
            high=label.high,
        )
    if spec.source.time is not None:
        wants["time"] = Want(name="time", path=parse_path(spec.source.time), kind="time")
    if spec.item is not None:
        wants["item"] = Want(name="item", path=parse_path(spec.item), kind="text")
    decide = spec.decide
    if isinstance(decide, Adjust) and decide.setpoint_path is not None:
        path = parse_path(decide.setpoint_path)
        wants["setpoint"] = Want(name="setpoint", path=path, kind="number")
    if isinstance(decide, Recommend):
        for role, text in (("candidates", decide.candidates), ("exclude", decide.exclude)):
            if text is not None:
                path = parse_path(text)
                wants[role] = Want(name=role, path=path, kind="texts", required=False)
    return wants


def _label_kind(label_type: str) -> Literal["number", "flag", "text"]:
    if label_type == "number":
        return "number"
    return "flag" if label_type == "boolean" else "text"


def checked(want: Want, value: Any) -> Any:
    """The value as the typed decoder would give it, never None. Raises EventError."""
    if want.kind == "number":
        return _number(want, value)
    if want.kind in ("text", "key"):
        return _text(want, value)
    if want.kind == "boolean":
        if not isinstance(value, bool):
            raise want.fail("wrong_type", f"is {_name(value)}, not true or false")
        return value
    if want.kind == "flag":
        if isinstance(value, (bool, int)) and value in (0, 1):
            return value
        raise want.fail("wrong_type", f"is {_name(value)}, not true, false, 0 or 1")
    if want.kind == "time":
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise want.fail("bad_time", f"is {_name(value)}, not a time")
        milliseconds(want, value)
        return value
    if not isinstance(value, list):
        raise want.fail("wrong_type", f"is {_name(value)}, not a list of texts")
    if len(value) > MAX_ITEMS:
        raise want.fail("too_long", f"has more than {MAX_ITEMS:,} items")
    return [_text(want, item) for item in value]


def milliseconds(want: Want, value: Any) -> int:
    """A time as milliseconds since 1970. Raises EventError."""
    try:
        return to_milliseconds(value)
    except (ValueError, OverflowError) as error:
        raise want.fail("bad_time", f"cannot be read: {error}") from None


def _number(want: Want, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise want.fail("wrong_type", f"is {_name(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0.0:  # NaN and the infinities, and nothing else
        raise want.fail("not_finite", "is not a finite number")
    if not want.low <= number <= want.high:
        raise want.fail("out_of_range", f"is not within [{want.low:g}, {want.high:g}]")
    return number


def _text(want: Want, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        code = "key_mismatch" if want.kind == "key" else "wrong_type"
        raise want.fail(code, f"is {_name(value)}, not a text")
    if isinstance(value, int):
        if not LEAST_WHOLE <= value <= MOST_WHOLE:
            raise want.fail("out_of_range", "is a whole number beyond 64 bits")
        return value
    if len(value) > want.longest:
        raise want.fail("too_long", f"has more than {want.longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise want.fail("bad_utf8", "holds half of a surrogate pair") from None
    return value


def _name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
