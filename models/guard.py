"""What stands before every model: an event is exactly what the spec declares, or it is refused.

A good event costs one typed decode in C and little more. A bad one is looked at again, slowly, to
say why: the reason is one of `REASONS`, with the path of the field. Nothing that depends on the
machine, on the caller's stack or on the time of day decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.errors import EventError, RequestError, Violation
from headrace.models.depth import deeper_than
from headrace.models.features import EXTREME, Assembly, X
from headrace.models.paths import MISSING, format_path, lookup
from headrace.models.spec import Spec
from headrace.models.spec.field_reader import did_you_mean
from headrace.models.typed_reader import TypedReader
from headrace.models.wants import checked, milliseconds, wants_of
from headrace.ports import Record

MAX_EVENT_BYTES = 1 << 20
MAX_DEPTH = 64
LONG_LOOK_BYTES = 65_536  # beyond it NaN or endless digits in an event are told without the field

REASONS: Mapping[str, str] = {
    "null_value": "the record has no value",
    "unreadable": "a batch of records that no client can read",
    "too_large": f"the event has more than {MAX_EVENT_BYTES:,} bytes",
    "too_deep": f"the event is nested deeper than {MAX_DEPTH} levels",
    "bad_utf8": "a text is not UTF-8",
    "bad_json": "the event is not JSON",
    "not_an_object": "the event is JSON, but not an object",
    "key_missing": "the record has no key, or the event does not hold it; an empty one is none",
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
}
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Event(msgspec.Struct, gc=False):
    """An event as models and policies see it. `x` is in declared order and theirs to keep.

    `y` is the value at the label's path: the truth itself, or, of a label that comes later, what
    it is now. `extreme` says that a number beyond ±1e6 is in `x` or `y`.
    """

    offset: int
    key: str
    x: X
    y: float | str | bool | None = None
    extreme: bool = False
    item: str | None = None
    time_ms: int | None = None  # the event's own time; None where the spec reads none
    setpoint: float | None = None  # None where the spec reads none
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()


class Refusal(msgspec.Struct):
    """Why a record never reached the model, or was undone. `code` is one of `REASONS`."""

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
    >>> from types import SimpleNamespace
    >>> record = SimpleNamespace(offset=7, timestamp=0, key=b"4", value=b'{"id": 4, "power": 60}')
    >>> event = guard.admit(record)
    >>> event.key, event.x, event.y
    ('4', {'power': 60.0}, None)
    >>> record.value = b'{"id": 4, "power": 160}'
    >>> guard.admit(record)
    Refusal(offset=7, code='out_of_range', text='`power` is not within [0, 100]', path='$.power')
    """

    def __init__(self, spec: Spec) -> None:
        wants = wants_of(spec)
        self._features = {name: wants[f"features.{name}"] for name in spec.features}
        self._wants = tuple(wants.values())
        reader = TypedReader(self._wants)
        self._decode = reader.decode
        self._values = reader.values
        self._mixed = reader.mixed
        self._assembly = Assembly(spec.features)
        self._end = 1 + len(spec.features)  # of the key and the features
        self._label = wants["label"].kind if "label" in wants else None
        time_at = self._end + ("label" in wants)
        self._time = wants.get("time")
        self._setpoint = wants.get("setpoint")
        self._time_at = time_at
        others = tuple(wants)[time_at + ("time" in wants) :]
        self._others = tuple((role, len(wants) - len(others) + i) for i, role in enumerate(others))

    def admit(self, record: Record) -> Event | Refusal:
        """The event, or why there is none. Never raises, whatever the bytes."""
        try:
            raw = record.value
            if raw is None or len(raw) > MAX_EVENT_BYTES or deeper_than(raw, MAX_DEPTH):
                return _unread(record)
            if not raw.isascii():
                _text(raw)  # the decoder passes over fields that nobody reads, whatever they hold
            try:
                values = self._values(self._decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as error:
                values = self._look_again(record, raw, error)
            if self._mixed:
                values = self._recheck(record, values)
            key = values[0]
            if key.__class__ is not str:
                key = str(key)
            if not key or record.key != key.encode():
                self._check_key(record, key)
            end = self._end
            x, extreme = self._assembly.assemble(values[1:end])
            event = Event(record.offset, key, x, None, extreme)
            if self._label is not None and (y := values[end]) is not None:
                if self._label == "flag":
                    event.y = y == 1  # true and false, 1 and 0
                elif self._label == "text":
                    event.y = str(y)
                else:
                    event.y = y
                    event.extreme = extreme or not -EXTREME <= y <= EXTREME
            if self._time is not None:
                event.time_ms = milliseconds(self._time, values[self._time_at])
            if self._others:
                self._add_others(event, values)
        except EventError as error:
            return Refusal(record.offset, error.code, error.text, error.path)
        return event

    def question(self, features: Mapping[str, Any], setpoint: float | None = None) -> X:
        """The `x` of a request's features, by the rules for events; the set-point must be there
        where events bring one.

        Raises RequestError with every violation; its code is the first one's: unknown_feature,
        missing_feature, wrong_type, not_finite, out_of_range, too_long or bad_utf8.
        """
        found: list[tuple[str, Violation]] = []
        for name in features:
            if name not in self._features:
                text = f"the agent has no feature `{name}`"
                hint = did_you_mean(name, self._features)
                found.append(("unknown_feature", Violation(f"features.{name}", text, hint)))
        values: list[Any] = []
        for name, want in self._features.items():
            value = features.get(name)
            try:
                values.append(None if value is None else checked(want, value))
                if value is None and want.required:
                    raise want.fail("missing_feature", "is missing")
            except EventError as error:
                found.append((error.code, Violation(f"features.{name}", error.text)))
        if setpoint is None and self._setpoint is not None:
            where = format_path(self._setpoint.path)
            text = f"the set-point is missing: give it as `setpoint` (events have it at {where})"
            found.append(("missing_feature", Violation("setpoint", text)))
        if found:
            text = "; ".join(violation.text for _, violation in found)
            raise RequestError(found[0][0], text, violations=[v for _, v in found])
        return self._assembly.assemble(tuple(values))[0]

    def _add_others(self, event: Event, values: tuple[Any, ...]) -> None:
        for role, index in self._others:
            value = values[index]
            if role == "item":
                event.item = str(value)
            elif role == "setpoint":
                event.setpoint = value
            elif role == "candidates":
                event.candidates = None if value is None else tuple(map(str, value))
            else:
                event.exclude = tuple(map(str, value or ()))

    def _recheck(self, record: Record, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Checks what the decoder has taken as it came."""
        rechecked = list(values)
        for index in self._mixed:
            want = self._wants[index]
            if values[index] is not None:
                rechecked[index] = checked(want, values[index])
            elif want.required:
                raise want.missing()
            if index == 0:
                self._check_key(record, rechecked[0])
        return tuple(rechecked)

    def _look_again(self, record: Record, raw: bytes, error: Exception) -> tuple[Any, ...]:
        """Raises EventError with the reason why the typed decoder refused.

        Returns the values where there is none: a null in an object's place is an absent object.
        """
        document = _parse(raw) if len(raw) <= LONG_LOOK_BYTES else self._skim(raw)
        if not isinstance(document, dict):
            raise EventError("not_an_object", "the event is not a JSON object")
        values: list[Any] = []
        for want in self._wants:
            try:
                value = lookup(document, want.path)
            except TypeError as wrong:
                raise want.fail("wrong_type", f"cannot be read: {wrong}") from None
            if value is MISSING:
                if want.required:
                    raise want.missing()
                values.append(None)
                continue
            values.append(checked(want, value))
            if len(values) == 1:  # a wrong key tells more than what else is wrong
                self._check_key(record, values[0])
        if not isinstance(error, (msgspec.ValidationError, AttributeError)):
            # Python's parser is lenient: NaN or half a surrogate pair in a field that nobody reads.
            raise EventError("bad_json", f"not JSON: {error}")
        # A null where an object may be missing stops the decoder before it has seen the rest.
        try:
            msgspec.json.decode(raw, type=msgspec.Raw)
        except msgspec.DecodeError as wrong:
            raise EventError("bad_json", f"not JSON: {wrong}") from None
        return tuple(values)

    def _skim(self, raw: bytes) -> Any:
        """A large document's fields that somebody wants; to read all of it might take seconds."""
        try:
            fields = _FIELDS.decode(raw)
            wanted = {want.path[0] for want in self._wants} & fields.keys()
            return {name: msgspec.json.decode(fields[name]) for name in wanted}
        except msgspec.ValidationError:
            return None  # no object
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EventError("bad_json", f"not JSON: {error}") from None

    def _check_key(self, record: Record, key: str | int) -> None:
        """Raises EventError unless the record has the event's key as text, and it is not empty."""
        if key == "":
            raise self._wants[0].fail("key_missing", "is empty")
        if record.key == str(key).encode():
            return
        if not record.key:
            raise EventError("key_missing", "the record has no key")
        try:
            theirs = record.key.decode()[:64]
        except UnicodeDecodeError:
            raise EventError("bad_utf8", "the record's key is not UTF-8") from None
        text = f"is {str(key)[:64]!r}, but the record's key is {theirs!r}"
        raise self._wants[0].fail("key_mismatch", text)


def _unread(record: Record) -> Refusal:
    raw = record.value
    if raw is None:
        unreadable = getattr(record, "unreadable", None)  # it stands for a batch of records
        if unreadable is not None:
            return Refusal(record.offset, "unreadable", unreadable)
        return Refusal(record.offset, "null_value", REASONS["null_value"])
    if len(raw) > MAX_EVENT_BYTES:
        text = f"the event has {len(raw):,} bytes; at most {MAX_EVENT_BYTES:,} are read"
        return Refusal(record.offset, "too_large", text)
    return Refusal(record.offset, "too_deep", REASONS["too_deep"])


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise EventError("bad_utf8", f"not UTF-8 at byte {error.start}") from None


def _parse(raw: bytes) -> Any:
    text = _text(raw)
    try:
        # NaN, Infinity and endless digits come through as floats, so that their field is named.
        return json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise EventError("bad_json", f"not JSON: {error.msg} at character {error.pos}") from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else float(digits)
