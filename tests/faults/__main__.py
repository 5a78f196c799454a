"""`make faults`: a kill and disk errors at every system call of what makes state durable.

Then each protection is switched off in turn, and the sweep must notice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.forks import Forks, forks
from tests.faults.operations import OPERATIONS
from tests.faults.strike import NoTracing, Range
from tests.faults.sweep import ERRORS, Swept, errors, kills

NOTICED = {
    "the manifest comes after its files": "snapshot",
    "the catalogue vouches for what is there": "snapshot",
    "the effect is read back first": "revert",
}
"""Protections of which a kill shows that they are missed, and in which operation."""
_TOLD_MAX = 20


def main() -> int:
    """Sweep, and show what it came to; 0 if nothing is broken and all that is missed is noticed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("operations", nargs="*", help=", ".join(OPERATIONS))
    parser.add_argument("--kills-only", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="strike at each n-th point only")
    asked = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="headrace-faults-") as directory, forks() as server:
        try:
            table, broken = _swept(server, Path(directory), asked, console)
        except NoTracing as error:
            console.print(f"skipped: {error}")
            return 0
    console.print(table)
    for text in broken[:_TOLD_MAX]:
        console.print(text, markup=False)
    return int(bool(broken))


def _swept(
    server: Forks, where: Path, asked: argparse.Namespace, console: Console
) -> tuple[Table, list[str]]:
    table = Table("operation", "fault", "points", "all old", "all new", "said", "missed", "broken")
    broken: list[str] = []

    def row(name: str, fault: str, sweep: Iterator[Swept]) -> None:
        swept = deque(sweep, maxlen=1).pop()
        counts = (swept.struck, swept.old, swept.new, swept.said, swept.missed, len(swept.broken))
        table.add_row(name, fault, *map(str, counts))
        console.print(name, fault, *counts)
        broken.extend(f"{name}: {text}" for text in swept.broken)

    for name in asked.operations or OPERATIONS:
        range_ = Range(server, where, name)
        points = range_.points()[:: asked.every]
        row(name, "kill", kills(range_, points))
        for error in () if asked.kills_only else ERRORS:
            row(name, error, errors(range_, points, error))
    for protection, name in {} if asked.operations else NOTICED.items():
        noticed = unnoticed = Swept()
        range_ = Range(server, where, name, without=protection)
        for unnoticed in kills(range_, range_.points()):
            if unnoticed.broken:
                noticed = unnoticed
                break
        table.add_row(f"{name}, not: {protection}", "kill", str(noticed.struck), *[""] * 5)
        console.print(name, "without", protection, noticed.broken[:1], markup=False)
        if not noticed.broken:
            broken.append(f"{name}: nobody notices that {protection} is off")
    return table, broken


if __name__ == "__main__":
    sys.exit(main())
