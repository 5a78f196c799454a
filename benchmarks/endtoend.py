"""Events per second through the whole service, beside River's bare loop on the same events.

The events lie in the topic; the service is started and the agent deployed. The time runs from the
first event that a shard takes until every shard has made its last event durable, which it does
only after the decisions are acknowledged. Afterwards the decisions in their topic are counted. The
bare loop runs before and after, on the same core: where the two differ, the machine was not quiet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bare import Speed, bare_speed
from benchmarks.gates import Gate, told
from benchmarks.place import Place
from benchmarks.processes import MEASURED, Child, child
from benchmarks.topics import Lent, append, decided, make_topic
from benchmarks.worker import Order
from benchmarks.workload import PARTITIONS, Sent, save, spec_for, uniform_keys, zipf_keys

from headrace.errors import StateError
from headrace.pipelines.broker import Broker
from headrace.serving.client import AsyncClient

EVENTS = 200_000
ZIPF_KEYS = 1_000
COLD_KEYS = 100_000
COLD_EVENTS = 100_000  # each costs several times as much, in the bare loop too
HOT_KEYS = 20_000
AGENT = "bench"
RATIO_MUST, RATIO_AIM = 0.6, 0.85


class Run(NamedTuple):
    """One passage of all events, between two runs of the bare loop."""

    speed: Speed
    bare: tuple[Speed, Speed]
    said: dict[str, Any]  # what else the worker told
    events: Path  # the file of events

    @property
    def by_clock(self) -> float:
        """Events a second, as a share of the bare loop's."""
        return self.speed.per_s * sum(1 / each.per_s for each in self.bare) / 2

    @property
    def by_cpu(self) -> float:
        """The same by CPU time: of all threads of the worker, and of the bare loop."""
        return sum(each.cpu_us for each in self.bare) / 2 / self.speed.cpu_us

    @property
    def ratio(self) -> float:
        """The smaller of both: one core cannot give more, whatever slowed the bare loop down."""
        return min(self.by_clock, self.by_cpu)


async def end_to_end(place: Place) -> list[Gate]:
    """1,000 keys by Zipf's law, on the embedded broker."""
    measured = await zipf_run(place, await place.memory())
    place.end_to_end = measured.speed
    return _gates("end_to_end", measured, gated=True)


async def end_to_end_kafka(place: Place) -> list[Gate]:
    """The same on Apache Kafka."""
    return _gates("end_to_end_kafka", await zipf_run(place, await place.kafka()), gated=True)


async def end_to_end_cold(place: Place) -> list[Gate]:
    """100,000 keys, each as likely, 20,000 of them hot: nearly every event needs another row."""
    measured = await cold_run(place, await place.memory(), "flushes")
    flushes = measured.said["meters"]["flushes"]
    each_us = (flushes["encode_s"] + flushes["write_s"]) / flushes["rows"] * 1e6
    also = ("encode", flushes["encode_s"]), ("write", flushes["write_s"])
    return [
        *_gates("end_to_end_cold", measured),
        told(
            "end_to_end_cold.flush_us_per_changed_key",
            each_us,
            f"{flushes['rows']:,} rows in {flushes['writes']} flushes; "
            f"encoding {also[0][1]:.2f} s, writing {also[1][1]:.2f} s",
            tuple((f"{name}_us", seconds / flushes["rows"] * 1e6) for name, seconds in also),
        ),
    ]


async def zipf_run(place: Place, broker: Broker, *meters: str) -> Run:
    """The run that most figures stand on."""
    return await run(place, broker, place.events(zipf_keys(EVENTS, ZIPF_KEYS)), meters)


async def cold_run(place: Place, broker: Broker, *meters: str) -> Run:
    """The run in which most keys are rows on disk when their event comes."""
    events = place.events(uniform_keys(COLD_EVENTS, COLD_KEYS))
    return await run(place, broker, events, meters, hot_keys_max=HOT_KEYS // PARTITIONS)


async def run(
    place: Place, broker: Broker, events: list[Sent], meters: tuple[str, ...], **state: Any
) -> Run:
    """Bare loop, service, bare loop. Raises StateError if decisions are missing or bad."""
    path = place.file("events")
    save(events, path)
    topic = place.name("events")
    await make_topic(broker, topic)
    await append(broker, topic, events)
    before = await bare_speed(path)
    order = Order(
        broker=Lent.of(broker),
        state_dir=str(place.file("state")),
        agent=AGENT,
        expect=len(events),
        meters=meters,
    )
    async with serving(order) as (process, client):
        await client.deploy(spec_for(AGENT, topic, **state))
        said = await process.says()
        await check(broker, topic, len(events), said)
    after = await bare_speed(path)
    return Run(Speed(len(events), said["seconds"], said["cpu_s"]), (before, after), said, path)


async def check(broker: Broker, topic: str, events: int, said: dict[str, Any]) -> None:
    """One decision per event, and nothing refused: else the speed is of something else."""
    found = await decided(broker, f"decisions.{AGENT}", events)
    if found.ids != events or said["quarantined"]:
        raise StateError(
            f"{found.ids:,} events of {events:,} have a decision, {said['quarantined']:,} were "
            f"refused: the speed of that is not told ({topic})"
        )


@asynccontextmanager
async def serving(order: Order) -> AsyncIterator[tuple[Child, AsyncClient]]:
    """A worker on a core of its own, and a client of it."""
    async with child("worker", order, MEASURED) as process:
        address = (await process.says())["address"]
        async with AsyncClient(address) as client:
            yield process, client


def _gates(name: str, measured: Run, *, gated: bool = False) -> list[Gate]:
    speed, (before, after) = measured.speed, measured.bare
    share = min(before.share, after.share)
    until = measured.speed.events / measured.said["until_learned_s"]
    beside = (
        f"by the clock {measured.by_clock:.2f}, by CPU {measured.by_cpu:.2f}; bare loop "
        f"{before.per_s:,.0f} and {after.per_s:,.0f}/s with {share:.0%} of its core"
    )
    bare = (before.per_s + after.per_s) / 2
    also = (
        ("bare_events_per_s", bare),
        ("bare_spread", abs(after.per_s - before.per_s) / bare),
        ("bare_core_share", share),
        ("by_clock", measured.by_clock),
        ("by_cpu", measured.by_cpu),
    )
    ratio = told(f"{name}.ratio_to_bare", measured.ratio, beside, also)
    if gated:
        ratio = ratio._replace(relation=">=", bound=RATIO_MUST, aim=RATIO_AIM)
    return [
        told(
            f"{name}.events_per_s",
            speed.per_s,
            f"{speed.events:,} events in {speed.seconds:.2f} s; until learned {until:,.0f}/s",
            (("until_learned", until),),
        ),
        ratio,
        told(
            f"{name}.cpu_us_per_event",
            speed.cpu_us,
            f"bare loop {(before.cpu_us + after.cpu_us) / 2:.1f}",
        ),
    ]
