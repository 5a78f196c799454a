"""Paths into a JSON document: `$.a.b`, and `$['odd name'].b` where a name is not a plain word.

A path names fields of objects only. Positions in arrays cannot be named: which feature a number
is would then depend on its place in a list.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]

MAX_STEPS = 16

_PLAIN = re.compile(r"[^\s.\[\]'\"$*?@,:()]+")
_UNREADABLE = re.compile(r'[\x00-\x1f"\\]')  # the decoder takes no fields of such names
_STEP = re.compile(r"\.([^\s.\[\]'\"$*?@,:()]+)|\['((?:[^'\\]|\\['\\])+)'\]")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()  # what `lookup` finds where there is nothing, or null


def parse_path(text: str) -> Path:
    r"""The names on the way. Raises ValueError with a reason that a person can act on.

    >>> parse_path("$.card.id")
    ('card', 'id')
    >>> parse_path(r"$['it\'s'].x")
    ("it's", 'x')
    """
    if not text.startswith("$"):
        raise ValueError(f"a path starts with '$.': write $.{text}")
    steps: list[str] = []
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(_complaint(text[position:]))
        plain, quoted = match.groups()
        steps.append(plain if plain is not None else re.sub(r"\\(.)", r"\1", quoted))
        position = match.end()
    if not steps:
        raise ValueError("the path names no field: write $.<name>")
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a path has at most {MAX_STEPS} steps")
    if any(_UNREADABLE.search(step) for step in steps):
        raise ValueError('a name in a path holds no ", no \\ and no control character')
    return tuple(steps)


def _complaint(rest: str) -> str:
    if re.match(r"\[(\d+|\*)\]", rest):
        return "positions in arrays cannot be read: a path names fields only, as in $.a.b"
    return f"cannot read {rest[:40]!r}: a path is $.a.b, or $['odd name'] for other names"


def format_path(path: Path) -> str:
    """The canonical text of a path: `parse_path` gives it back.

    >>> format_path(("a", "petal length"))
    "$.a['petal length']"
    """
    steps = []
    for name in path:
        if _PLAIN.fullmatch(name):
            steps.append(f".{name}")
        else:
            quoted = name.replace("\\", "\\\\").replace("'", "\\'")
            steps.append(f"['{quoted}']")
    return "$" + "".join(steps)


def lookup(document: object, path: Path) -> object:
    """What stands at the path; `MISSING` where an object, a field or a value is absent or null.

    Raises TypeError where something else stands in an object's place.

    >>> lookup({"a": {"b": 1}}, ("a", "b")), lookup({"a": None}, ("a", "b"))
    (1, MISSING)
    """
    for step, name in enumerate(path):
        if not isinstance(document, dict):
            raise TypeError(f"{format_path(path[:step])} is not an object")
        document = document.get(name)
        if document is None:
            return MISSING
    return document
