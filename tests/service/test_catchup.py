"""A shard far behind the others of its partition keeps none of them waiting."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from headrace.pipelines import reader
from headrace.pipelines.broker import Broker
from headrace.pipelines.shard import Shard
from headrace.views import Partition
from tests.service.conftest import Running, Start
from tests.service.test_full_disk import noted
from tests.service.test_kafka import cut
from tests.service.test_rollback import digests, learner_over, taught
from tests.service.test_service import KEYS, events, learned, spec

OLD = 50_000


def shard_of(running: Running, agent: str, topic: str) -> Shard:
    """The shard itself."""
    shard = running.service.worker.shards.find(agent, Partition(topic, 0))
    assert shard is not None
    return shard


def lines(caplog: pytest.LogCaptureFixture, message: str, agent: str) -> list[dict[str, object]]:
    """The fields of all log lines of that name about an agent."""
    found = [vars(record)["fields"] for record in caplog.records if record.message == message]
    return [one for one in found if one["agent"] == agent]


def rewinds(caplog: pytest.LogCaptureFixture, topic: str) -> list[int]:
    """From where the stream has gone back to."""
    told = [record.message for record in caplog.records if record.message.startswith("rewind ")]
    return [int(each.rpartition("=")[2]) for each in told if f"topic={topic} " in each]


async def decided(running: Running, agent: str, topic: str, count: int) -> list[int]:
    """The offsets that the topic of decisions tells of, in its order, when there are `count`: read
    from the log, as tens of thousands take long through the service.
    """
    made: list[int] = []
    bootstrap, emitted = running.service.worker.broker.bootstrap, f"decisions.{topic}.{agent}"
    async with asyncio.timeout(60):
        while len(made) < count:
            records = reader.stored(bootstrap, [Partition(emitted, 0)])
            values = [msgspec.json.decode(record.value) async for record in records]
            made = [value["position"]["offset"] for value in values]
    return made


async def test_a_second_agent_on_a_topic_needs_no_subscription(start: Start) -> None:
    """It takes effect at once and learns the topic from its beginning, the first undisturbed."""
    async with start() as (service, client):
        await client.deploy(spec("first", "t-two"))
        await service.events.send_all(events("t-two", range(40)))
        await learned(client, "first", 40)
        effect = await client.deploy(spec("second", "t-two"))
        assert [p.offset for p in effect.positions] == [0]
        second = await learned(client, "second", 40)
        assert second.shards[0].learned == 40
        assert (await client.agent("first")).shards[0].learned == 40


async def test_who_learns_old_records_keeps_nobody_waiting(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """While a new agent learns what the topic has had, another decides on what comes; and a stop in
    the middle of that costs nothing but its time.
    """
    caplog.set_level(logging.INFO)
    topic, late = "t-late", spec("latecomer", "t-late")
    async with start() as running:
        client = running.client
        sent = await taught(running, "early", spec("early", topic), OLD)
        await client.deploy(late)
        view = await noted(client, "latecomer", "^catches up with a reader of its own: t-late")
        assert (view.state, view.note.endswith(" behind")) == ("running", True)
        answer = await client.predict("latecomer", key="ada", features={"power": 3.0})
        assert answer.standing.behind == OLD - answer.standing.offset
        sent += events(topic, range(OLD, OLD + 10))
        await running.service.events.send_all(sent[OLD:])
        await learned(client, "early", OLD + 10)
        behind = shard_of(running, "latecomer", topic)
        assert behind.next_offset < OLD - 10_000
        assert (behind.apart, rewinds(caplog, topic)) == (True, [])
    assert behind.durable_offset == behind.next_offset
    async with start() as running:
        client = running.client
        await learned(client, "latecomer", OLD + 10)
        assert [line["next_offset"] for line in lines(caplog, "shard.apart", "latecomer")] == [
            0,
            behind.next_offset,
        ]
        await noted(client, "latecomer", "")
        sent += events(topic, range(OLD + 10, OLD + 20))
        await running.service.events.send_all(sent[OLD + 10 :])
        for agent in ("early", "latecomer"):
            await learned(client, agent, OLD + 20)
        never = learner_over("latecomer", late, enumerate(sent))
        there = await digests(client, "latecomer")
        assert there == {key: never.describe(key, OLD + 20).digest for key in KEYS}
        made = await decided(running, "latecomer", topic, OLD + 20)
    assert made == list(range(OLD + 20))


async def test_a_shard_restored_from_far_back_catches_up(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest snapshot of one agent is older than that of another: each begins at its own."""
    caplog.set_level(logging.INFO)
    where, state = f"file://{tmp_path / 'repository'}", {"snapshot_s": 3600}
    old, new = (spec(name, "t-far-behind", state=state) for name in ("far-old", "far-new"))
    async with start(snapshots=where) as running:
        client = running.client
        await client.deploy(new)
        sent = await taught(running, "far-old", old, 1_000)
        await client.create_snapshot("far-old", "one")
        sent += events("t-far-behind", range(1_000, 15_000))
        await running.service.events.send_all(sent[1_000:])
        for agent in ("far-old", "far-new"):
            await learned(client, agent, 15_000)
        await client.create_snapshot("far-new", "one")
        before = await digests(client, "far-old")
    async with start(state="empty", snapshots=where) as running:
        await learned(running.client, "far-old", 15_000)
        assert await digests(running.client, "far-old") == before
        made = await decided(running, "far-old", "t-far-behind", 15_000)
        assert made == list(range(15_000))
    (apart,) = lines(caplog, "shard.apart", "far-old")
    (joined,) = lines(caplog, "shard.joined", "far-old")
    assert (apart["next_offset"], apart["behind"]) == (1_000, 14_000)
    assert 14_000 <= int(str(joined["next_offset"])) <= 15_000
    assert lines(caplog, "shard.apart", "far-new") == []


async def test_a_log_that_is_cut_above_who_catches_up_is_told(start: Start, kafka: Broker) -> None:
    """As in the stream: the agent is given up, with what to do, and the others go on."""
    async with start() as running:
        client = running.client
        await taught(running, "uncut", spec("uncut", "t-cut-late"), OLD)
        await client.deploy(spec("cut-late", "t-cut-late"))
        await noted(client, "cut-late", "^catches up")
        await cut(kafka, "t-cut-late", OLD)
        view = await noted(client, "cut-late", "that were never learned. Delete the agent")
        assert view.state == "failed"
        await running.service.events.send_all(events("t-cut-late", range(OLD, OLD + 10)))
        await learned(client, "uncut", OLD + 10)
