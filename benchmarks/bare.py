"""River's bare loop: what is left when the service is taken away, in a process of its own.

Per event: decode by msgspec, look the model up by its key, `predict_proba_one`, `learn_one`. No
broker, no decision, no state. The models are made before the time starts and the collector is told
to leave them alone: it is as quick as it can be.
"""

from __future__ import annotations

import gc
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import msgspec
from benchmarks.processes import child, say
from benchmarks.workload import saved
from river import linear_model, preprocessing


class Order(msgspec.Struct):
    """The file of events."""

    events: str


class Speed(NamedTuple):
    """How quickly events went through."""

    events: int
    seconds: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Events a second, by the clock on the wall."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per event."""
        return self.cpu_s / self.events * 1e6


async def bare_speed(events: Path, core: int) -> Speed:
    """One run of the loop in a fresh process."""
    async with child("bare", Order(str(events)), core) as process:
        said = await process.says()
    return Speed(said["events"], said["seconds"], said["cpu_s"])


def main(order: str) -> None:
    """The process."""
    values = [value for _, value in saved(Path(msgspec.json.decode(order, type=Order).events))]
    keys = {msgspec.json.decode(value)["id"] for value in values}
    models = {key: new_model() for key in keys}
    gc.collect()
    gc.freeze()
    began, cpu = perf_counter(), process_time()
    run(values, models)
    say(
        {
            "events": len(values),
            "seconds": perf_counter() - began,
            "cpu_s": process_time() - cpu,
        }
    )


def new_model() -> Any:
    """The model as River builds it."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def run(values: list[bytes], models: dict[str, Any]) -> None:
    """The loop itself."""
    decode = msgspec.json.Decoder().decode
    for value in values:
        event = decode(value)
        model = models[event.pop("id")]
        truth = event.pop("y")
        model.predict_proba_one(event)
        model.learn_one(event, truth)
