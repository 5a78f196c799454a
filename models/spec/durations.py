"""Durations as people write them: a number and a unit, `250ms`, `30s`, `15m`, `2h`, `90d`."""

from __future__ import annotations

import re

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # milliseconds
LONGEST_MS = 36_500 * UNITS["d"]  # a hundred years: the bound of every duration in a spec

_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s?(ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """Milliseconds, rounded to the nearest. Raises ValueError for anything else than the above.

    >>> parse_duration("250ms"), parse_duration("1.5h"), parse_duration("90d")
    (250, 5400000, 7776000000)
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration")
    milliseconds = round(float(match[1]) * UNITS[match[2]])
    if milliseconds > LONGEST_MS:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return milliseconds


def format_duration(milliseconds: int) -> str:
    """The shortest exact way to write it: the largest unit that divides it.

    >>> format_duration(90_000), format_duration(7_776_000_000), format_duration(0)
    ('90s', '90d', '0s')
    """
    assert milliseconds >= 0
    if milliseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if milliseconds % UNITS[unit] == 0:
            return f"{milliseconds // UNITS[unit]}{unit}"
    return f"{milliseconds}ms"
