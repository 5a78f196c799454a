"""`make simulate`: a thousand worlds with a table of what was in them, or one seed alone."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.simulation.world import Outcome, run

WORLDS = 1_000


def main(seeds: list[int]) -> int:
    """Live through the worlds of these seeds; 1 if a law was broken in any."""
    console = Console()
    outcomes = []
    for seed in track(seeds, description="worlds", console=console, disable=len(seeds) == 1):
        outcome = run(seed)
        outcomes.append(outcome)
        for problem in outcome.problems:
            console.print(f"[red]seed {seed}[/]: {problem}", highlight=False, soft_wrap=True)
    console.print(_table(outcomes))
    broken = [outcome.seed for outcome in outcomes if outcome.problems]
    for seed in broken[:10]:
        console.print(f"replay alone: make simulate SEED={seed}", highlight=False)
    console.print(f"{len(outcomes):,} worlds, {len(broken)} with a broken law")
    return 1 if broken else 0


def _table(outcomes: list[Outcome]) -> Table:
    """How many worlds had it, and how often it was there in all."""
    worlds, times = Counter[str](), Counter[str]()
    for outcome in outcomes:
        worlds.update(name for name, count in outcome.counts.items() if count)
        times.update(outcome.counts)
    table = Table("in the worlds", "worlds with it", "times")
    for name in sorted(times):
        table.add_row(name, f"{worlds[name]:,}", f"{times[name]:,}")
    return table


if __name__ == "__main__":
    if not all(seed.isdecimal() for seed in sys.argv[1:]):
        sys.exit(f"a seed is a whole number, not {' '.join(sys.argv[1:])}: make simulate SEED=7")
    sys.exit(main([int(seed) for seed in sys.argv[1:]] or list(range(WORLDS))))
