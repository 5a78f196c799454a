"""`make soak`: ten minutes at half the top rate. Nothing may grow: memory, lag, open files.

The top rate is that of `end_to_end_kafka`, measured first. Then events come at half of it, in an
open loop, to a service that was just started on another Apache Kafka, which keeps the newest of
them only. What the worker takes is read from outside, by its process id, every few seconds, and a
few questions are asked. The first third of the time is for filling caches and windows and is not
judged. `make soak SECONDS=60` takes less time, and proves less.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import msgspec
from benchmarks.endtoend import AGENT, ZIPF_KEYS, serving, zipf_run
from benchmarks.gates import OUT, Gate, table, told, write
from benchmarks.latency import percentile
from benchmarks.place import Place
from benchmarks.processes import OTHER, Child, tie
from benchmarks.series import change, sparkline
from benchmarks.topics import Lent, make_topic, stream
from benchmarks.worker import Order
from benchmarks.workload import FEATURES, spec_for, zipf_keys
from rich.progress import Progress

from headrace import logs
from headrace.cli.console import Console
from headrace.config import hash_seed
from headrace.demo.feeders import learned
from headrace.serving.client import AsyncClient

SECONDS = 600.0
SHARE = 0.5  # of the top rate
EVENTS = 200_000  # different ones; they come again and again
EVERY_S = 2.0
QUESTIONS = 10  # for each sample
KEPT = {"retention.bytes": str(64 << 20), "segment.bytes": str(32 << 20)}
"""Of each partition. Kafka looks every five minutes, and what is not durable is younger."""
MEMORY_MAX = 0.05
"""By how much the memory may rise while it is judged, as a share of it. RocksDB's tables in memory
fill and are freed again: windows of 400 s of one long run rose by -0.005 to 0.029. It was 0.02
until a run of ten minutes came to 0.032. At 20,000 events a second 0.05 is a leak of one and a half
bytes per event."""
FILES_MAX = 4.0
"""RocksDB's own files come and go."""
LAG_RISE_MAX_S = 0.25
LAG_MAX_S = 5.0
"""In seconds of events; a stop of the machine may take as long."""


class Sample(NamedTuple):
    """The worker, seen from outside."""

    at_s: float
    memory_mb: float
    files: int
    threads: int
    lag_s: float  # events not learned yet, in seconds of the rate
    answer_ms: tuple[float, ...]


async def soak(place: Place, seconds: float) -> list[Gate]:
    """All of it. Decisions are counted in the run for the top rate only."""
    top = (await zipf_run(place, await place.kafka())).speed.per_s
    await place.clean()
    rate = top * SHARE
    place.say(f"top rate {top:,.0f} events/s; {rate:,.0f}/s for {seconds:g} s")
    broker = await place.kafka()
    topic = place.name("events")
    for name in (topic, f"decisions.{AGENT}"):
        await make_topic(broker, name, settings=KEPT)
    order = Order(broker=Lent.of(broker), state_dir=str(place.file("state")), agent=AGENT)
    events = place.events(zipf_keys(EVENTS, ZIPF_KEYS))
    async with serving(order) as (process, client):
        await client.deploy(spec_for(AGENT, topic))
        sending = asyncio.create_task(stream(broker, topic, events, rate=rate, seconds=seconds))
        with Progress(console=place.console, transient=True) as progress:
            task = progress.add_task("soaking", total=seconds)
            samples: list[Sample] = []
            async for sample in _samples(sending, process, client, rate):
                samples.append(sample)
                progress.update(task, completed=sample.at_s)
        view = await learned(client, AGENT, sending.result())
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "soak-samples.json").write_bytes(msgspec.json.encode(samples))
    accepted = sum(shard.accepted for shard in view.shards)
    refused = sum(shard.quarantined for shard in view.shards)
    return [
        Gate("soak.events_learned", accepted, "=", sending.result(), "of those that were sent"),
        Gate("soak.events_refused", refused, "=", 0),
        *judged(samples, rate),
    ]


