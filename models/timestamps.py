"""Points in time as producers write them, as milliseconds since 1970 (UTC).

A number is seconds, unless its size says milliseconds: above 1e11 (the year 5138 in seconds, 1973
in milliseconds). Microseconds and nanoseconds land beyond the year 9999 and are refused.
"""

from __future__ import annotations

import datetime as dt

import msgspec

MILLISECONDS_ABOVE = 1e11
EARLIEST_MS = -62_135_596_800_000  # year 1
LATEST_MS = 253_402_300_799_999  # year 9999

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)


def to_milliseconds(value: float | str) -> int:
    """Raises ValueError with a reason.

    >>> to_milliseconds(1_700_000_000), to_milliseconds(1_700_000_000_000)
    (1700000000000, 1700000000000)
    >>> to_milliseconds("2023-11-14T22:13:20Z")
    1700000000000
    """
    if isinstance(value, str):
        return parse_rfc3339(value)
    milliseconds = value if abs(value) > MILLISECONDS_ABOVE else value * 1000
    if not EARLIEST_MS <= milliseconds <= LATEST_MS:  # NaN fails this, too
        raise ValueError(f"{value!r} is no time: give seconds or milliseconds since 1970")
    return round(milliseconds)


def parse_rfc3339(text: str) -> int:
    """Milliseconds of a timestamp such as `2024-01-31T09:30:00.5+01:00`; without offset: UTC."""
    try:
        moment = msgspec.convert(text, dt.datetime)
    except msgspec.ValidationError:
        raise ValueError(
            f"{text[:64]!r} is no RFC 3339 timestamp such as 2024-01-31T09:30:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // _MILLISECOND
