"""`make crash`: the long campaigns, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from headrace import logs
from headrace.clock import SystemClock
from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.localbroker import LocalBroker
from tests.crash.campaign import Campaign, Standing
from tests.crash.plan import full
from tests.crash.report import Outcome, show
from tests.crash.verdict import judge
from tests.tree import ROOT

OUT = ROOT / "benchmarks" / "out" / "crash.json"
BROKERS = {"memory": MemoryBroker, "local": LocalBroker}


def main() -> int:
    """Run the campaigns, show and write what they came to; 0 if all of them passed."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=tuple(BROKERS), action="append", dest="brokers")
    asked = parser.parse_args()
    logs.setup(level="error", style="plain", stream=sys.stderr)
    console = Console()
    outcomes: dict[str, Outcome] = {}
    for kind in asked.brokers or tuple(BROKERS):
        with Live(console=console, refresh_per_second=4) as live:
            outcomes[kind] = asyncio.run(_campaign(kind, asked.seed, live))
    show(outcomes, console)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    record = {"seed": asked.seed, **{kind: each.as_json() for kind, each in outcomes.items()}}
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    return int(any(outcome.failings() for outcome in outcomes.values()))


async def _campaign(kind: str, seed: int, live: Live) -> Outcome:
    clock = SystemClock()
    began = clock.monotonic()

    def told(standing: Standing) -> None:
        kills = sum(count for ending, count in standing.kills.items() if ending != "sigterm")
        live.update(
            Text(
                f"{kind}: {clock.monotonic() - began:4.0f} s, life {standing.life} of "
                f"{standing.planned}, {kills} kills, {standing.sent:,} events, {standing.doing}"
            )
        )

    with tempfile.TemporaryDirectory(prefix="headrace-crash-") as directory:
        broker: Broker = BROKERS[kind](Path(directory) / "broker")
        await broker.start()
        try:
            left = await Campaign(full("crash", seed), broker, Path(directory), told).run()
            live.update(Text(f"{kind}: folding the logs and comparing"))
            verdict = await judge(broker, left)
        finally:
            await broker.stop()
    return Outcome(left, verdict, clock.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
