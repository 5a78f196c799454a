"""The service in a process of its own, whose shards are filled in bulk and watched from inside.

To learn a million events one by one takes minutes, so the rows of as many keys are written into the
shard's store at once: those of some models that have learned, in turn. Order of talk: the process
says its address, and answers each request in its input with a line. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from benchmarks.memory import ORIGIN, Stored
from benchmarks.meters import Heartbeat
from benchmarks.processes import say
from benchmarks.spans import Span, recorded
from benchmarks.topics import Lent
from benchmarks.worker import APP, SESSION_S
from benchmarks.workload import START_MS, each_key, events_for

from headrace import logs
from headrace.config import Config
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.models.slots import KEY_ROW
from headrace.models.spec import Spec
from headrace.pipelines.shard import Shard
from headrace.service import Service

MODELS = 1_000
"""Different ones among the rows: as many as a table holds in ten blocks, so that a block is as hard
to compress as one of a shard that learned all by itself."""
EVENTS_EACH = 5
BATCH = 10_000  # rows of a write
CONTROL_WAIT_S = 60.0


class Order(msgspec.Struct, kw_only=True):
    """Where broker, state and repository are."""

    broker: Lent
    state_dir: str
    snapshots: str  # URL


class Fill(msgspec.Struct, tag=True):
    """Write the rows of so many keys, k0 and so on, into the only shard of an agent."""

    agent: str
    keys: int


class Watch(msgspec.Struct, tag=True):
    """Measure from now on."""


class Tell(msgspec.Struct, tag=True):
    """Say what was measured."""


class Started(msgspec.Struct):
    """Where a worker answers, and what it did until then."""

    address: str
    spans: list[Span]


class Told(msgspec.Struct):
    """What a worker says of the time since it was told to watch."""

    heartbeat: dict[str, float]
    spans: list[Span]


def main(order: str) -> None:
    """The process."""
    logs.setup(level="error", style="plain")
    asyncio.run(_work(msgspec.json.decode(order, type=Order)))
    os._exit(0)  # nothing is left to be done


async def _work(order: Order) -> None:
    config = Config(
        app=APP,
        grpc_port=0,
        metrics_port=None,
        state_dir=Path(order.state_dir),
        snapshots=order.snapshots,
        session_timeout_s=SESSION_S,
        control_timeout_s=CONTROL_WAIT_S,
    )
    with recorded() as spans:
        service = Service(config, broker=order.broker)
        await service.start()
        try:
            say(Started(service.grpc_address, spans))
            await _answer(service, spans)
        finally:
            await service.stop()


async def _answer(service: Service, spans: list[Span]) -> None:
    """One request after the other, until there are no more."""
    requests = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    meter: Heartbeat | None = None
    async with AsyncExitStack() as watching:
        while line := await requests.readline():
            match msgspec.json.decode(line, type=Fill | Watch | Tell):
                case Fill(agent, keys):
                    (shard,) = service.worker.shards.of_agent(agent)
                    say(await fill(shard, keys))
                case Watch():
                    spans.clear()
                    meter = await watching.enter_async_context(Heartbeat.running())
                    say({})
                case Tell():
                    assert meter is not None, "it was not told to watch"
                    await watching.aclose()
                    say(Told(meter.figures(), spans))


async def fill(shard: Shard, keys: int) -> dict[str, Any]:
    """Write them at the shard's present position; its learner knows them by their rows only.

    In the order of their names, so that there is nothing to be merged afterwards.
    """
    models = trained(shard.learner.spec)
    began = perf_counter()

    async def work(shard: Shard) -> bool:
        settled = await shard.settle()
        assert settled
        meta = shard.store.meta
        assert meta is not None
        named = enumerate(sorted(f"k{number}".encode() for number in range(keys)))
        rows = ((KEY_ROW + name, models[number % len(models)]) for number, name in named)
        while batch := list(islice(rows, BATCH)):
            await asyncio.to_thread(shard.store.write, batch, meta)
        return True

    assert await shard.between_events(work)
    mean = sum(map(len, models)) / len(models)
    return {"row_bytes": mean, "seconds": perf_counter() - began}


def trained(spec: Spec) -> list[bytes]:
    """Rows of keys that have learned some events each, and no two alike."""
    learner = Learner(spec, ORIGIN, MemoryRows())
    events = events_for(each_key(MODELS, EVENTS_EACH))
    learner.step([Stored(at, START_MS + at, *event) for at, event in enumerate(events)])
    rows = [data for row, data in learner.changed() if row.startswith(KEY_ROW)]
    return [data for data in rows if data is not None]
