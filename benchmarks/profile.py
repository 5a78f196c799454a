"""Where the time of one event goes: microseconds of CPU by stage, in the running service.

The run is that of `end_to_end`, with a sampler in the worker (`benchmarks.stages`); it costs some
per cent itself, so the speed of this run is not told.
"""

from __future__ import annotations

from benchmarks.endtoend import zipf_run
from benchmarks.gates import Gate, told
from benchmarks.place import Place


async def profile(place: Place) -> list[Gate]:
    """The stages, the dearest first, and their sum."""
    measured = await zipf_run(place, await place.memory(), "stages")
    sampled = measured.said["meters"]["stages"]
    events = measured.speed.events
    per_event = {name: cpu_s / events * 1e6 for name, cpu_s in sampled["cpu_s"].items()}
    total = sum(per_event.values())
    gates = [
        told(f"profile.{name}", us, f"{us / total:.1%}")
        for name, us in sorted(per_event.items(), key=lambda stage: -stage[1])
    ]
    bare = sum(each.cpu_us for each in measured.bare) / 2
    beside = f"bare loop {bare:.1f}; {sampled['samples']:,} samples"
    return [*gates, told("profile.all stages", total, beside)]
