"""What a rollback withdraws is published, on a real broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from aiokafka.admin import NewTopic

from headrace.models.spec import load_spec
from headrace.pipelines import reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.decisionlog import DecisionLog, Stored
from headrace.pipelines.reader import LogSpan
from headrace.pipelines.withdrawing import Withdrawing
from headrace.serving.client import AsyncClient
from headrace.views import Partition, RollbackRequest, RollbackView
from tests.service.conftest import Start, administering
from tests.service.test_rollback import more, taught
from tests.service.test_service import KEYS, events, learned, spec
from tests.service.watched import decisions

WAIT_S = 20.0


async def published(client: AsyncClient, control_id: str) -> RollbackView:
    """The rollback, when all that it withdrew is published."""
    async with asyncio.timeout(WAIT_S):
        while True:
            view = await client.get_rollback(control_id)
            if view.published == view.partitions:
                return view
            await asyncio.sleep(0.1)


async def told(client: AsyncClient, agent: str) -> list[dict[str, Any]]:
    watch = client.watch_withdrawn(agent, from_start=True, follow=False)
    return [record async for record in watch]


def folded(records: list[dict[str, Any]]) -> dict[str, str]:
    """As docs/records.md says: of each decision, the fate of the highest epoch."""
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        name = record.get("decision")
        if name is not None and record["epoch"] >= newest.get(name, record)["epoch"]:
            newest[name] = record
    return {name: record["fate"] for name, record in newest.items()}


async def test_an_undo_reinstates_what_its_rollback_withdrew(start: Start) -> None:
    """Each decision's id, once and in order, and none of their keys; a boundary for each epoch
    stands in the topic of decisions; and a restart publishes nothing again.
    """
    async with start() as running:
        client = running.client
        sent = await taught(running, "fated", spec("fated", "t-fated"), 30)
        await client.create_snapshot("fated", "good")
        await more(running, "fated", sent, 60)
        asked = RollbackRequest(agent="fated", snapshot_id="fated.good")
        back = await published(client, (await client.rollback(asked)).control_id)
        assert (back.withdrawn, back.reinstated) == (30, 0)
        await more(running, "fated", sent, 70)
        undo = await published(client, (await client.undo_rollback("fated")).control_id)
        assert (undo.withdrawn, undo.reinstated) == (10, 30)
        records = await told(client, "fated")
        assert [r["fate"] for r in records] == [
            *["withdrawn"] * 30, "complete", *["reinstated"] * 30, *["withdrawn"] * 10, "complete",
        ]  # fmt: skip
        first = [f"fated/1/t-fated/0/{n}" for n in range(30, 60)]
        second = [f"fated/2/t-fated/0/{n}" for n in range(60, 70)]
        assert folded(records) == dict.fromkeys(first, "reinstated") | dict.fromkeys(
            second, "withdrawn"
        )
        texts = [str({**record, "control_id": ""}) for record in records]  # hex, as "ada" is
        assert not any(key in text for text in texts for key in KEYS)
        topic = Partition(load_spec(spec("fated", "t-fated")).emit_topic, 0)
        stored = reader.stored(running.service.worker.broker.bootstrap, [topic])
        decided = [msgspec.json.decode(record.value) async for record in stored]
        boundaries = [r for r in decided if r["cause"] == "boundary"]
        assert [(r["epoch"], r["position"]["offset"]) for r in boundaries] == [(2, 60), (3, 70)]
        assert [decided.index(boundary) for boundary in boundaries] == [60, 71]
        watch = client.watch_decisions("fated", from_start=True, follow=False)
        assert [record["epoch"] async for record in watch] == [*[1] * 60, *[2] * 10]
    async with start() as running:
        await learned(running.client, "fated", 70)
        worker = running.service.worker
        assert not list(worker.controls.registry.owing())
        await Withdrawing(worker.withdrawn_topic, worker.controls, worker.shards, worker).look()
        assert await told(running.client, "fated") == records
        assert (await running.client.get_rollback(back.control_id)).withdrawn == 30


async def test_each_partition_tells_its_own(start: Start, broker: Broker) -> None:
    """Of some keys in two partitions: only theirs, and one record for each that closes it."""
    text = spec("fated-two", "t-fated-two")
    async with administering(broker) as admin:
        await admin.create_topics([NewTopic(load_spec(text).source.topic, 2, 1)])
    async with start() as running:
        client = running.client
        await client.deploy(text)
        await running.service.events.send_all(events("t-fated-two", range(40)))
        await learned(client, "fated-two", 40)
        await client.create_snapshot("fated-two", "good")
        await running.service.events.send_all(events("t-fated-two", range(40, 100)))
        await learned(client, "fated-two", 100)
        decided = [
            each for each in await decisions(client, "fated-two") if each["cause"] == "event"
        ]
        keys = KEYS[:2]
        asked = RollbackRequest(agent="fated-two", snapshot_id="fated-two.good", keys=tuple(keys))
        back = await published(client, (await client.rollback(asked)).control_id)
        snapshot = await client.snapshot("fated-two.good")
        base = {shard.partition: shard.next_offset for shard in snapshot.shards}
        must = {
            record["id"]
            for record in decided
            if record["key"] in keys
            and record["position"]["offset"] >= base[record["position"]["partition"]]
        }
        records = await told(client, "fated-two")
        assert must
        assert folded(records) == dict.fromkeys(must, "withdrawn")
        assert back.withdrawn == len(must)
        closing = [r for r in records if r["fate"] == "complete"]
        assert Counter(r["position"]["partition"] for r in closing) == {0: 1, 1: 1}
        assert sum(r["withdrawn"] for r in closing) == len(must)
        assert {r["partitions"] for r in closing} == {2}


async def test_a_stop_in_the_middle_of_it_leaves_nothing_behind(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection, whatever was under way; and the next start does it again, to the end."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "told-late", spec("told-late", "t-told-late"), 30)
        await client.create_snapshot("told-late", "good")
        await more(running, "told-late", sent, 60)
        asked = RollbackRequest(agent="told-late", snapshot_id="told-late.good")
        back = await client.rollback(asked)
    pieces, begun = DecisionLog.pieces, asyncio.Event()

    async def held_up(self: DecisionLog, span: LogSpan) -> AsyncGenerator[list[Stored], None]:
        async with aclosing(pieces(self, span)) as there:
            async for piece in there:
                begun.set()
                await asyncio.Event().wait()  # until the stop
                yield piece

    with monkeypatch.context() as patched:
        patched.setattr(DecisionLog, "pieces", held_up)
        async with start():
            await asyncio.wait_for(begun.wait(), WAIT_S)
    async with start() as running:
        assert (await published(running.client, back.control_id)).withdrawn == 30
        assert len(folded(await told(running.client, "told-late"))) == 30
