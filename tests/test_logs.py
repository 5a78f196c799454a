"""The logs: one event a line, nothing forged, nothing lost."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from headrace.logs import fields, hashed, setup

log = logging.getLogger("headrace.test")


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(style: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    setup(level=level, style=style, stream=stream)
    return stream


def test_plain_line_has_event_and_fields() -> None:
    """A plain line is time, level, logger, event, then key=value; odd text is quoted."""
    stream = written("plain")
    log.info("shard.flushed", extra=fields(keys=3, ms=1.23456789, note="two words", empty=""))
    line = stream.getvalue().split(" ", 1)[1]
    expected = 'INFO headrace.test shard.flushed keys=3 ms=1.23457 note="two words" empty=""\n'
    assert line == expected
    assert stream.getvalue()[23] == "Z"


def test_json_line_has_event_and_fields() -> None:
    """A JSON line has the same; a field never replaces the time, level, logger or event."""
    stream = written("json")
    log.warning("shard.slow", extra=fields(ms=5, event="mine", what={1}))
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "headrace.test",
        "event": "shard.slow",
        "event_": "mine",
        "ms": 5,
        "what": "{1}",
    }


@pytest.mark.parametrize("style", ["plain", "json"])
def test_line_break_forges_no_line(style: str) -> None:
    """Whatever is in a name or a field, one event is one line."""
    stream = written(style)
    log.info("agent.\nforged", extra=fields(name="a\n2026-01-01T00:00:00.000Z INFO x y"))
    assert stream.getvalue().count("\n") == 1


def test_exception_is_written_with_its_event() -> None:
    """An exception's trace comes with the event, in JSON as a field."""
    stream = written("json")
    try:
        raise ArithmeticError("overflow")
    except ArithmeticError:
        log.exception("step.failed")
    assert "overflow" in json.loads(stream.getvalue())["error"]


def test_level_is_kept_and_chatty_libraries_are_quiet() -> None:
    """What is below the level is not written; libraries speak from warnings on."""
    stream = written("plain")
    log.debug("below")
    logging.getLogger("aiokafka.consumer").info("heartbeat")
    logging.getLogger("aiokafka.consumer").warning("rebalance")
    assert [line.split()[3] for line in stream.getvalue().splitlines()] == ["rebalance"]


def test_setup_again_replaces_the_first() -> None:
    """After a second set-up every event is written once, to the new stream."""
    first = written("plain")
    second = written("plain")
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_key_is_hashed() -> None:
    """A key in a log cannot be read back, and the same key looks the same."""
    assert hashed("ada") == hashed("ada") != hashed("bob")
    assert "ada" not in hashed("ada")
    assert len(hashed("ada")) == 12


def test_what_libraries_repeat_is_told_once() -> None:
    """A broker that is away fills no disk; other words, and our own, are told each time."""
    stream = written("plain")
    for number in range(100):
        logging.getLogger("aiokafka.client").error("Unable connect to node %s", number // 50)
        log.info("shard.flushed")
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "Unable" in line]) == 2
    assert len([line for line in lines if "shard.flushed" in line]) == 100


def test_what_faust_says_of_a_stop_is_left_out() -> None:
    """Its services come and go silently; being cancelled is no crash, anything else is one."""
    stream = written("plain")
    log.info("[^--FetchThread]: Starting...")
    for reason in (asyncio.CancelledError(), ValueError("odd")):
        try:
            raise reason
        except (asyncio.CancelledError, ValueError):
            log.exception("[^---AgentService: t]: Crashed reason=%r", reason)
    assert "Starting" not in stream.getvalue()
    assert "CancelledError" not in stream.getvalue()
    assert "Crashed reason=ValueError" in stream.getvalue()
