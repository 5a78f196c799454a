"""How many of what, for people."""

from __future__ import annotations

ARE, HAVE, WERE = ("is", "are"), ("has", "have"), ("was", "were")


def counted(number: int, what: str, verb: tuple[str, str] | None = None) -> str:
    """`what`: of one; its plural has an s. `verb`: of one and of many.

    >>> counted(1, "event"), counted(2_000, "event", HAVE), counted(0, "record of the log")
    ('1 event', '2,000 events have', '0 records of the log')
    """
    noun, space, rest = what.partition(" ")
    said = f"{number:,} {noun}{'' if number == 1 else 's'}{space}{rest}"
    return said if verb is None else f"{said} {verb[number != 1]}"
