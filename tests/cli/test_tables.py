"""Tables whose cells are sentences, on terminals of some widths."""

from __future__ import annotations

import io
import re
from typing import cast

import pytest
import rich.console
from rich.text import Text

from headrace.cli import console

WHY = "the pipeline's second step has a field that this River does not have, so it must refold"


def shown(columns: tuple[str, ...], row: tuple[str, ...], width: int) -> str:
    """The table as it is read."""
    terminal = rich.console.Console(file=io.StringIO(), width=width, force_terminal=True)
    console.grid(columns, [row], on=cast(console.Console, terminal))
    return Text.from_ansi(terminal.file.getvalue()).plain  # type: ignore[attr-defined]


@pytest.mark.parametrize("why", [WHY, f"{WHY}\n{WHY}"])
@pytest.mark.parametrize("width", [120, 100, 60])
def test_sentences_fold_before_a_table_becomes_blocks(width: int, why: str) -> None:
    """Be there one or several in a cell: none takes the room of the other columns. 60 are too few
    for the words of five columns, and the cells are read all the same.
    """
    columns = ("agent", "state written with", "here", ">events to learn again", "why")
    text = shown(columns, ("card-fraud", "River 0.22", "must refold", "all", why), width)
    row = re.search(r"^ ?card-fraud +River 0\.22 +must", text, re.MULTILINE)
    assert (row is not None) == (width > 60), text
    assert text.count("refold") == 1 + why.count("refold")


@pytest.mark.parametrize("width", [100, 20])
def test_a_colour_may_span_the_lines_of_a_cell(width: int) -> None:
    """In a table and in blocks: each line is read as it would be without colours."""
    text = shown(("agent", "metric"), ("card-fraud", "[red]F1 0.84\nROCAUC 0.92[/]"), width)
    lines = [line.split() for line in text.splitlines()]
    assert "ROCAUC 0.92" in text
    assert [line[-2:] for line in lines if "F1" in line] == [["F1", "0.84"]]
