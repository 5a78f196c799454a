"""From a record's bytes to an event, or to the code of the reason why there is none."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Protocol

import msgspec

from tests.fold.oracle import REJECT, SKIP, Field, Oracle, Path, Truth

EVENT_BYTES_MAX = 1 << 20
DEPTH_MAX = 64
KEY_MAX = 512
TEXT_MAX = 256
EXTREME = 1e6
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(Protocol):
    """A record of a log; aiokafka's ConsumerRecord is one."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


class Refused(Exception):
    """The event goes to quarantine; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Event:
    """What the model sees of an event, and the value at the label's path."""

    key: str
    x: dict[str, Any]
    y: Any
    time_ms: int | None
    extreme: bool  # a number beyond ±1e6 is in it


def read(oracle: Oracle, record: Entry) -> Event:
    """The event of a record. Raises Refused."""
    raw = record.value
    if raw is None:
        raise Refused("null_value")
    if len(raw) > EVENT_BYTES_MAX:
        raise Refused("too_large")
    if depth(raw) > DEPTH_MAX:
        raise Refused("too_deep")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Refused("bad_utf8") from None
    return _event(oracle, record, parse(text), strict=is_json(raw))


def depth(raw: bytes) -> int:
    """How deep arrays and objects are nested, quoted brackets left out."""
    now = deepest = 0
    quoted = escaped = False
    for byte in raw:
        if quoted:
            quoted = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte == ord('"'):
            quoted = True
        elif byte in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif byte in b"]}":
            now -= 1
    return deepest


def is_json(raw: bytes) -> bool:
    """Whether it is JSON to the letter: Python lets NaN pass, among others."""
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def parse(text: str) -> Any:
    """The document, with NaN and endless digits as floats, so that their field can be named."""
    try:
        return json.loads(text, parse_int=_whole)
    except json.JSONDecodeError:
        raise Refused("bad_json") from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else float(digits)


def _event(oracle: Oracle, record: Entry, document: Any, *, strict: bool) -> Event:
    """The parts in the order in which the first wrong one is named."""
    if not isinstance(document, dict):
        raise Refused("not_an_object")
    key = _key(find(document, oracle.key), record)
    x: dict[str, Any] = {}
    extreme = False
    for field in oracle.features:
        value = find(document, field.path)
        if value is None:
            if field.missing == REJECT:
                raise Refused("missing")
            if field.missing == SKIP:
                continue
            value = field.missing
        value = sound(field, value)
        extreme = extreme or (field.type == "number" and abs(value) > EXTREME)
        x |= placed(field, value)
    y = None
    if oracle.label is not None:
        found = find(document, oracle.label.path)
        if found is not None:
            y = truth(oracle.label, found)
            extreme = extreme or (oracle.label.type == "number" and abs(y) > EXTREME)
    moment = None
    if oracle.time is not None:
        moment = find(document, oracle.time)
        if moment is None:
            raise Refused("missing")
        moment = milliseconds(moment)
    if not strict:
        raise Refused("bad_json")
    return Event(key, x, y, moment, extreme)


def find(document: Any, path: Path) -> Any:
    """What stands at the path; None for what is absent or null. Raises Refused."""
    for name in path:
        if not isinstance(document, dict):
            raise Refused("wrong_type")
        document = document.get(name)
        if document is None:
            return None
    return document


def _key(value: Any, record: Entry) -> str:
    if value is None:
        raise Refused("key_missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused("key_mismatch")
    text = _text(value, KEY_MAX)
    if not text:
        raise Refused("key_missing")
    if record.key == text.encode():
        return text
    if not record.key:
        raise Refused("key_missing")
    try:
        record.key.decode()
    except UnicodeDecodeError:
        raise Refused("bad_utf8") from None
    raise Refused("key_mismatch")


def sound(field: Field, value: Any) -> Any:
    """The value as its type has it. Raises Refused."""
    if field.type == "number":
        return _number(value, field.low, field.high)
    if field.type == "boolean":
        return value if isinstance(value, bool) else _wrong()
    return _text(value, TEXT_MAX)


def placed(field: Field, value: Any) -> dict[str, Any]:
    """How a value stands in `x`: a category by itself, as a name of its own, or as a bucket."""
    if field.type != "category" or field.encode == "value":
        return {field.name: value}
    if field.encode == "onehot":
        return {f"{field.name}={value}": 1.0}
    sum_of = zlib.crc32(value.encode(), zlib.crc32(field.name.encode()))
    return {f"{field.name}#{sum_of % field.buckets}": 1.0}


def truth(label: Truth, value: Any) -> Any:
    """The label as models learn it. Raises Refused."""
    if label.type == "number":
        return _number(value, label.low, label.high)
    if label.type == "category":
        return _text(value, TEXT_MAX)
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    return _wrong()


def milliseconds(value: Any) -> int:
    """Seconds, or milliseconds where they must be; or an RFC 3339 text. Raises Refused."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused("bad_time")
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Refused("bad_time") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - EPOCH) // timedelta(milliseconds=1)
    moment_ms = value if abs(value) > 1e11 else value * 1000
    if not -62_135_596_800_000 <= moment_ms <= 253_402_300_799_999:
        raise Refused("bad_time")
    return round(moment_ms)


def _number(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong()
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number != number or abs(number) == float("inf"):  # noqa: PLR0124 - NaN differs from itself
        raise Refused("not_finite")
    if not low <= number <= high:
        raise Refused("out_of_range")
    return number


def _text(value: Any, longest: int) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        _wrong()
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Refused("out_of_range")
        return str(value)
    if len(value) > longest:
        raise Refused("too_long")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("bad_utf8") from None
    return str(value)


def _wrong() -> NoReturn:
    raise Refused("wrong_type")
