"""The service in a process of its own, with what is measured inside it.

Order of talk: the process says its address when the service is up. Whoever started it deploys an
agent over gRPC, as everybody does. Then, if it was told how many events to expect, it says what it
measured as soon as all of them are learned, decided and durable. It stops when its input ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import msgspec
from benchmarks.meters import METERS
from benchmarks.processes import say
from benchmarks.topics import Lent, Patience

from headrace import logs
from headrace.config import Config
from headrace.errors import StateError
from headrace.service import Service

APP = "bench"
LOOK_S = 0.01
"""How often the worker's progress is looked at: the time of a run is as exact as that."""
STALL_S = 60.0
SESSION_S = 2.0


class Order(msgspec.Struct, kw_only=True):
    """What the process is to do."""

    broker: Lent
    state_dir: str
    agent: str
    expect: int = 0  # events; 0: nothing is measured here
    meters: tuple[str, ...] = ()  # names in `benchmarks.meters`


class Moment(NamedTuple):
    """When something was, by the wall and by this process's CPU, in seconds."""

    wall: float
    cpu: float


def main(order: str) -> None:
    """The process."""
    logs.setup(level="error", style="plain")
    asyncio.run(_work(msgspec.json.decode(order, type=Order)))
    # Nothing is left to be done; interpreters with 10⁵ models take seconds to tidy up.
    os._exit(0)


async def _work(order: Order) -> None:
    config = Config(
        app=APP,
        grpc_port=0,
        metrics_port=None,
        state_dir=Path(order.state_dir),
        session_timeout_s=SESSION_S,
    )
    service = Service(config, broker=order.broker)
    await service.start()
    try:
        say({"address": service.grpc_address})
        if order.expect:
            say(await _measured(service, order))
        await _end_of_input()
    finally:
        await service.stop()


async def _measured(service: Service, order: Order) -> dict[str, Any]:
    """From the first event that is learned to all of them durable."""
    patience = Patience(STALL_S)
    async with AsyncExitStack() as running:
        began = _now()
        while not _offsets(service, order).next:
            began = _now()
            await asyncio.sleep(LOOK_S)
        read = [(name, await running.enter_async_context(METERS[name]())) for name in order.meters]
        while (done := _offsets(service, order).next) < order.expect:
            if service.failed.done():
                service.failed.result()
            if patience.is_over(done):
                raise StateError(f"stalled at {done:,} of {order.expect:,} events")
            await asyncio.sleep(LOOK_S)
        learned = _now()
        # What the timer would do within a second: no throughput must depend on when it is due.
        shards = service.worker.shards.of_agent(order.agent)
        for shard in shards:
            await shard.flush()
        ended = _now()
    assert _offsets(service, order).durable == order.expect
    return {
        "events": order.expect,
        "seconds": ended.wall - began.wall,
        "cpu_s": ended.cpu - began.cpu,
        "until_learned_s": learned.wall - began.wall,
        "keys_hot": sum(shard.learner.keys_hot for shard in shards),
        "quarantined": sum(shard.learner.quarantined for shard in shards),
        "meters": {name: meter.figures() for name, meter in read},
    }


class _Offsets(NamedTuple):
    """How far the agent's shards are, all together: these topics begin at offset 0."""

    next: int
    durable: int


def _offsets(service: Service, order: Order) -> _Offsets:
    shards = service.worker.shards.of_agent(order.agent)
    return _Offsets(sum(s.next_offset for s in shards), sum(s.durable_offset for s in shards))


def _now() -> Moment:
    return Moment(perf_counter(), process_time())


async def _end_of_input() -> None:
    """Return when the process that started this one has closed our input, or is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
