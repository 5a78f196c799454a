"""The broker is away while events come and predictions are asked: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from headrace.errors import UnavailableError
from headrace.pipelines.broker import Broker, ClusterBroker, wait_for_answer
from headrace.pipelines.localbroker import LocalBroker
from headrace.serving.client import AsyncClient
from headrace.state.store import ShardStore
from headrace.views import Answer, Partition
from tests.fold import events, oracles
from tests.fold.compare import StoredRows
from tests.fold.control import Life, Where
from tests.fold.kafka import differences
from tests.pipelines.outage import silent
from tests.service.conftest import Running, Start, make_topic
from tests.service.test_service import learned

log = logging.getLogger(__name__)

COUNT = 600
BEFORE = 200
FUTURE_MS = 2_000_000_000_000
FEATURES = dict.fromkeys(oracles.COLUMNS, 1.0)


class Asked(NamedTuple):
    """One prediction: when it was asked, what came."""

    at: float
    answer: Answer | UnavailableError


def patient(broker: Broker) -> AIOKafkaProducer:
    """Somebody's producer, which waits for its broker for as long as it takes."""
    return AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=300_000)


async def send_all(producer: AIOKafkaProducer, topic: str, rows: Sequence[events.Row]) -> None:
    sent = [
        await producer.send(topic, key=row.key, value=row.value, timestamp_ms=row.timestamp)
        for row in rows
    ]
    await asyncio.gather(*sent)


def sent_log(seed: int) -> list[events.Row]:
    """Good events and bad ones, as a producer can send them."""

    def able(row: events.Row) -> bool:
        size = len(row.value or b"")
        stamped = 0 < row.timestamp < FUTURE_MS  # which Kafka refuses
        return stamped and size < 100_000 and (row.key, row.value) != (None, None)

    return list(filter(able, events.log(seed, COUNT + 100, bad_share=0.05)))[:COUNT]


async def ask_until(client: AsyncClient, agent: str, over: asyncio.Event) -> list[Asked]:
    """Predictions, one after the other, until it is over."""
    clock = asyncio.get_running_loop().time
    asked = []
    while not over.is_set():
        at = clock()
        try:
            asked.append(Asked(at, await client.predict(agent, key="1", features=FEATURES)))
        except UnavailableError as error:
            asked.append(Asked(at, error))
        await asyncio.sleep(0.01)
    return asked


async def as_the_fold_says(broker: Broker, running: Running, oracle: Any) -> list[str]:
    """How rows, decisions and quarantine differ from what River alone makes of the log.

    The service has stopped; its app and state directory are still known.
    """
    config = running.service.config
    assert config.state_dir is not None
    stores: list[ShardStore] = []

    def opened(life: Life, where: Where) -> StoredRows:
        agent = config.state_dir / "shards" / life.agent / str(life.epoch)  # type: ignore[operator]
        store = ShardStore.open(agent / f"{where[0]}@{where[1]}", create=False)
        stores.append(store)
        return store

    try:
        agent = oracle.spec.partition("agent: ")[2].split()[0]
        return await differences(broker.bootstrap, config.app, oracle, agent, opened)
    finally:
        for store in stores:
            store.close()


async def commands_work(running: Running, agent: str) -> None:
    """The control log is written and followed again, as soon as the outage is known to be over."""
    assert not running.service.failed.done()
    async with asyncio.timeout(5):
        while running.service.worker.presence.away_s:  # noqa: ASYNC110 - it asks twice a second
            await asyncio.sleep(0.05)
    assert (await running.client.pause(agent)).changed
    assert (await running.client.resume(agent)).changed


async def refused_in_time(call: Any) -> UnavailableError:
    with pytest.raises(UnavailableError) as refused:
        await asyncio.wait_for(call, 2.0)
    return refused.value


async def refused_while_away(running: Running, agent: str, spec: bytes) -> None:
    service, client = running
    refusals = [
        await refused_in_time(client.deploy(spec.replace(b"agent: ", b"agent: late-"))),
        await refused_in_time(client.pause(agent)),
        await refused_in_time(client.submit_feedback(agent, key="1", event=b"{}")),
        await refused_in_time(anext(client.watch_decisions(agent))),
    ]
    assert {refusal.code for refusal in refusals} == {"broker_away"}
    assert "the broker has not answered for" in (await client.agent(agent)).note
    assert service.worker.ready


