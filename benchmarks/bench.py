"""`make bench`: how quick Headrace is, beside River alone, in one run on the same events.

One table for people, flat JSON in `benchmarks/out/bench.json`; the exit code is 1 if a gate is
missed, and an aim that is not reached yet is only shown. `python -m benchmarks.bench end_to_end`
runs that part alone and writes no JSON. The profiles say where the time of one event goes, and are
run by name only. docs/performance.md says what the figures mean.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.endtoend import end_to_end, end_to_end_cold, end_to_end_kafka
from benchmarks.gates import Gate, flat, table, write
from benchmarks.increments import increments
from benchmarks.loop import loop
from benchmarks.memory import memory
from benchmarks.past import past
from benchmarks.place import Place
from benchmarks.plainfaust import plain_faust
from benchmarks.processes import OTHER, tie
from benchmarks.profile import profile, profile_cold, profile_kafka
from benchmarks.rollback import rollback
from benchmarks.serving import predict, recommend

from headrace import logs
from headrace.cli.console import Console
from headrace.clock import SystemClock
from headrace.config import hash_seed
from headrace.errors import HeadraceError

QUIET = 0.9  # of the core, which the bare loop never leaves by itself
PARTS: dict[str, Callable[[Place], Awaitable[list[Gate]]]] = {
    "end_to_end": end_to_end,
    "plain_faust": plain_faust,
    "end_to_end_kafka": end_to_end_kafka,
    "end_to_end_cold": end_to_end_cold,
    "predict": predict,
    "recommend": recommend,
    "memory": memory,
    "loop": loop,
    "increments": increments,
    "rollback": rollback,
    "past": past,
}
PROFILES: dict[str, Callable[[Place], Awaitable[list[Gate]]]] = {
    "profile": profile,
    "profile_kafka": profile_kafka,
    "profile_cold": profile_cold,
}
"""Parts that are run by name only."""


async def measure(console: Console, parts: Sequence[str]) -> list[Gate]:
    """The gates of these parts, one part after the other. One that breaks is a missed gate."""
    clock, gates = SystemClock(), list[Gate]()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        place = Place(Path(scratch), console)
        for part in parts:
            since = clock.monotonic()
            try:
                with console.status(part):
                    gates += await (PARTS | PROFILES)[part](place)
            except HeadraceError as error:
                gates.append(Gate(f"{part}.ran", 0, "=", 1, str(error)))
            finally:
                await place.clean()
            console.print(f"{part}: {clock.monotonic() - since:.1f} s", highlight=False)
    return gates


def main(arguments: Sequence[str]) -> int:
    """0: all gates are met; 1: one was missed; 2: it was not started as it must be."""
    parts = list(arguments) or list(PARTS)
    if hash_seed() != "0" or not set(parts) <= set(PARTS | PROFILES):
        print(
            f"PYTHONHASHSEED=0 python -m benchmarks.bench [{' | '.join(PARTS | PROFILES)}] …: "
            "without names, all but the profiles",
            file=sys.stderr,
        )
        return 2
    tie(OTHER)
    logs.setup(level="error", style="plain")
    console = Console()
    gates = asyncio.run(measure(console, parts))
    console.print(table(gates, "speed, beside River's bare loop", digits=4))
    missed = sum(not gate.met for gate in gates)
    if not arguments:
        console.print(f"figures in {write(gates, 'bench.json')}", highlight=False)
    shares = [value for name, value in flat(gates).items() if name.endswith("bare_core_share")]
    if min(shares, default=1.0) < QUIET:
        console.print(
            f"this machine was not quiet: others had up to {1 - min(shares):.0%} of the core, so "
            "ratios by CPU tell more than ratios by the clock",
            highlight=False,
        )
    asked = sum(bool(gate.relation) for gate in gates)
    console.print(f"{asked - missed} passed, {missed} failed", highlight=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
