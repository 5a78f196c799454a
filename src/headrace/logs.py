"""Logs: a constant event name with fields, for people or as JSON lines.

Every module has `log = logging.getLogger(__name__)` and writes

    log.info("shard.flushed", extra=fields(agent=name, keys=120, ms=3.2))

The event name is constant, so that it can be counted; what varies is in the fields. Payloads of
events never go into a log, and a key only as `hashed(key)`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from datetime import UTC, datetime
from typing import TextIO

_PLAIN = re.compile(r"[^\s\"=\x00-\x1f\x7f]+")
# `[^--FetchThread]: Starting...`: depth and name of a service of Faust.
_OF_FAUST = re.compile(r"\[\^-*[\w-]")
_REPEAT_S = 10.0  # until the same words of a library are told once more
_REPEATS_MAX = 256  # of them are remembered
_TEXT_MAX = 2_000  # characters of one value
# Libraries that tell every heartbeat at INFO: of them only warnings, unless debugging.
_CHATTY = ("aiokafka", "faust", "mode", "asyncio", "grpc")


def setup(*, level: str, style: str, stream: TextIO | None = None) -> None:
    """Send the process's logs to `stream` (default: standard error). Later calls replace it.

    `level`: debug, info, warning or error. `style`: plain (one line of text) or json (one object
    a line).
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    if level != "debug":
        handler.addFilter(_worth_telling)
        handler.addFilter(_Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def fields(**values: object) -> dict[str, object]:
    """What goes into `extra=`: the event's fields.

    >>> fields(agent="a", keys=3)
    {'fields': {'agent': 'a', 'keys': 3}}
    """
    return {"fields": values}


def hashed(key: str) -> str:
    """A key as it may stand in a log: 12 hexadecimal digits of its SHA-256.

    The same key gives the same digits, so one can look for a key that one knows. It is no secret
    to whoever can list all keys.

    >>> hashed("card-4711")
    '51e713be75e5'
    """
    return hashlib.sha256(key.encode("utf-8")).hexdigest()[:12]


class PlainFormatter(logging.Formatter):
    """`2026-11-23T12:00:00.123Z INFO headrace.state.store event.name key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        head = (_moment(record), record.levelname, record.name, _flat(record.getMessage()))
        parts = [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        line = " ".join((*head, *parts))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object: `time`, `level`, `logger`, `event`, the fields, and `error` if any.

    A field that has the name of one of these is written with an underscore behind it.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        for name, value in _fields(record).items():
            line[f"{name}_" if name in line else name] = value
        return json.dumps(line, ensure_ascii=False, default=str)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Not the comings and goings of Faust's services, which log under our modules' names too.

    Nor that one of them "crashed" because it was cancelled: that is how Faust stops what reads
    when a worker goes down, and the worker has said why.
    """
    if not _OF_FAUST.match(str(record.msg)):
        return True
    cancelled = record.exc_info is not None and record.exc_info[0] is asyncio.CancelledError
    return record.levelno >= logging.WARNING and not cancelled


class _Repeats(logging.Filter):
    """What a library says again and again in the same words is told every ten seconds.

    aiokafka tells a hundred times a second that a broker is away.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _CHATTY:
            return True
        what = (record.name, record.getMessage())
        if record.created - self._told.get(what, float("-inf")) < _REPEAT_S:
            return False
        if len(self._told) >= _REPEATS_MAX:
            self._told.clear()
        self._told[what] = record.created
        return True


def _fields(record: logging.LogRecord) -> dict[str, object]:
    values = getattr(record, "fields", None)
    return values if isinstance(values, dict) else {}


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _flat(text: str) -> str:
    """One line, whatever is in it: nobody forges a log line with a line break in a name."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX] + "…"
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