async def test_the_broker_is_away_while_events_come_and_predictions_are_asked(
    start: Start, broker: Broker, outage_s: float
) -> None:
    """Answers go on from memory and say how stale; what needs the broker is refused at once; then
    everything is learned, once, as River itself says.
    """
    agent, topic = "steady", "t-steady"
    oracle = oracles.fraud(agent, topic)
    sent = sent_log(1)
    clock = asyncio.get_running_loop().time
    over = asyncio.Event()
    async with start() as running, patient(broker) as producer:
        client = running.client
        await client.deploy(oracle.spec.encode())
        await send_all(producer, topic, sent[:BEFORE])
        await learned(client, agent, BEFORE)
        asking = asyncio.ensure_future(ask_until(client, agent, over))
        with silent(broker):
            began = clock()
            sending = asyncio.ensure_future(send_all(producer, topic, sent[BEFORE:]))
            await asyncio.sleep(outage_s - 0.5)
            await refused_while_away(running, agent, oracle.spec.encode())
            ended = clock() - 0.2  # who asked later may be answered after the outage
        back = clock()
        await asyncio.wait_for(sending, 60)
        await learned(client, agent, COUNT)
        caught_up_s = clock() - back
        over.set()
        found = [each.answer for each in await asking if began < each.at < ended]
        await commands_work(running, agent)
    assert await as_the_fold_says(broker, running, oracle) == []
    answers = [answer for answer in found if isinstance(answer, Answer)]
    assert len(answers) == len(found) > 20 * outage_s
    log.info("outage seconds=%g answers=%d caught_up_s=%.1f", outage_s, len(answers), caught_up_s)
    heard = [answer.standing.heard_ms or 0 for answer in answers]
    assert heard[-1] > 1000 * (outage_s - 1.5)
    assert heard == sorted(heard)


@pytest.mark.usefixtures("kafka")
async def test_kafka_is_killed_and_started_again(
    start: Start, tmp_path: Path, outage_s: float
) -> None:
    """The same, with the process gone in between: on the same directory and port it goes on."""
    agent, topic = "phoenix", "t-phoenix"
    oracle = oracles.fraud(agent, topic)
    sent = sent_log(2)
    over = asyncio.Event()
    first, again = LocalBroker(tmp_path / "kafka"), LocalBroker(tmp_path / "kafka")
    await first.start()
    cluster = ClusterBroker(first.bootstrap)
    await make_topic(cluster, topic)
    try:
        async with start(on=cluster) as running, patient(cluster) as producer:
            client = running.client
            await client.deploy(oracle.spec.encode())
            await send_all(producer, topic, sent[:BEFORE])
            await learned(client, agent, BEFORE)
            asking = asyncio.ensure_future(ask_until(client, agent, over))
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
            await first.stop()
            sending = asyncio.ensure_future(send_all(producer, topic, sent[BEFORE:]))
            await asyncio.sleep(outage_s)
            over.set()
            answers = [each.answer for each in await asking]
            await again.start()
            back = asyncio.get_running_loop().time()
            assert again.bootstrap == cluster.bootstrap
            await asyncio.wait_for(sending, 60)
            await learned(client, agent, COUNT)
            caught_up_s = asyncio.get_running_loop().time() - back
            await commands_work(running, agent)
        assert await as_the_fold_says(cluster, running, oracle) == []
    finally:
        await again.stop()
    log.info("outage seconds=%g answers=%d caught_up_s=%.1f", outage_s, len(answers), caught_up_s)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert len(answers) > 20 * outage_s


async def test_a_stop_in_an_outage_writes_nothing_that_is_not_acknowledged(
    start: Start, broker: Broker
) -> None:
    """What the broker has not taken is waited for for some seconds; then the service stops without
    a flush and says so. The next start learns again from the last one.
    """
    agent, topic = "cut-short", "t-cut-short"
    oracle = oracles.fraud(agent, topic, "flush_ms: 60000")
    sent = sent_log(3)
    await make_topic(broker, "t-not-taken")
    async with patient(broker) as producer:
        async with start() as running:
            await running.client.deploy(oracle.spec.encode())
            await send_all(producer, topic, sent[:BEFORE])
            await learned(running.client, agent, BEFORE)
            with silent(broker):
                worker = running.service.worker
                worker._emitter.append(Partition("t-not-taken", 0), None, b"1")
                with pytest.raises(UnavailableError, match="has not taken the last decisions"):
                    await asyncio.wait_for(running.service.stop(), 20)
        await wait_for_answer(broker.bootstrap, 30)
        async with start() as running:
            (shard,) = running.service.worker.shards.of_agent(agent)
            assert shard.durable_offset == 0
            await send_all(producer, topic, sent[BEFORE:])
            await learned(running.client, agent, COUNT)
    assert await as_the_fold_says(broker, running, oracle) == []
