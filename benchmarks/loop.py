"""The longest time for which a worker's event loop did not turn, with 100,000 live keys.

They are learned, flushed and looked at by the collector meanwhile, as it happens by itself.
"""

from __future__ import annotations

from benchmarks.endtoend import AGENT, check, serving
from benchmarks.gates import Gate
from benchmarks.place import Place
from benchmarks.topics import Lent, append, make_topic
from benchmarks.worker import Order
from benchmarks.workload import each_key, spec_for, uniform_keys

from headrace.errors import StateError

KEYS = 100_000
AGAIN = 50_000  # events of them when all are live
MUST_MS, AIM_MS = 50.0, 20.0


async def loop(place: Place) -> list[Gate]:
    """Every key once, then half of them again."""
    broker = await place.memory()
    events = place.events([*each_key(KEYS, 1), *uniform_keys(AGAIN, KEYS)])
    topic = place.name("events")
    await make_topic(broker, topic)
    await append(broker, topic, events)
    order = Order(
        broker=Lent.of(broker),
        state_dir=str(place.file("state")),
        agent=AGENT,
        expect=len(events),
        meters=("heartbeat",),
    )
    async with serving(order) as (process, client):
        await client.deploy(spec_for(AGENT, topic, hot_keys_max=KEYS))
        said = await process.says()
        await check(broker, topic, len(events), said)
    if said["keys_hot"] != KEYS:
        raise StateError(f"{said['keys_hot']:,} keys are live, not {KEYS:,}")
    beat = said["meters"]["heartbeat"]
    beside = (
        f"by CPU {beat['longest_cpu_ms']:.1f} ms; {beat['full_collections']} full collections, "
        f"longest {beat['longest_collection_ms']:.1f} ms; "
        f"{said['events'] / said['seconds']:,.0f} events/s"
    )
    also = tuple((name, float(value)) for name, value in beat.items() if name != "longest_ms")
    longest = beat["longest_ms"]
    name = "loop.longest_stop_ms_1e5_keys"
    return [Gate(name, longest, "<=", MUST_MS, beside, also, AIM_MS)]
