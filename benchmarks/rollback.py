"""Snapshots and rollbacks of a shard with 10⁴ and with 10⁶ keys, while it learns and is asked.

The load is the same all the time: events of random keys at a fixed rate, questions at another, both
open loops. It runs by itself, half of that time before and half after what that is compared with,
as a machine may be slower for a while; and while snapshots are taken and the agent is rolled back
to one of them, again and again. Then a worker with an empty disk begins from the newest snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from benchmarks import filled, load
from benchmarks.filled import CONTROL_WAIT_S, Fill, Started, Tell, Told, Watch
from benchmarks.gates import Gate, told
from benchmarks.latency import Latency
from benchmarks.place import Place
from benchmarks.processes import MEASURED, Child, child
from benchmarks.serving import RATE, asking
from benchmarks.spans import total_ms
from benchmarks.topics import Lent, make_topic, stream
from benchmarks.workload import FEATURES, SEED, Sent, events_for, spec_for, uniform_keys

from headrace.errors import StateError
from headrace.pipelines.broker import Broker
from headrace.serving.client import AsyncClient
from headrace.views import Question, RollbackRequest

AGENT = "bench"
SIZES = {"1e4": 10_000, "1e6": 1_000_000}
EVENTS_PER_S = 2_000.0
EVENTS = 100_000  # different ones
QUESTIONS = 1_000
SECONDS = 20.0  # of the load, with and without
TIMES = 3  # snapshots, and rollbacks
PAUSE_S = 1.0
"""After each of them, in which the worker is still watched: it publishes and tidies up."""
LOOK_S = 0.05
STALL_MUST_MS = 50.0
ROLLBACK_MUST_MS, ROLLBACK_AIM_MS = 250.0, 100.0
RATIO_MUST = 2.0
SHOWN = ("prepare", "effect", "settle", "take", "draft", "adopt and open")
NEVER_S = 86_400  # between two automatic snapshots

T = TypeVar("T")


class Stand(NamedTuple):
    """A filled shard, and what is needed to keep it busy."""

    broker: Broker
    topic: str
    process: Child
    client: AsyncClient
    source: Child
    events: Sequence[Sent]

    async def watched(self, call: Awaitable[T]) -> tuple[T, Told]:
        """What became of a call, and what the worker did until a little later."""
        await self.process.asked(Watch())
        result = await call
        await asyncio.sleep(PAUSE_S)
        return result, msgspec.convert(await self.process.asked(Tell()), Told)

    async def calm(self) -> load.Told:
        """The load alone, for half as long."""
        return (await self.busy(_nothing, SECONDS / 2))[0]

    async def busy(
        self, beside: Callable[[], Awaitable[T]], seconds: float = SECONDS
    ) -> tuple[load.Told, T]:
        """The load, and what is done beside it in the meantime."""
        async with asyncio.TaskGroup() as together:
            answers = together.create_task(self.source.asked(load.Burst(1, RATE, seconds)))
            together.create_task(
                stream(
                    self.broker,
                    self.topic,
                    self.events,
                    rate=EVENTS_PER_S,
                    seconds=seconds,
                )
            )
            await asyncio.sleep(PAUSE_S)
            result = await beside()
            if answers.done():
                raise StateError(f"snapshots and rollbacks took more than {seconds:g} s")
        told_times = load.Told(**answers.result())
        if told_times.failed:
            raise StateError(f"{told_times.failed} questions were not answered")
        return told_times, result


class Rolled(NamedTuple):
    """One rollback: what callers saw of it, and what the worker did."""

    epoch: int
    told: Told

    def ms(self, answers: load.Told) -> float:
        """From the append of the control record to the first answer in the new epoch."""
        (appended,) = (span.begin for span in self.told.spans if span.step == "append")
        first = min(
            at
            for at, epoch in zip(answers.answered, answers.epochs, strict=True)
            if epoch >= self.epoch
        )
        return (answers.begin + first - appended) * 1e3


async def rollback(place: Place) -> list[Gate]:
    """A shard of each size; of the large one also what its snapshots do, and a restore."""
    (small, few), (large, many) = SIZES.items()
    broker = await place.memory()
    async with standing(place, broker, few) as stand:
        answers, (_, rolled) = await stand.busy(lambda: _back_and_forth(stand))
        gates = [rollback_gate(small, answers, rolled)]
    broker = await place.memory()
    repository = place.file("repository")
    async with standing(place, broker, many, repository) as stand:
        before = await stand.calm()
        answers, (taken, rolled) = await stand.busy(lambda: _back_and_forth(stand))
        after = await stand.calm()
    order = filled.Order(
        broker=Lent.of(broker), state_dir=str(place.file("state")), snapshots=_url(repository)
    )
    async with child("filled", order, MEASURED) as process:
        restored = msgspec.convert(await process.says(), Started)
    return [
        *gates,
        rollback_gate(large, answers, rolled),
        stall_gate(taken),
        ratio_gate((before, after), answers),
        restore_figure(restored),
    ]


@asynccontextmanager
async def standing(
    place: Place, broker: Broker, keys: int, repository: Path | None = None
) -> AsyncIterator[Stand]:
    """A worker with a shard of so many keys, and somebody who asks it about them."""
    topic = place.name("events")
    await make_topic(broker, topic, partitions=1)
    order = filled.Order(
        broker=Lent.of(broker),
        state_dir=str(place.file("state")),
        snapshots=_url(repository or place.file("repository")),
    )
    async with child("filled", order, MEASURED) as process:
        started = msgspec.convert(await process.says(), Started)
        async with AsyncClient(started.address, control_timeout_s=CONTROL_WAIT_S) as client:
            await client.deploy(spec_for(AGENT, topic, snapshot_s=NEVER_S))
            rows = await process.asked(Fill(AGENT, keys))
            place.say(f"{keys:,} rows of {rows['row_bytes']:.0f} bytes in {rows['seconds']:.1f} s")
            async with asking(client, questions(keys)) as source:
                events = place.events(uniform_keys(EVENTS, keys))
                yield Stand(broker, topic, process, client, source, events)


def questions(keys: int) -> list[Question]:
    """About keys drawn at random."""
    sent = events_for(uniform_keys(QUESTIONS, keys, seed=SEED + 1))
    asked = [msgspec.json.decode(value) for _, value in sent]
    return [
        Question(agent=AGENT, key=event["id"], features={name: event[name] for name in FEATURES})
        for event in asked
    ]


async def _back_and_forth(stand: Stand) -> tuple[list[Told], list[Rolled]]:
    """Snapshots, one after the other, and then rollbacks to the last of them."""
    taken, rolled = list[Told](), list[Rolled]()
    for number in range(TIMES):
        _, told_of = await stand.watched(_snapshot(stand.client, f"s{number}"))
        taken.append(told_of)
    wanted = RollbackRequest(agent=AGENT, snapshot_id=f"{AGENT}.s{TIMES - 1}")
    for _ in range(TIMES):
        view, told_of = await stand.watched(stand.client.rollback(wanted))
        rolled.append(Rolled(view.epoch, told_of))
    return taken, rolled


async def _snapshot(client: AsyncClient, name: str) -> None:
    """Take one, and wait until it is published."""
    view = await client.create_snapshot(AGENT, name)
    while not view.complete:
        await asyncio.sleep(LOOK_S)
        view = await client.snapshot(view.snapshot_id)


async def _nothing() -> None:
    """The load alone."""


def rollback_gate(size: str, answers: load.Told, rolled: Sequence[Rolled]) -> Gate:
    """The longest of them, and where its time went."""
    times = sorted(((each.ms(answers), each.told) for each in rolled), key=itemgetter(0))
    longest, told_of = times[-1]
    steps = total_ms(told_of.spans)
    parts = ", ".join(f"{step} {steps.get(step, 0.0):.0f}" for step in SHOWN)
    stop = max(each.told.heartbeat["longest_ms"] for each in rolled)
    beside = f"the longest of {', '.join(f'{ms:.0f}' for ms, _ in times)}; {parts}; stop {stop:.0f}"
    also = (
        *((f"{step} ms".replace(" ", "_"), ms) for step, ms in steps.items()),
        ("stop_ms", stop),
    )
    name = f"rollback.ms_{size}_keys"
    return Gate(name, longest, "<=", ROLLBACK_MUST_MS, beside, also, ROLLBACK_AIM_MS)


def stall_gate(taken: Sequence[Told]) -> Gate:
    """The longest stop while one was taken and published; the first one brings all tables."""
    stops = [each.heartbeat["longest_ms"] for each in taken]
    published = [total_ms(each.spans)["publish"] for each in taken]
    beside = (
        f"{', '.join(f'{ms:.0f}' for ms in stops)}; publishing took "
        f"{', '.join(f'{ms:,.0f}' for ms in published)} ms"
    )
    also = (("longest_cpu_ms", max(each.heartbeat["longest_cpu_ms"] for each in taken)),)
    name = "snapshot.stall_ms_1e6_keys"
    return Gate(name, max(stops), "<=", STALL_MUST_MS, beside, also)


def ratio_gate(calm: Sequence[load.Told], answers: load.Told) -> Gate:
    """What callers waited with snapshots and rollbacks, by what they waited without."""
    alone, beside_them = _latency(calm), _latency([answers])
    beside = (
        f"{beside_them.p99_ms:.1f} by {alone.p99_ms:.1f} ms at p99, longest "
        f"{beside_them.longest_ms:.0f} by {alone.longest_ms:.0f}; {EVENTS_PER_S:g} events/s, "
        f"{RATE:g} questions/s, {TIMES} snapshots and {TIMES} rollbacks in {SECONDS:g} s"
    )
    also = (("with_p99_ms", beside_them.p99_ms), ("without_p99_ms", alone.p99_ms))
    ratio = beside_them.p99_ms / alone.p99_ms
    return Gate("predict.p99_snapshot_ratio", ratio, "<=", RATIO_MUST, beside, also)


def _latency(runs: Sequence[load.Told]) -> Latency:
    """Of all questions of several runs."""
    due, sent, answered = (
        [at for run in runs for at in getattr(run, name)] for name in ("due", "sent", "answered")
    )
    return Latency.of(due, sent, answered)


def restore_figure(started: Started) -> Gate:
    """How long an empty disk held up the shard."""
    steps = total_ms(started.spans)
    return told("restore.ms_1e6_keys", steps["opening"], f"adopt {steps['adopt']:.0f}")


def _url(repository: Path) -> str:
    return f"file://{repository.absolute()}"
