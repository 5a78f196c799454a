"""What Kafka does to a log: transactions, compaction, retention, deletion, time, codecs.

Run by `make test-kafka`; the embedded broker lacks most of it, so there these tests are skipped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError

from headrace.config import Config
from headrace.errors import StateError, UnavailableError
from headrace.pipelines.broker import Broker
from headrace.pipelines.feeds import Outgoing
from headrace.service import Service
from headrace.serving.client import AsyncClient
from headrace.views import AgentView
from tests.service.conftest import Start, administering, make_topic
from tests.service.test_service import events, learned, spec
from tests.service.watched import decisions


async def send(kafka: Broker, sent: list[Outgoing], **settings: object) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, **settings) as producer:
        await asyncio.gather(
            *[
                await producer.send(
                    event.topic, key=event.key, value=event.value, timestamp_ms=event.timestamp_ms
                )
                for event in sent
            ]
        )


async def cut(kafka: Broker, topic: str, before: int) -> None:
    """Delete the records below an offset, as retention does in time."""
    async with administering(kafka) as admin:
        at = TopicPartition(topic, 0)
        await admin.delete_records({at: RecordsToDelete(before_offset=before)})


async def make_anew(kafka: Broker, topic: str) -> None:
    async with administering(kafka) as admin:
        await admin.delete_topics([topic])
        async with asyncio.timeout(10):
            while topic in await admin.list_topics():  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.05)
    with suppress(TopicAlreadyExistsError):  # a running service asks for it, and so makes it
        await make_topic(kafka, topic)


async def offsets(kafka: Broker, topic: str) -> list[int]:
    """The offsets that the log still holds."""
    at = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([at])
        end = (await consumer.end_offsets([at]))[at]
        found: list[int] = []
        while await consumer.position(at) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found.extend(record.offset for record in records)
        return found


async def aborted(producer: AIOKafkaProducer, sent: list[Outgoing]) -> None:
    await producer.begin_transaction()
    for event in sent:
        await producer.send(event.topic, key=event.key, value=event.value)
    await producer.flush()
    await producer.abort_transaction()


async def committed(producer: AIOKafkaProducer, sent: list[Outgoing]) -> None:
    async with producer.transaction():
        for event in sent:
            await producer.send(event.topic, key=event.key, value=event.value)


async def test_aborted_records_are_not_learned(start: Start, kafka: Broker) -> None:
    """Of a transactional producer only what it committed is learned, over restarts too."""
    sent = events("t-aborted", range(12))
    await make_topic(kafka, "t-aborted")
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id="t-aborted"
    ) as producer:
        async with start() as (_, client):
            await client.deploy(spec("sober", "t-aborted"))
            await committed(producer, sent[:3])  # offsets 0-2, marker 3
            await aborted(producer, sent[3:6])  # 4-6, marker 7
            await committed(producer, sent[6:9])  # 8-10, marker 11
            view = await learned(client, "sober", 6)
            assert view.shards[0].learned == 6
        await aborted(producer, sent[3:6])  # 12-14, marker 15
        async with start() as (_, client):
            await committed(producer, sent[9:12])  # 16-18
            view = await learned(client, "sober", 9)
            assert view.shards[0].learned == 9
            made = await decisions(client, "sober")
    assert [d["position"]["offset"] for d in made] == [0, 1, 2, 8, 9, 10, 16, 17, 18]


async def test_holes_of_compaction_are_passed(start: Start, kafka: Broker) -> None:
    """A compacted log has gaps that will never be filled: the rest is learned, and no more."""
    await make_topic(
        kafka,
        "t-compacted",
        cleanup_policy="compact",
        segment_bytes="1048576",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.001",
        min_compaction_lag_ms="0",
    )
    await send(kafka, events("t-compacted", range(200)))
    # A segment is closed, and so may be compacted, when a record of a later time comes.
    await send(kafka, events("t-compacted", range(300, 303)))
    async with asyncio.timeout(40):
        while len(left := await offsets(kafka, "t-compacted")) > 100:  # noqa: ASYNC110
            await asyncio.sleep(0.3)
    assert left[-1] > len(left) + 100
    async with start() as (_, client):
        await client.deploy(spec("holes", "t-compacted"))
        await send(kafka, events("t-compacted", range(400, 403)))
        async with asyncio.timeout(20):
            while (  # noqa: ASYNC110
                view := await client.agent("holes")
            ).shards[0].next_offset < left[-1] + 4:
                await asyncio.sleep(0.05)
        made = [d["position"]["offset"] for d in await decisions(client, "holes")]
    assert made[-3:] == [left[-1] + 1, left[-1] + 2, left[-1] + 3]
    # The cleaner may have come once more in between, but nothing is learned that is not there.
    assert set(made[:-3]) <= set(left)
    assert view.shards[0].learned == len(made)


async def test_a_start_at_a_time_begins_there(start: Start, kafka: Broker) -> None:
    """`source.start` as a time: the first record that is not older than that."""
    await make_topic(kafka, "t-timed")
    sent = events("t-timed", range(20))  # one a second
    await send(kafka, sent)
    text = msgspec.json.decode(spec("timed", "t-timed"))
    text["source"]["start"] = "2023-11-14T22:13:31.500Z"  # 11.5 s after the first
    async with start() as (_, client):
        effect = await client.deploy(msgspec.json.encode(text))
        assert [p.offset for p in effect.positions] == [12]
        assert (await learned(client, "timed", 8)).shards[0].learned == 8


async def test_every_codec_is_learned(start: Start, kafka: Broker) -> None:
    """Batches of every compression are read, one after the other in one log."""
    codecs = (None, "gzip", "snappy", "lz4", "zstd")
    await make_topic(kafka, "t-codecs")
    for codec in codecs:
        await send(kafka, events("t-codecs", range(30)), compression_type=codec)
    async with start() as (_, client):
        await client.deploy(spec("codecs", "t-codecs"))
        view = await learned(client, "codecs", 150)
    assert (view.shards[0].learned, view.shards[0].quarantined) == (150, 0)


@pytest.mark.parametrize("how", ["retention", "anew", "anew and longer"])
async def test_a_log_that_does_not_go_on_is_refused(start: Start, kafka: Broker, how: str) -> None:
    """What retention cut unseen, and a topic made anew under the old name, is never just skipped:
    the agent stands still and says what to do; deployed again, it learns what is there.
    """
    topic = agent = "gone-" + how.replace(" ", "-")
    await make_topic(kafka, topic)
    async with start() as (service, client):
        await client.deploy(spec(agent, topic))
        await service.events.send_all(events(topic, range(10)))
        await learned(client, agent, 10)
    if how == "retention":
        await send(kafka, events(topic, range(10, 20)))
        await cut(kafka, topic, 15)
        said, left = "retention has cut 5 records", 5
    else:
        await make_anew(kafka, topic)
        left = 4 if how == "anew" else 30
        await send(kafka, events(topic, range(100, 100 + left)))
        said = "the topic was made anew"
    async with start() as (service, client):
        with pytest.raises(StateError, match=rf"{said}.*Delete the agent and deploy it again"):
            await client.predict(agent, key="ada", features={"power": 1.0})
        await client.delete(agent)
        await client.deploy(spec(agent, topic))
        view = await learned(client, agent, left)
        assert view.shards[0].learned == left


async def test_a_log_cut_below_the_position_is_fine(start: Start, kafka: Broker) -> None:
    """Retention may take what has been learned already."""
    await make_topic(kafka, "t-trimmed")
    async with start() as (service, client):
        await client.deploy(spec("trimmed", "t-trimmed"))
        await service.events.send_all(events("t-trimmed", range(10)))
        await learned(client, "trimmed", 10)
    await cut(kafka, "t-trimmed", 10)
    async with start() as (service, client):
        await service.events.send_all(events("t-trimmed", range(10, 15)))
        view = await learned(client, "trimmed", 15)
        assert view.shards[0].learned == 15


@pytest.mark.parametrize("left", [3, 30])
async def test_a_topic_made_anew_under_a_running_service_is_refused(
    start: Start, kafka: Broker, left: int
) -> None:
    """Shorter or longer than what was learned: its agent stops and says what to do, the others go
    on; deployed again, it learns the new log.
    """
    topic = agent = f"swapped-{left}"
    await make_topic(kafka, topic)
    async with start() as (service, client):
        await client.deploy(spec("bystander", f"stays-{left}"))
        await client.deploy(spec(agent, topic))
        await service.events.send_all(events(topic, range(10)))
        await learned(client, agent, 10)
        await make_anew(kafka, topic)
        await send(kafka, events(topic, range(100, 100 + left)))
        view = await failed(client, agent)
        assert re.search("made anew.*Delete the agent and deploy it again", view.note)
        await service.events.send_all(events(f"stays-{left}", range(10)))
        await learned(client, "bystander", 10)
        await client.delete(agent)
        await client.deploy(spec(agent, topic))
        assert (await learned(client, agent, left)).shards[0].learned == left
        assert not service.failed.done()


async def failed(client: AsyncClient, agent: str) -> AgentView:
    async with asyncio.timeout(30):
        while True:
            with suppress(UnavailableError):
                if (view := await client.agent(agent)).state == "failed":
                    return view
            await asyncio.sleep(0.05)


async def test_a_log_that_is_cut_above_a_running_reader_is_refused(
    start: Start, kafka: Broker
) -> None:
    """What a slow agent has not read yet and retention takes is never just skipped: the agent
    stops and says so, the others go on.
    """
    await make_topic(kafka, "t-overtaken")
    async with start() as (service, client):
        await client.deploy(spec("bystander", "t-beside"))
        await client.deploy(spec("overtaken", "t-overtaken"))
        await service.events.send_all(events("t-overtaken", range(10)))
        await learned(client, "overtaken", 10)
        async with AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, transactional_id="t-overtaken"
        ) as producer:
            # Nobody reads beyond a transaction that is open: so the agent stays at offset 10.
            await producer.begin_transaction()
            for event in events("t-overtaken", range(10, 20)):
                await producer.send(event.topic, key=event.key, value=event.value)
            await producer.flush()
            await cut(kafka, "t-overtaken", 15)
            await producer.commit_transaction()
        view = await failed(client, "overtaken")
        assert "retention has cut 5 records that were never learned" in view.note
        await service.events.send_all(events("t-beside", range(10)))
        await learned(client, "bystander", 10)
        await client.delete("overtaken")
        await client.deploy(spec("overtaken", "t-overtaken"))
        assert (await learned(client, "overtaken", 5)).shards[0].learned == 5
        assert not service.failed.done()


async def test_an_event_that_the_quarantine_could_not_hold_is_cut(
    start: Start, kafka: Broker
) -> None:
    """A topic may allow larger records than the quarantine does: the stream goes on."""
    await make_topic(kafka, "t-huge", max_message_bytes=str(8 << 20))
    huge = Outgoing("t-huge", b"ada", b'{"id":"ada","x":"' + b"x" * (3 << 20) + b'"}', 1)
    async with start() as (_, client):
        await client.deploy(spec("huge", "t-huge"))
        await send(kafka, [huge], max_request_size=8 << 20)
        await send(kafka, events("t-huge", range(3)))
        view = await learned(client, "huge", 4)
        assert (view.shards[0].quarantined, view.shards[0].learned) == (1, 3)


@asynccontextmanager
async def service_in(path: Path) -> AsyncIterator[tuple[Service, AsyncClient]]:
    """A service with a local broker of its own, all of it below `path`."""
    service = Service(
        Config(
            broker=f"local:{path / 'broker'}",
            state_dir=path / "state",
            grpc_port=0,
            metrics_port=None,
        )
    )
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            yield service, client
    finally:
        await service.stop()


@pytest.mark.usefixtures("kafka")
async def test_a_restart_with_its_own_broker_rebuilds_everything(tmp_path: Path) -> None:
    """`--broker local:DIR`: agents come back from the control log, keys as they were, and both
    go on; no topic has to be made by hand.
    """
    async with service_in(tmp_path) as (service, client):
        await client.deploy(spec("retained", "t-retained"))
        await service.events.send_all(events("t-retained", range(20)))
        await learned(client, "retained", 20)
        before = (await client.key("retained", "ada")).digest
    async with service_in(tmp_path) as (service, client):
        assert [a.name for a in await client.agents()] == ["retained"]
        await learned(client, "retained", 20)
        assert (await client.key("retained", "ada")).digest == before
        await service.events.send_all(events("t-retained", range(20, 30)))
        view = await learned(client, "retained", 30)
        assert view.shards[0].learned == 30
        made = await decisions(client, "retained")
    assert [d["position"]["offset"] for d in made] == list(range(30))


@pytest.mark.usefixtures("kafka")
async def test_a_source_that_gains_partitions_ends_its_agent_alone(
    start: Start, broker: Broker
) -> None:
    """Its decisions have no partition with that number: the agent fails, the others go on, and it
    can be deleted.
    """
    await make_topic(broker, "t-grows")
    async with start() as (service, client):
        await client.deploy(spec("grown", "t-grows"))
        await client.deploy(spec("beside", "t-beside"))
        async with administering(broker) as admin:
            await admin.create_partitions({"t-grows": NewPartitions(2)})
        await send(broker, events("t-grows", range(40)))
        await client.deploy(spec("rebalance", "t-rebalance"))
        await service.events.send_all(events("t-beside", range(10)))
        await learned(client, "beside", 10)
        view = await client.agent("grown")
        assert view.state == "failed"
        assert "has 1 partitions and must have 2" in view.note
        assert not service.failed.done()
        assert (await client.delete("grown")).changed
