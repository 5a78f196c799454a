"""A hostile afternoon for the whole service: broker, worker, store, gRPC.

What is sent stands in the topics; so what must have become of it is folded from there.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from typing import Any, cast

from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.guard import REASONS
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows
from headrace.pipelines import reader
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.topics import Topics
from headrace.service import Service
from headrace.serving.client import AsyncClient
from headrace.views import Partition
from tests.hostile.events import Afternoon, Progress, nobody, plainly_bad
from tests.hostile.targets import TARGETS, Target, key_of, raw
from tests.hostile.wounds import Wounder
from tests.service.watched import quarantine

PART = 500
PATIENCE_S = 120.0


async def deploy_all(client: AsyncClient) -> None:
    for target in TARGETS.values():
        await client.deploy(target.text)


async def send_events(
    service: Service, count: int, seed: int | str, *, progress: Progress = nobody
) -> set[tuple[str, int]]:
    """Send `count` bad events, and a good one after each tenth, to all agents in turn.

    Returns the positions of those that are bad whatever a guard thinks.
    """
    bad_at: set[tuple[str, int]] = set()
    for number, target in enumerate(TARGETS.values()):
        wounder = Wounder(target, f"{seed}/{number}")
        topic = target.spec.source.topic
        many = count // len(TARGETS) + (number < count % len(TARGETS))
        events: list[Outgoing] = []
        for offset in range(many + many // 10 + 50):
            key: bytes | None
            value: bytes | None
            if offset < 50 or offset % 11 == 0:
                key, value = key_of(offset).encode(), raw(target.good(offset))
            else:
                bad = wounder.spoilt(offset) if offset % 4 == 0 else wounder.bad(offset)
                key, value = bad.key, bad.value
                if bad.how != "spoilt" or plainly_bad(target, key, value):
                    bad_at.add((topic, offset))
            # Kafka takes records without a key or a value, though the service sends none.
            nothing = cast("tuple[bytes, bytes]", (key, value))
            events.append(Outgoing(topic, *nothing, 1_700_000_000_000 + offset))
        for begin in range(0, len(events), PART):
            await service.events.send_all(events[begin : begin + PART])
            progress(len(events[begin : begin + PART]))
    return bad_at


async def check_service(
    service: Service, client: AsyncClient, bad_at: set[tuple[str, int]]
) -> Afternoon:
    """Wait until all is learned; compare keys, decisions and quarantine with the topics."""
    findings: list[str] = []
    codes: Counter[str] = Counter()
    sent = 0
    for target in TARGETS.values():
        folded, records = await _folded(service, target)
        sent += len(records)
        await _learned(client, target.spec.agent, len(records))
        mine = await quarantine(client, target.spec.agent)
        codes.update(q["reason"] for q in mine)
        findings += quarantine_findings(target, mine, records, bad_at)
        findings += await _key_findings(client, target, folded)
    return Afternoon(sent, codes, findings)


def quarantine_findings(
    target: Target, mine: list[dict[str, Any]], records: list[Row], bad_at: set[tuple[str, int]]
) -> list[str]:
    topic = target.spec.source.topic
    times = Counter(q["position"]["offset"] for q in mine)
    found = [f"{topic}@{offset} is in quarantine {n} times" for offset, n in times.items() if n > 1]
    found += [
        f"{topic}@{offset} is bad and not in quarantine: {records[offset]!r}"
        for where, offset in sorted(bad_at)
        if where == topic and not times[offset]
    ]
    for q in mine:
        record = records[q["position"]["offset"]]
        if q["reason"] not in REASONS:
            found.append(f"{q['reason']!r} is not a reason: {record!r}")
        value = None if q["value"] is None else base64.b64decode(q["value"])
        if value != record.value and not q["truncated"]:
            found.append(f"quarantine holds other bytes than {record!r}")
    return found


async def _key_findings(client: AsyncClient, target: Target, folded: Learner) -> list[str]:
    agent = target.spec.agent
    return [
        f"key {key!r} of {agent} is not the fold of its log"
        for key in sorted({key_of(number) for number in range(40)})
        if (await client.key(agent, key)).digest != folded.describe(key, 0).digest
    ]


async def _folded(service: Service, target: Target) -> tuple[Learner, list[Row]]:
    """One learner over all that stands in the topic, and that."""
    topic, spec = target.spec.source.topic, target.spec
    where = [Partition(topic, 0)]
    records = [
        Row(r.offset, r.timestamp, r.key, r.value)
        async for r in reader.stored(service.broker.bootstrap, where)
    ]
    learner = Learner(spec, Origin(spec.agent, 1, 1, topic, 0), MemoryRows())
    for begin in range(0, len(records), PART):
        learner.step(records[begin : begin + PART])
        await asyncio.sleep(0)
    return learner, records


async def _learned(client: AsyncClient, agent: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            (shard,) = (await client.agent(agent)).shards
            # What is durable has its decisions and its quarantined events in their topics.
            if shard.accepted + shard.quarantined >= count and shard.durable_offset >= count:
                return
            await asyncio.sleep(0.05)


async def make_topics(topics: Topics) -> None:
    """The agents' source topics, of one partition each, so that offsets are known beforehand."""
    for target in TARGETS.values():
        await topics.ensure(target.spec.source.topic, partitions=1, ours=False)
