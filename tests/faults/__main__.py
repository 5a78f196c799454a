"""`make faults`: a kill and disk errors at every system call of what makes state durable.

Then the order of the calls is looked at, each protection is switched off in turn, which must be
missed, and repositories are damaged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.forks import Forks, forks
from tests.faults.mutated import Mutated
from tests.faults.operations import OPERATIONS
from tests.faults.order import broken, needless
from tests.faults.protections import PROTECTIONS
from tests.faults.strike import NoTracing, Range
from tests.faults.sweep import ERRORS, errors, kills, missed
from tests.state.kept import Kept, mutate

MUTATIONS = 10_000
STARTS = 1_000
"""Of damaged repositories over which a worker's parts start; those above are restored only."""
SEED = 1
_TOLD_MAX = 20
_PARTS = ("kills", "errors", "order", "protections", "mutations")


class Lane:
    """All parts; each prints its table. What is broken is in `broken`."""

    def __init__(self, server: Forks, where: Path, asked: argparse.Namespace) -> None:
        self.broken: list[str] = []
        self.console = Console(width=120)
        self._server = server
        self._where = where
        self._operations: list[str] = asked.operations or list(OPERATIONS)
        self._every: int = asked.every

    def kills(self) -> None:
        """A kill at each point of each operation."""
        self._swept(["kill"])

    def errors(self) -> None:
        """An error instead of each write and each sync."""
        self._swept(list(ERRORS))

    def order(self) -> None:
        """Whether a power cut would find each name with its data, and which syncs that needs."""
        table = Table("operation", "syncs", "missed if left out", "not missed here")
        for name in self._operations:
            range_ = Range(self._server, self._where, name)
            trace, root = range_.trace(), str(range_.root)
            self.broken += [f"{name}: {text}" for text in broken(trace, root)]
            syncs, spare = needless(trace, root)
            table.add_row(name, str(syncs), str(syncs - len(spare)), str(len(spare)))
        self.console.print(table)

    def protections(self) -> None:
        """Without each of them something must be broken."""
        table = Table("without", "in", "seen by", "first seen")
        for name, protection in PROTECTIONS.items():
            struck, found = missed(self._server, self._where, name)
            by = f"kill {struck}" if protection.calls else "order"
            told = found[0].replace(f"{self._where}/", "") if found else "NEVER"
            table.add_row(name, protection.operation, by, told)
            if not found:
                self.broken.append(f"nobody misses that {name}")
        self.console.print(table)

    def mutations(self) -> None:
        """Of repositories: restored, and started over."""
        kept = Kept(self._where)
        draft = self._where / "draft"
        restored = mutate(kept, max(1, MUTATIONS // self._every), draft, SEED)
        started = Mutated(self._where).mutate(max(1, STARTS // self._every), SEED)
        table = Table("damage", "to a", "refused", "refused at a start, said, counted")
        for kind, file in sorted(restored | started):
            table.add_row(kind, file, str(restored[kind, file]), str(started[kind, file]))
        table.add_row("all", "", str(restored.total()), str(started.total()))
        self.console.print(table)

    def _swept(self, faults: list[str]) -> None:
        columns = ("points", "all old", "all new", "older", "said", "did not come", "broken")
        table = Table("operation", "fault", *columns, "s")
        for name in self._operations:
            range_ = Range(self._server, self._where, name)
            points = range_.points()[:: self._every]
            for fault in faults:
                began = time.monotonic()
                sweep = kills(range_, points) if fault == "kill" else errors(range_, points, fault)
                swept = deque(sweep, maxlen=1).pop()
                counts = [swept.struck, swept.old, swept.new, swept.older, swept.said]
                counts += [swept.missed, len(swept.broken), round(time.monotonic() - began)]
                table.add_row(name, fault, *map(str, counts))
                self.console.print(name, fault, *counts)
                self.broken += [f"{name}: {text}" for text in swept.broken]
        self.console.print(table)


def main() -> int:
    """Show what it came to; 0 if nothing is broken and every protection is missed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("operations", nargs="*", help=", ".join(OPERATIONS))
    parser.add_argument("--part", choices=_PARTS, action="append", help="default: all")
    parser.add_argument("--every", type=int, default=1, help="strike at each n-th point only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-faults-") as directory, forks() as server:
        lane = Lane(server, Path(directory), asked)
        try:
            for part in asked.part or _PARTS:
                getattr(lane, part)()
        except NoTracing as error:
            lane.console.print(f"skipped: {error}")
            return 0
    for text in lane.broken[:_TOLD_MAX]:
        lane.console.print(text, markup=False)
    lane.console.print(f"{len(lane.broken)} broken")
    return int(bool(lane.broken))


if __name__ == "__main__":
    sys.exit(main())
