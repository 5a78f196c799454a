"""Reads one mapping of a spec field by field and collects what is wrong instead of stopping.

Order of calls: make one per mapping, take each field once, then `finish`, which names the fields
that nobody took. A take that finds a violation notes it and gives back the default (or None), so
that reading goes on and all violations come out at once.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from headrace.errors import Violation
from headrace.models.paths import format_path, parse_path
from headrace.models.spec.durations import parse_duration

FOR_NOW = "for now an agent reads one topic that is keyed by its key"

# Fields of constructs that are to come: whoever writes them knows what they want.
_ELSEWHERE = {"topics", "sources", "join", "joins", "rekey", "relay", "context", "lookup", "from"}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, else all of them if they are few."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 16 else ""


def shown(value: object) -> str:
    """A value as a short text for messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class FieldReader:
    """One mapping at `path`; violations go to the list that is handed in."""

    def __init__(self, data: object, path: str, found: list[Violation]) -> None:
        self.path = path
        self.found = found
        self.known: list[str] = []
        self.before = len(found)
        self.data: dict[str, Any] = {}
        if isinstance(data, dict):
            self.data = data
        else:
            self.note("", f"must be a mapping of fields, not {shown(data)}")

    @property
    def clean(self) -> bool:
        """Whether nothing was found since this reader was made."""
        return len(self.found) == self.before

    def note(self, name: str, text: str, hint: str = "") -> None:
        """Add a violation of the field `name`; of the mapping itself where it is empty."""
        self.found.append(Violation(f"{self.path}.{name}" if name else self.path, text, hint))

    def take(self, name: str) -> Any:
        """The raw value; None where it is absent or null."""
        self.known.append(name)
        return self.data.get(name)

    def need(self, name: str, hint: str = "") -> Any:
        """The raw value of a field that must be there."""
        value = self.take(name)
        if value is None and isinstance(self.data, dict):
            self.note(name, "is required", hint)
        return value

    def text(self, name: str, pattern: re.Pattern[str], meaning: str) -> str | None:
        """A string that the pattern matches whole; `meaning` says what it allows."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            self.note(name, f"{shown(value)} is not {meaning}")
            return None
        return value

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """One of the options."""
        value = self.take(name)
        if value is None:
            return default
        if value not in options:
            hint = did_you_mean(value, options) if isinstance(value, str) else ""
            self.note(name, f"{shown(value)} is not one of {', '.join(options)}", hint)
            return default
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.note(name, f"must be true or false, not {shown(value)}")
            return default
        return value

    def number(self, name: str, default: float | None, low: float = -math.inf) -> float | None:
        """A finite number, at least `low`."""
        value = self.take(name)
        if value is None:
            return default
        if not is_number(value):
            self.note(name, f"must be a number, not {shown(value)}")
            return default
        if value < low:
            self.note(name, f"{value} is below {low:g}")
            return default
        return float(value)

    def whole(self, name: str, default: int, bounds: tuple[int, int]) -> int:
        """A whole number within inclusive bounds."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.note(name, f"must be a whole number, not {shown(value)}")
            return default
        if not bounds[0] <= value <= bounds[1]:
            self.note(name, f"{value} is not within {bounds[0]}..{bounds[1]}")
            return default
        return value

    def duration(self, name: str, default: int | None, least: int = 1) -> int | None:
        """Milliseconds of a duration such as 30s."""
        value = self.take(name)
        if value is None:
            return default
        hint = "a number and a unit: 250ms, 30s, 15m, 2h, 90d"
        try:
            milliseconds = parse_duration(value if isinstance(value, str) else str(value))
        except ValueError as error:
            self.note(name, str(error), hint)
            return default
        if milliseconds < least:
            self.note(name, f"{value} is too short: at least {least}ms", hint)
            return default
        return milliseconds

    def field(self, name: str, value: Any) -> str | None:
        """The canonical text of a path that is already taken; None and a note if it is none."""
        if value is None:
            return None
        if not isinstance(value, str):
            self.note(name, f"must be a path such as $.a.b, not {shown(value)}")
            return None
        try:
            return format_path(parse_path(value))
        except ValueError as error:
            self.note(name, str(error))
            return None

    def finish(self) -> None:
        """Names every field that was not taken."""
        for name in self.data:
            if name in self.known:
                continue
            if name in _ELSEWHERE:
                self.note(name, FOR_NOW, "re-keying and joins come later")
            else:
                self.note(str(name), "unknown field", did_you_mean(str(name), self.known))


def is_number(value: object) -> TypeGuard[float]:
    """A finite int or float; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -1e308 <= value <= 1e308


def read_range(reader: FieldReader, name: str, default: tuple[float, float]) -> tuple[float, float]:
    """`[low, high]`, inclusive, low < high."""
    value = reader.take(name)
    if value is None:
        return default
    if not isinstance(value, list) or len(value) != 2 or not all(is_number(v) for v in value):
        reader.note(name, f"must be [low, high], not {shown(value)}")
        return default
    if not value[0] < value[1]:
        reader.note(name, f"low {value[0]} is not below high {value[1]}")
        return default
    return float(value[0]), float(value[1])
