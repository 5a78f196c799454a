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
from benchmarks.processes import MEASURED, child, say
from benchmarks.workload import saved
from river import linear_model, preprocessing


class Order(msgspec.Struct):
    """The file of events; `apart`: tell what each part of the loop takes, too."""

    events: str
    apart: bool = False


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
    def share(self) -> float:
        """Of the core's time; less than all where others ran on it, or something was waited for."""
        return self.cpu_s / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per event."""
        return self.cpu_s / self.events * 1e6


async def bare_parts(events: Path) -> dict[str, float]:
    """Microseconds of CPU per event of each part of the loop, in a process of its own."""
    async with child("bare", Order(str(events), apart=True), MEASURED) as process:
        said = await process.says()
    return {part: said[part] / said["events"] * 1e6 for part in ("decode", "predict", "learn")}


async def bare_speed(events: Path) -> Speed:
    """One run of the loop in a fresh process."""
    async with child("bare", Order(str(events)), MEASURED) as process:
        said = await process.says()
    return Speed(said["events"], said["seconds"], said["cpu_s"])


def main(order: str) -> None:
    """The process."""
    given = msgspec.json.decode(order, type=Order)
    values = [value for _, value in saved(Path(given.events))]
    keys = {msgspec.json.decode(value)["id"] for value in values}
    models = {key: new_model() for key in keys}
    gc.collect()
    gc.freeze()
    began, cpu = perf_counter(), process_time()
    run(values, models)
    told = {"events": len(values), "seconds": perf_counter() - began, "cpu_s": process_time() - cpu}
    say({**told, **apart(values, models)} if given.apart else told)


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


def apart(values: list[bytes], models: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of decoding, of predicting and of learning all events, one after the other."""
    decode = msgspec.json.Decoder().decode
    began = process_time()
    events = [decode(value) for value in values]
    decoded = process_time()
    asked = [(models[event.pop("id")], event.pop("y"), event) for event in events]
    gc.collect()
    gc.freeze()
    ready = process_time()
    for model, _, x in asked:
        model.predict_proba_one(x)
    predicted = process_time()
    for model, truth, x in asked:
        model.learn_one(x, truth)
    return {
        "decode": decoded - began,
        "predict": predicted - ready,
        "learn": process_time() - predicted,
    }
