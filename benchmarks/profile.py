"""Where the time of one event goes: microseconds of CPU by stage, in the running service.

The run is that of `end_to_end`, with a sampler in the worker (`benchmarks.stages`); it costs some
per cent itself, so the speed of this run is not told.
"""

from __future__ import annotations

from benchmarks.bare import bare_parts
from benchmarks.endtoend import Run, cold_run, zipf_run
from benchmarks.gates import Gate, told
from benchmarks.place import Place


async def profile(place: Place) -> list[Gate]:
    """1,000 keys by Zipf's law, all of them hot."""
    return await stages("profile", await zipf_run(place, await place.memory(), "stages"))


async def profile_kafka(place: Place) -> list[Gate]:
    """The same on Apache Kafka."""
    return await stages("profile_kafka", await zipf_run(place, await place.kafka(), "stages"))


async def profile_cold(place: Place) -> list[Gate]:
    """100,000 keys, most of them rows on disk."""
    return await stages("profile_cold", await cold_run(place, await place.memory(), "stages"))


async def stages(name: str, measured: Run) -> list[Gate]:
    """The stages, the dearest first, and their sum."""
    sampled = measured.said["meters"]["stages"]
    events = measured.speed.events
    per_event = {stage: cpu_s / events * 1e6 for stage, cpu_s in sampled["cpu_s"].items()}
    total = sum(per_event.values())
    gates = [
        told(f"{name}.{stage}", us, f"{us / total:.1%}")
        for stage, us in sorted(per_event.items(), key=lambda each: -each[1])
    ]
    bare = sum(each.cpu_us for each in measured.bare) / 2
    parts = await bare_parts(measured.events)
    apart = ", ".join(f"{part} {us:.1f}" for part, us in parts.items())
    beside = f"bare loop {bare:.1f} ({apart}); {sampled['samples']:,} samples"
    return [*gates, told(f"{name}.all stages", total, beside)]
