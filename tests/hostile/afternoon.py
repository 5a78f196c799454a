"""`make hostile`: the whole hostile afternoon, with a line of progress and a table at the end.

Run as `python -m tests.hostile.afternoon [SEED]`; the same seed is the same afternoon. A finding
holds the input that caused it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headrace.config import Config
from headrace.service import Service
from headrace.serving.client import AsyncClient
from tests.hostile.events import Afternoon, counted, run_events, run_values
from tests.hostile.requests import run_requests
from tests.hostile.service import check_service, deploy_all, send_events
from tests.hostile.specs import run_specs
from tests.hostile.targets import TARGETS

EVENTS = 100_000  # through guard and learner in this process
VALUES = 6_000  # events of any JSON values, drawn by hypothesis
SERVICE_EVENTS = 12_000  # through broker, worker, store and gRPC
REQUESTS = 12_000
SPECS = 20_000
SHOWN = 10  # findings of each part

Part = tuple[str, Afternoon]
Say = Callable[[int], None]


def main() -> int:
    """Spend the afternoon; 0 if nothing was found."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    console = Console()
    with Progress(console=console, transient=True) as progress:

        def bar(text: str, total: int) -> Say:
            task = progress.add_task(text, total=total)
            return lambda count: progress.advance(task, count)

        parts = [*_in_process(seed, bar), *asyncio.run(_served(seed, bar))]
    _show(console, parts)
    return int(any(afternoon.findings for _, afternoon in parts))


def _in_process(seed: int, bar: Callable[[str, int], Say]) -> Iterator[Part]:
    say, each = bar("bad events in process", EVENTS), -(-EVENTS // len(TARGETS))
    runs = (run_events(target, each, f"{seed}/{n}", progress=say)
            for n, target in enumerate(TARGETS.values()))  # fmt: skip
    yield "bad events, guard and learner", counted(runs)
    say, each = bar("events of any values", VALUES), VALUES // len(TARGETS)
    runs = (run_values(target, each, seed, progress=say) for target in TARGETS.values())
    yield "events of any values", counted(runs)
    yield "spoilt specs", run_specs(SPECS, seed, progress=bar("spoilt specs", SPECS))


async def _served(seed: int, bar: Callable[[str, int], Say]) -> list[Part]:
    with TemporaryDirectory(prefix="headrace-hostile-") as directory:
        config = Config(
            app="hostile", grpc_port=0, metrics_port=None, state_dir=Path(directory) / "state"
        )
        service = Service(config)
        await service.start()
        try:
            async with AsyncClient(service.grpc_address) as client:
                await deploy_all(client)
                say = bar("bad events through the service", SERVICE_EVENTS)
                bad_at = await send_events(service, SERVICE_EVENTS, seed, progress=say)
                events = await check_service(service, client, bad_at)
                say = bar("bad requests", REQUESTS)
                requests = await run_requests(service.grpc_address, REQUESTS, seed, progress=say)
                after = await check_service(service, client, bad_at)
        finally:
            await service.stop()
    return [
        ("bad events, whole service", events),
        ("bad requests", requests),
        ("keys and quarantine after the requests", after._replace(refused=Counter())),
    ]


def _show(console: Console, parts: list[Part]) -> None:
    table = Table("part", "sent", "findings", "what came of them")
    for name, afternoon in parts:
        refused = ", ".join(f"{code} {n:,}" for code, n in afternoon.refused.most_common())
        table.add_row(name, f"{afternoon.sent:,}", str(len(afternoon.findings)), refused)
    console.print(table)
    for name, afternoon in parts:
        for finding in afternoon.findings[:SHOWN]:
            console.print(f"{name}: {finding}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
