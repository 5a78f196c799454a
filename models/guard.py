"""What stands before every model: an event is exactly what the spec declares, or it is refused.

A good event costs one typed decode in C and little more. A bad one is looked at again, slowly, to
say why: the reason is one of `REASONS`, with the path of the field. Nothing that depends on the
machine, the caller's stack or the time of day decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.errors import EventError
from headrace.models.depth import deeper_than
from headrace.models.features import X, encoder
from headrace.models.fields import MAX_KEY, TypedReader, Want, checked, getter, milliseconds
from headrace.models.paths import MISSING, lookup, parse_path
from headrace.models.questions import check_question
from headrace.models.spec import Spec
from headrace.models.spec_parts import LARGEST, Adjust, Feature, Recommend
from headrace.models.spec_sections import MAX_CATEGORY
from headrace.ports import Record

MAX_EVENT_BYTES = 1 << 20
MAX_DEPTH = 64
EXTREME = 1e6  # beyond it a model is asked after learning whether it is still finite

REASONS: Mapping[str, str] = {
    "null_value": "the record has no value",
    "too_large": f"the event has more than {MAX_EVENT_BYTES:,} bytes",
    "too_deep": f"the event is nested deeper than {MAX_DEPTH} levels",
    "bad_utf8": "a text is not UTF-8",
    "bad_json": "the event is not JSON",
    "not_an_object": "the event is JSON, but not an object",
    "key_missing": "the record has no key",
    "key_mismatch": "the record's key differs from the key in the event",
    "missing": "a field that must be there is absent or null",
    "wrong_type": "a field is of another type than declared",
    "not_finite": "a number is NaN or infinite",
    "out_of_range": "a number is outside its range",
    "too_long": "a text or a list is too long",
    "bad_time": "the event's time cannot be read",
    "model_failed": "the model raised an error on this event",
    "score_not_finite": "the model's score is NaN or infinite",
    "model_not_finite": "learning this event would make the model NaN or infinite",
    "row_too_large": "learning this event would make the key's row larger than row_bytes_max",
}


class Event(msgspec.Struct, gc=False):
    """An event as models and policies see it. `x` is theirs to keep, in declared order."""

    key: str
    x: X
    y: float | str | bool | None = None  # the label, where it is in the event and came
    item: str | None = None
    time_ms: int | None = None  # the event's own time; None where the spec reads none
    later: float | str | bool | None = None  # this event's value of what a later label reads
    setpoint: float | None = None
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    extreme: bool = False  # a number beyond ±1e6 is in it


class Refusal(msgspec.Struct):
    """Why a record never reached the model. `code` is one of `REASONS`."""

    offset: int
    code: str
    text: str
    path: str = ""


class Guard:
    """Checks the events and the questions of one spec.

    >>> from headrace.models.spec import load_spec
    >>> guard = Guard(load_spec('''
    ... agent: heating
    ... source: {topic: readings, key: $.id}
    ... features: {power: {type: number, range: [0, 100]}}
    ... model: linear_model.LinearRegression
    ... label: {field: $.temp}
    ... '''))
    >>> from types import SimpleNamespace as R
    >>> guard.admit(R(offset=7, timestamp=0, key=b"4", value=b'{"id": 4, "power": 60, "temp": 21.5}'))
    Event(key='4', x={'power': 60.0}, y=21.5, item=None, time_ms=None, later=None, setpoint=None, candidates=None, exclude=(), extreme=False)
    >>> guard.admit(R(offset=8, timestamp=0, key=b"4", value=b'{"id": 4, "power": 160}'))
    Refusal(offset=8, code='out_of_range', text='`power` is not within [0, 100]', path='$.power')
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._features = spec.features
        self._wants = _wants(spec)
        self._reader = TypedReader(list(self._wants.values()))
        self._decode = self._reader.decode
        places = dict(zip(self._wants, self._reader.places, strict=True))
        self._roles = [role for role in self._wants if not role.startswith("features.")]
        self._get_roles = getter([places[role] for role in self._roles])
        self._get_features = getter([places[f"features.{name}"] for name in spec.features])
        mixed = [list(self._wants)[i] for i in self._reader.mixed]
        self._mixed_roles = [(i, self._wants[r]) for i, r in enumerate(self._roles) if r in mixed]
        self._mixed_features = [
            (i, self._wants[f"features.{name}"])
            for i, name in enumerate(spec.features)
            if f"features.{name}" in mixed
        ]
        self._names = tuple(spec.features)
        encoders = {name: encoder(name, feature) for name, feature in spec.features.items()}
        self._rules = [(name, f, encoders[name]) for name, f in spec.features.items()]
        self._plain = all(
            f.type != "category" and f.missing == "reject" for f in spec.features.values()
        )
        self._wide = [name for name, f in spec.features.items() if _is_wide(f)]
        label = spec.label
        self._label_is_later = label is not None and label.later
        self._only_key = self._roles == ["key"]
        self._key_and_label = self._roles == ["key", "label"] and not self._mixed_roles

    def admit(self, record: Record) -> Event | Refusal:
        """The event, or why there is none. Never raises, whatever the bytes."""
        value = record.value
        try:
            if value is None:
                raise EventError("null_value", "the record has no value")
            if len(value) > MAX_EVENT_BYTES:
                text = f"the event has {len(value):,} bytes; at most {MAX_EVENT_BYTES:,} are read"
                raise EventError("too_large", text)
            if deeper_than(value, MAX_DEPTH):
                raise EventError("too_deep", f"nested deeper than {MAX_DEPTH} levels")
            try:
                decoded = self._decode(value)
                roles, features = self._get_roles(decoded), self._get_features(decoded)
            except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as error:
                roles, features = self._look_again(value, error)
            else:
                if self._mixed_roles:
                    roles = _recheck(roles, self._mixed_roles)
                if self._mixed_features:
                    features = _recheck(features, self._mixed_features)
            return self._event(record.key, roles, features)
        except EventError as error:
            return Refusal(record.offset, error.code, error.text, error.path)

    def question(self, features: Mapping[str, Any]) -> X:
        """The `x` of a request's features. Raises RequestError, which names every violation."""
        return self._encode(check_question(self.spec, features))

    def _event(
        self, raw_key: bytes | None, roles: tuple[Any, ...], features: tuple[Any, ...]
    ) -> Event:
        key = roles[0]
        if type(key) is not str:
            key = str(key)
        if raw_key != key.encode():
            raise _key_error(raw_key, key, self._wants["key"])
        x: X = dict(zip(self._names, features)) if self._plain else self._encode(features)
        extreme = False
        if self._wide:
            for name in self._wide:
                number = x.get(name, 0.0)
                if number > EXTREME or number < -EXTREME:  # type: ignore[operator]
                    extreme = True
        event = Event(key, x, extreme=extreme)
        if len(roles) > 1:
            self._add_roles(event, roles)
        return event

    def _encode(self, values: tuple[Any, ...]) -> X:
        x: X = {}
        for value, (name, feature, place) in zip(values, self._rules, strict=True):
            if value is None:
                if feature.missing == "skip":
                    continue
                value = feature.default
            if feature.type == "category":
                if type(value) is not str:
                    value = str(value)
                if place is not None:
                    x[place(value)] = 1.0
                    continue
            x[name] = value
        return x

    def _add_roles(self, event: Event, roles: tuple[Any, ...]) -> None:
        for role, value in zip(self._roles[1:], roles[1:], strict=True):
            if value is None:
                continue
            if role == "label":
                kind = self._wants[role].kind
                if kind == "flag":
                    value = bool(value)
                elif kind == "text":
                    value = str(value)
                elif value > EXTREME or value < -EXTREME:
                    event.extreme = True
                if self._label_is_later:
                    event.later = value
                else:
                    event.y = value
            elif role == "time":
                event.time_ms = milliseconds(self._wants[role], value)
            elif role == "item":
                event.item = str(value)
            elif role == "setpoint":
                event.setpoint = value
            elif role == "candidates":
                event.candidates = tuple(str(item) for item in value)
            else:
                event.exclude = tuple(str(item) for item in value)

    def _look_again(self, raw: bytes, error: Exception) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Finds the reason why the typed decoder refused. Raises EventError, or returns the values
        if there is none: a null where an object belongs is like an absent object."""
        document = _parse(raw)
        if not isinstance(document, dict):
            raise EventError("not_an_object", "the event is not a JSON object")
        found: dict[str, Any] = {}
        for role, want in self._wants.items():
            value = lookup(document, want.path)
            if value is not MISSING:
                found[role] = checked(want, value)
            elif want.required:
                raise want.fail("missing", "is missing")
            else:
                found[role] = None
        if isinstance(error, msgspec.ValidationError | AttributeError):
            roles = tuple(found[role] for role in self._roles)
            return roles, tuple(found[f"features.{name}"] for name in self._names)
        raise EventError("bad_json", f"not JSON: {error}")


def _wants(spec: Spec) -> dict[str, Want]:
    """Everything that is read from an event, by role, in the order in which reasons are given."""
    key = parse_path(spec.source.key)
    wants = {"key": Want(name="key", path=key, kind="text", required=True, longest=MAX_KEY)}
    if spec.source.time is not None:
        path = parse_path(spec.source.time)
        wants["time"] = Want(name="time", path=path, kind="time", required=True)
    for name, feature in spec.features.items():
        wants[f"features.{name}"] = Want(
            name=name,
            path=parse_path(feature.path),
            kind="text" if feature.type == "category" else feature.type,
            required=feature.missing == "reject",
            low=feature.low,
            high=feature.high,
            longest=MAX_CATEGORY,
        )
    if spec.item is not None:
        item = parse_path(spec.item)
        wants["item"] = Want(
            name="item", path=item, kind="text", required=True, longest=MAX_CATEGORY
        )
    if spec.label is not None:
        wants["label"] = Want(
            name="label",
            path=parse_path(spec.label.path),
            kind={"category": "text", "boolean": "flag"}.get(spec.label.type, "number"),
            required=False,
            low=spec.label.low,
            high=spec.label.high,
            longest=MAX_CATEGORY,
        )
    decide = spec.decide
    if isinstance(decide, Adjust) and decide.setpoint_path is not None:
        path = parse_path(decide.setpoint_path)
        wants["setpoint"] = Want(
            name="setpoint", path=path, kind="number", required=True, low=-LARGEST, high=LARGEST
        )
    if isinstance(decide, Recommend):
        for role, text in (("candidates", decide.candidates), ("exclude", decide.exclude)):
            if text is not None:
                wants[role] = Want(
                    name=role,
                    path=parse_path(text),
                    kind="texts",
                    required=False,
                    longest=MAX_CATEGORY,
                )
    return wants


def _is_wide(feature: Feature) -> bool:
    return feature.type == "number" and (feature.low < -EXTREME or feature.high > EXTREME)


def _recheck(values: tuple[Any, ...], mixed: list[tuple[int, Want]]) -> tuple[Any, ...]:
    checked_values = list(values)
    for index, want in mixed:
        if values[index] is not None:
            checked_values[index] = checked(want, values[index])
        elif want.required:
            raise want.fail("missing", "is missing")
    return tuple(checked_values)


def _key_error(raw: bytes | None, key: str, want: Want) -> EventError:
    if not raw:
        return EventError("key_missing", "the record has no key")
    try:
        shown = raw[:64].decode()
    except UnicodeDecodeError:
        return EventError("bad_utf8", "the record's key is not UTF-8")
    return want.fail("key_mismatch", f"is {key[:64]!r}, but the record's key is {shown!r}")


def _parse(raw: bytes) -> Any:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise EventError("bad_utf8", f"not UTF-8 at byte {error.start}") from None
    try:
        # NaN, Infinity and endless digits come through as floats, so that their field is named.
        return json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise EventError("bad_json", f"not JSON: {error.msg} at character {error.pos}") from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else float(digits)