async def _samples(
    sending: asyncio.Task[int], process: Child, client: AsyncClient, rate: float
) -> AsyncIterator[Sample]:
    """One every few seconds, as long as events are sent."""
    began = perf_counter()
    while not sending.done():
        await asyncio.wait({sending}, timeout=EVERY_S)
        yield await _sample(process, client, perf_counter() - began, rate)


def judged(samples: Sequence[Sample], rate: float) -> list[Gate]:
    """What the samples say, without the first third of them."""
    kept = samples[len(samples) // 3 :]
    at = [sample.at_s for sample in kept]
    memory = [sample.memory_mb for sample in kept]
    files = [float(sample.files) for sample in kept]
    lag = [sample.lag_s for sample in kept]
    answers = [ms for sample in kept for ms in sample.answer_ms]
    typical = percentile(memory, 0.5)
    all_memory = sparkline([sample.memory_mb for sample in samples])
    return [
        told("soak.events_per_s", rate, f"half of the top rate, for {samples[-1].at_s:.0f} s"),
        told("soak.memory_mb", typical, all_memory),
        Gate("soak.memory_rise", change(at, memory) / typical, "<=", MEMORY_MAX, "of it"),
        told("soak.open_files", percentile(files, 0.5), sparkline(files)),
        Gate("soak.open_files_rise", change(at, files), "<=", FILES_MAX),
        told("soak.threads", float(kept[-1].threads), sparkline([float(s.threads) for s in kept])),
        told("soak.lag_s", percentile(lag, 0.5), sparkline(lag)),
        Gate("soak.lag_rise_s", change(at, lag), "<=", LAG_RISE_MAX_S),
        Gate("soak.longest_lag_s", max(lag), "<=", LAG_MAX_S),
        told("soak.predict_p50_ms", percentile(answers, 0.5), "one after the other"),
        told("soak.predict_p99_ms", percentile(answers, 0.99), f"{len(answers):,} answers"),
    ]


async def _sample(process: Child, client: AsyncClient, at_s: float, rate: float) -> Sample:
    view = await client.agent(AGENT)
    answer_ms: list[float] = []
    features = dict.fromkeys(FEATURES, 1.0)
    for number in range(QUESTIONS):
        began = perf_counter()
        await client.predict(AGENT, key=f"k{number}", features=features)
        answer_ms.append((perf_counter() - began) * 1e3)
    own = Path(f"/proc/{process.pid}")
    status = dict(
        line.split(":", 1) for line in (own / "status").read_text(encoding="utf-8").splitlines()
    )
    return Sample(
        at_s,
        int(status["VmRSS"].split()[0]) / 1024,
        sum(1 for _ in (own / "fd").iterdir()),
        int(status["Threads"]),
        sum((s.end_offset or s.next_offset) - s.next_offset for s in view.shards) / rate,
        tuple(answer_ms),
    )


def main(arguments: Sequence[str]) -> int:
    """0: nothing grows; 1: something does; 2: it was not started as it must be."""
    try:
        seconds = float(arguments[0]) if arguments else SECONDS
    except ValueError:
        seconds = 0.0
    if hash_seed() != "0" or seconds < 10 * EVERY_S:
        print(
            f"PYTHONHASHSEED=0 python -m benchmarks.soak [SECONDS, {10 * EVERY_S:g} or more]",
            file=sys.stderr,
        )
        return 2
    tie(OTHER)
    logs.setup(level="error", style="plain")
    console = Console()
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as scratch:
        gates = asyncio.run(_soaked(Place(Path(scratch), console), seconds))
    console.print(table(gates, "what grows under half the top rate", digits=4))
    missed = sum(not gate.met for gate in gates)
    if not arguments:
        console.print(f"figures in {write(gates, 'soak.json')}")
    console.print(f"{sum(bool(gate.relation) for gate in gates) - missed} passed, {missed} failed")
    return 1 if missed else 0


async def _soaked(place: Place, seconds: float) -> list[Gate]:
    try:
        return await soak(place, seconds)
    finally:
        await place.clean()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
