"""Where the command line speaks: results on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TextIO, cast

import msgspec
import rich.box
import rich.console
import yaml
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 200
"""Columns where no terminal says how many there are: tables then fold late, and greps find."""
WHOLE_LINE_MAX = 40
"""Cells of a line with spaces that is not to be broken. A longer one is a sentence, and folds: it
would leave the other columns no room.
"""


class Console(rich.console.Console):
    """Colours and spinners for terminals only; a reader that has gone ends the command quietly."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else WIDTH_OF_A_PIPE
        super().__init__(stderr=stderr, width=width, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich itself would leave the process from here


out = Console()
err = Console(stderr=True)


def say(text: str = "") -> None:
    """A line of rich markup as a result. The terminal breaks it, not we: it can be copied whole."""
    out.print(text, soft_wrap=True)


def as_json(value: Any) -> None:
    """One JSON document on one line, as it is needed by the next program in a pipe."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def as_yaml(value: Any) -> None:
    """Nested data for people; a spec shown like this can be deployed as it stands."""
    width = min(out.width, 100)
    text = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=None, allow_unicode=True, width=width
    )
    out.print(escape(text), end="", soft_wrap=True)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner beside `text` while something takes its time; nothing where no terminal is."""
    if not err.is_terminal:
        yield
        return
    with err.status(text):
        yield


class StandardError:
    """Standard error as it is at the moment of writing: a spinner moves aside for a log line."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    @classmethod
    def stream(cls) -> TextIO:
        """For `logging`, which asks for no more than these two."""
        return cast("TextIO", cls())


def grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    on: Console | None = None,
) -> None:
    """Rows of rich markup under their columns; `>` before a column's name sets it to the right.

    Where the terminal is too narrow for that, each row becomes a block of lines `column  value`.
    `on`: where it is shown; None: as a result.
    """
    on = on or out
    table = Table(box=None, title=title or None)
    if on.is_terminal:
        table.box, table.padding = rich.box.SIMPLE_HEAD, (0, 1, 0, 0)
    for number, column in enumerate(columns):
        name = column.removeprefix(">")
        side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        whole = _whole([name, *(row[number] for row in rows)])
        # What is cut cannot be copied.
        table.add_column(name, justify=side, overflow="fold", no_wrap=bool(whole), min_width=whole)
    for row in rows:
        table.add_row(*row)
    if _fits(table, on):
        on.print(table)
        return
    names = [column.removeprefix(">") for column in columns]
    width = max(len(name) for name in names)
    for row in rows:
        for name, value in zip(names, row, strict=True):
            for number, line in enumerate(_lines(value)):
                left = "" if number else name
                on.print(Text.assemble((f"{left:<{width}}", "dim"), "  ", line))
        on.print()


def _whole(cells: Sequence[str]) -> int | None:
    r"""How wide a column is that must not be broken: of single words, which are to be copied, or of
    short lines that stand beside those of another. None: it is of sentences. The name comes first.

    >>> _whole(["id", "[bold]a-1[/]"]), _whole(["metric", "F1 0.9\nROCAUC 0.97"])
    (3, 11)
    >>> _whole(["keys", "1 of 3"])
    >>> _whole(["why", "[red]the state has a field that is not known here\nand lacks another[/]"])
    """
    lines = [line for cell in cells for line in _lines(cell)]
    spaced = [line.cell_len for line in lines[1:] if " " in line.plain]
    if spaced and (len(lines) == len(cells) or max(spaced) > WHOLE_LINE_MAX):
        return None
    return max(line.cell_len for line in lines)


def _lines(cell: str) -> list[Text]:
    """The lines of a cell, each in its colours; a tag may span several."""
    return list(Text.from_markup(cell).split("\n"))


def _fits(table: Table, on: Console) -> bool:
    """Whether no word would have to be cut."""
    wide = on.options.update(max_width=10_000, width=10_000)
    return Measurement.get(on, wide, table).minimum <= on.width
