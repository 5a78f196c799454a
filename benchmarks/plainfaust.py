"""A plain Faust agent that does the same: a Table of River models, a decision sent per event.

It is what Faust's own guide leads to: models are values of a table in memory, each change goes to
the table's changelog, each decision is sent and left to Faust's producer. One process, one core,
the same broker, fewer events because it takes so long for them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from time import perf_counter, process_time
from typing import Any

import faust
import msgspec
from benchmarks.bare import Speed, new_model
from benchmarks.endtoend import ZIPF_KEYS, zipf_run
from benchmarks.gates import Gate, told
from benchmarks.place import Place
from benchmarks.processes import MEASURED, child, say
from benchmarks.topics import append, make_topic
from benchmarks.workload import PARTITIONS, zipf_keys

from headrace import logs

EVENTS = 10_000
TOPIC = "plain-faust"
RATIO_MUST, RATIO_AIM = 15.0, 25.0


class Order(msgspec.Struct):
    """Where the events are."""

    bootstrap: str


async def plain_faust(place: Place) -> list[Gate]:
    """Events per second of the service ÷ those of a plain agent, on one kind of broker.

    By the clock and by CPU time; the smaller counts.
    """
    broker = await place.memory()
    await make_topic(broker, TOPIC)
    await append(broker, TOPIC, place.events(zipf_keys(EVENTS, ZIPF_KEYS)))
    async with child("plainfaust", Order(broker.bootstrap), MEASURED) as process:
        said = await process.says()
    plain = Speed(said["events"], said["seconds"], said["cpu_s"])
    ours = place.end_to_end or (await zipf_run(place, broker)).speed
    by_clock, by_cpu = ours.per_s / plain.per_s, plain.cpu_us / ours.cpu_us
    ratio = Gate(
        "end_to_end.ratio_to_plain_faust",
        min(by_clock, by_cpu),
        ">=",
        RATIO_MUST,
        f"by the clock {by_clock:.1f}, by CPU {by_cpu:.1f}: "
        f"{plain.cpu_us:,.0f} µs per event against {ours.cpu_us:.1f}",
        (("by_clock", by_clock), ("by_cpu", by_cpu)),
        RATIO_AIM,
    )
    speed = told("plain_faust.events_per_s", plain.per_s, f"{EVENTS:,} events, Table, decisions")
    return [speed, ratio]


def main(order: str) -> None:
    """The process."""
    logs.setup(level="error", style="plain")
    asyncio.run(_run(msgspec.json.decode(order, type=Order)))
    os._exit(0)


async def _run(order: Order) -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    with tempfile.TemporaryDirectory(prefix="headrace-plain-") as scratch:
        app = _app(order, scratch, seen)
        starting = asyncio.ensure_future(app.start())
        began, cpu = await seen.get(), process_time()
        for _ in range(EVENTS - 1):
            ended = await seen.get()
        say({"events": EVENTS, "seconds": ended - began, "cpu_s": process_time() - cpu})
        starting.cancel()


def _app(order: Order, scratch: str, seen: asyncio.Queue[float]) -> faust.App:
    app = faust.App(
        "plain",
        broker=f"kafka://{order.bootstrap}",
        datadir=scratch,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
    )
    source = app.topic(TOPIC, key_type=bytes, value_serializer="json", partitions=PARTITIONS)
    decisions = app.topic(f"{TOPIC}.decisions", value_serializer="json", partitions=PARTITIONS)
    # How Faust keeps what is no JSON. Nothing reads it back: the process begins with nothing.
    models: Any = app.Table("models", partitions=PARTITIONS)
    models.value_serializer = "pickle"

    async def learn(events: Any) -> None:
        async for event in events:
            key, truth = event.pop("id"), event.pop("y")
            model = models.get(key) or new_model()
            score = model.predict_proba_one(event).get(True, 0.0)
            model.learn_one(event, truth)
            models[key] = model
            verdict = "block" if score >= 0.9 else "review" if score >= 0.6 else "allow"
            await decisions.send(key=key, value={"key": key, "score": score, "decision": verdict})
            seen.put_nowait(perf_counter())

    app.agent(source, name="learn")(learn)
    return app
