"""`make soak`: ten minutes at half the top rate. Nothing may grow: memory, lag, open files.

The top rate is that of `end_to_end_kafka`, measured first. Then events come at half of it, in an
open loop, to a service that was just started on another Apache Kafka, which keeps the newest of
them only. What the worker takes is read from outside, by its process id, every few seconds, how far
it is behind is asked of Kafka, and a few questions are asked. `benchmarks.growth` judges.
`make soak SECONDS=60` takes less time, and proves less. The samples themselves are in
`benchmarks/out/soak-samples.json`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter

import msgspec
from benchmarks.endtoend import AGENT, ZIPF_KEYS, serving, zipf_run
from benchmarks.gates import OUT, Gate, table, told, write
from benchmarks.growth import Counts, Sample, counted, judged
from benchmarks.place import Place
from benchmarks.processes import OTHER, Child, CoreUse, tie
from benchmarks.topics import Lent, Patience, lengths, make_topic, stream
from benchmarks.worker import Order
from benchmarks.workload import FEATURES, spec_for, zipf_keys
from rich.progress import Progress

from headrace import logs
from headrace.cli.console import Console
from headrace.config import hash_seed
from headrace.errors import HeadraceError, StateError
from headrace.serving.client import AsyncClient
from headrace.views import AgentView

SECONDS = 600.0
SHARE = 0.5  # of the top rate
EVENTS = 200_000  # different ones; they come again and again
EVERY_S = 2.0
QUESTIONS = 10  # for each sample
DURABLE_WAIT_S = 60.0
"""How long the worker may get no further while its last events are waited for."""
KEPT = {"retention.bytes": str(64 << 20), "segment.bytes": str(32 << 20)}
"""Of each partition. Kafka looks every five minutes, and what is not durable is younger."""
DECISIONS = f"decisions.{AGENT}"


async def soak(place: Place, seconds: float) -> list[Gate]:
    """All of it; raises StateError if the worker ends or gets no further."""
    top = (await zipf_run(place, await place.kafka())).speed.per_s
    await place.clean()
    rate = top * SHARE
    place.say(f"top rate {top:,.0f} events/s; {rate:,.0f}/s for {seconds:g} s")
    broker = await place.kafka()
    topic = place.name("events")
    for name in (topic, DECISIONS):
        await make_topic(broker, name, settings=KEPT)
    order = Order(broker=Lent.of(broker), state_dir=str(place.file("state")), agent=AGENT)
    events = place.events(zipf_keys(EVENTS, ZIPF_KEYS))
    async with serving(order) as (process, client), lengths(broker) as length:
        await client.deploy(spec_for(AGENT, topic))
        watch = Watch(process, client, lambda: length(topic), rate)
        before = CoreUse.now(process)
        sending = asyncio.create_task(stream(broker, topic, events, rate=rate, seconds=seconds))
        try:
            await _watched(place, watch, sending, seconds)
        finally:
            sending.cancel()  # if it is not done, watching has failed
        others = before.others_until(CoreUse.now(process))
        view = await _durable(client, sending.result())
        counts = Counts(
            sending.result(),
            sum(shard.accepted for shard in view.shards),
            sum(shard.quarantined for shard in view.shards),
            await length(DECISIONS),
        )
    return [
        *counted(counts, rate, watch.samples[-1].at_s),
        *judged(watch.samples),
        told("soak.others_share", others, "of the worker's core; what waits for it is late"),
    ]


class Watch:
    """Takes samples of a worker; `length` tells how many events are in its topic."""

    def __init__(
        self,
        process: Child,
        client: AsyncClient,
        length: Callable[[], Awaitable[int]],
        rate: float,
    ) -> None:
        self.samples: list[Sample] = []
        self._process = process
        self._client = client
        self._length = length
        self._rate = rate

    async def look(self, at_s: float) -> Sample:
        """One more sample. Raises HeadraceError if the worker does not say how it stands."""
        view = await self._client.agent(AGENT)
        # Asked after the worker: events that come in between make the lag longer, never shorter.
        behind = await self._length() - sum(shard.next_offset for shard in view.shards)
        answer_ms, unanswered = await self._ask()
        sample = Sample(
            at_s,
            *taken(self._process.pid),
            behind / self._rate,
            tuple(answer_ms),
            unanswered,
        )
        self.samples.append(sample)
        return sample

    async def _ask(self) -> tuple[list[float], int]:
        answer_ms: list[float] = []
        features = dict.fromkeys(FEATURES, 1.0)
        for number in range(QUESTIONS):
            began = perf_counter()
            try:
                await self._client.predict(AGENT, key=f"k{number}", features=features)
            except HeadraceError:
                continue
            answer_ms.append((perf_counter() - began) * 1e3)
        return answer_ms, QUESTIONS - len(answer_ms)


def taken(pid: int) -> tuple[float, int, int]:
    """What a process has: MB of memory, open files, threads. Linux only.

    Raises StateError if it has ended, also while nobody has asked for its exit code yet.
    """
    own = Path(f"/proc/{pid}")
    try:
        lines = (own / "status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":", 1) for line in lines)
        files = sum(1 for _ in (own / "fd").iterdir())
        return int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"])
    except (OSError, KeyError):
        raise StateError(f"the worker, process {pid}, has ended") from None


async def _watched(place: Place, watch: Watch, sending: asyncio.Task[int], seconds: float) -> None:
    """A sample every few seconds, as long as events are sent; the last one when all are."""
    began = perf_counter()
    with Progress(console=place.console, transient=True) as progress:
        task = progress.add_task("soaking", total=seconds)
        while not sending.done():
            await asyncio.wait({sending}, timeout=EVERY_S)
            seen = await watch.look(perf_counter() - began)
            now = f"{seen.memory_mb:.0f} MB, {seen.files} files, {seen.lag_s:.2f} s behind"
            progress.update(task, completed=seen.at_s, description=now)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "soak-samples.json").write_bytes(msgspec.json.encode(watch.samples))


async def _durable(client: AsyncClient, events: int) -> AgentView:
    """The agent when all of its events are on disk, their decisions acknowledged before."""
    patience = Patience(DURABLE_WAIT_S)
    while True:
        view = await client.agent(AGENT)
        so_far = sum(shard.durable_offset for shard in view.shards)
        if so_far >= events:
            return view
        if patience.is_over(so_far):
            raise StateError(f"the worker stands still at {so_far:,} of {events:,} events")
        await asyncio.sleep(EVERY_S / 10)


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
    console.print(f"figures in {write(gates, 'soak.json')}")
    console.print(f"{sum(bool(gate.relation) for gate in gates) - missed} passed, {missed} failed")
    return 1 if missed else 0


async def _soaked(place: Place, seconds: float) -> list[Gate]:
    try:
        return await soak(place, seconds)
    except HeadraceError as error:
        return [Gate("soak.ran", 0, "=", 1, str(error))]
    finally:
        await place.clean()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
