"""What a live key takes in memory, and what the first event of a key takes that is on disk only.

Both in the service's own learner over its own store, in a fresh process without broker or loop.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from benchmarks.gates import Gate, told
from benchmarks.latency import percentile
from benchmarks.place import Place
from benchmarks.processes import MEASURED, child, say
from benchmarks.workload import FEATURES, START_MS, each_key, events_for, spec_for

from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import load_spec
from headrace.state.store import ShardMeta, ShardStore
from headrace.views import Question

KEYS = 100_000
PER_FLUSH = 5_000  # keys, as the spec's default has it
COLD = 2_000  # keys that are asked, and as many that get an event
ORIGIN = Origin("bench", 1, 0, "events", 0)
META = ShardMeta(next_offset=1, epoch=0, spec_digest="", control_offset=0, cluster_id="")
BYTES_MUST = 6_000
COLD_MUST_MS = 0.5


class Order(msgspec.Struct):
    """Where the store is to be."""

    state_dir: str


class Stored(NamedTuple):
    """A record of the log."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes


async def memory(place: Place) -> list[Gate]:
    """100,000 keys live and durable; then the same rows under a learner that knows none yet."""
    async with child("memory", Order(str(place.file("state"))), MEASURED) as process:
        said = await process.says()
    cold = {name: percentile(said[name], 0.99) * 1e3 for name in ("predict", "learn")}
    half = {name: percentile(said[name], 0.5) * 1e3 for name in cold}
    beside = ", ".join(
        f"{name} {half[name]:.3f} at p50 and {cold[name]:.3f} at p99" for name in cold
    )
    also = tuple((f"{name}_p50_ms", half[name]) for name in half)
    return [
        Gate("memory.bytes_per_key", said["bytes"] / KEYS, "<=", BYTES_MUST, f"{KEYS:,} keys"),
        Gate("cold_key.p99_ms", max(cold.values()), "<=", COLD_MUST_MS, beside, also),
        told(
            "memory.flush_us_per_changed_key",
            (said["encode_s"] + said["write_s"]) / said["rows"] * 1e6,
            f"encoding {said['encode_s'] / said['rows'] * 1e6:.1f}, "
            f"writing {said['write_s'] / said['rows'] * 1e6:.1f}",
        ),
    ]


def main(order: str) -> None:
    """The process."""
    path = Path(msgspec.json.decode(order, type=Order).state_dir)
    records = [
        Stored(offset, START_MS + offset, *event)
        for offset, event in enumerate(events_for(each_key(KEYS, 1)))
    ]
    store = ShardStore.open(path, create=True)
    learner = Learner(load_spec(spec_for("bench", "events", hot_keys_max=KEYS)), ORIGIN, store)
    gc.collect()
    before = resident_bytes()
    flush = Flush()
    for number in range(0, len(records), PER_FLUSH):
        learner.step(records[number : number + PER_FLUSH])
        flush.run(learner, store)
    gc.collect()
    grown = resident_bytes() - before
    assert learner.keys_hot == KEYS, learner.keys_hot
    store.close()
    del learner
    gc.collect()
    say({"bytes": grown, **flush.figures(), **cold(path, records)})
    os._exit(0)


class Flush:
    """Flushes, and what they took."""

    def __init__(self) -> None:
        self._rows = 0
        self._encode_s = 0.0
        self._write_s = 0.0

    def run(self, learner: Learner, store: ShardStore) -> None:
        began = perf_counter()
        rows = list(learner.changed())
        encoded = perf_counter()
        store.write(rows, META)
        learner.flushed()
        self._rows += len(rows)
        self._encode_s += encoded - began
        self._write_s += perf_counter() - encoded

    def figures(self) -> dict[str, float]:
        return {"rows": self._rows, "encode_s": self._encode_s, "write_s": self._write_s}


def cold(path: Path, records: Sequence[Stored]) -> dict[str, list[float]]:
    """Seconds of each first answer and of each first event, of keys that are rows only."""
    store = ShardStore.open(path, create=False)
    learner = Learner(load_spec(spec_for("bench", "events")), ORIGIN, store)
    chosen = records[:: KEYS // (2 * COLD)]
    asked, sent = chosen[::2], chosen[1::2]
    took = {
        "predict": list(timed(lambda r: learner.predict(_question(r), r.offset), asked)),
        "learn": list(timed(lambda r: learner.step([r]), sent)),
    }
    assert learner.keys_hot == COLD, learner.keys_hot
    store.close()
    return took


def timed(work: Callable[[Stored], Any], records: Sequence[Stored]) -> Iterator[float]:
    """Seconds of each; the first hundred are not told, as they load code."""
    for number, record in enumerate(records):
        began = perf_counter()
        work(record)
        if number >= 100:
            yield perf_counter() - began


def _question(record: Stored) -> Question:
    event = msgspec.json.decode(record.value)
    return Question(agent="bench", key=event["id"], features={n: event[n] for n in FEATURES})


def resident_bytes() -> int:
    """What the process has in memory. Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
