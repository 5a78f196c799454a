"""Points in time as people write them: a date and a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import typer

from headrace.errors import RequestError

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # milliseconds

_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s?([smhd])")


def time_option(name: str, about: str, panel: str | None = None) -> Any:
    """An option that takes a TIME."""
    return typer.Option(
        None, name, metavar="TIME", help=about, show_default=False, rich_help_panel=panel
    )


def since_1970(text: str | None, now_s: float) -> int | None:
    """Milliseconds since 1970, of nothing None. `now_s`: what o'clock it is, seconds since 1970.

    >>> since_1970("2023-11-14T22:13:20Z", 0.0), since_1970("1.5h", 1_700_005_400.0)
    (1700000000000, 1700000000000)

    Raises RequestError.
    """
    if text is None:
        return None
    match = _AGO.fullmatch(text)
    if match is not None:
        at = round(now_s * 1000 - float(match[1]) * UNITS[match[2]])
    else:
        at = _read(text)
    if at < 0:
        raise RequestError("invalid_request", f"{text!r} is before 1970")
    return at


def _read(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(zoned.timestamp() * 1000)
    except (ValueError, OverflowError):
        words = f"{text!r} is no time: give one such as 2026-03-01T14:07Z, or how long ago: 10m"
        raise RequestError("invalid_request", words) from None
