"""The broker is away while events come and predictions are asked: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from river import linear_model, preprocessing

from headrace.errors import UnavailableError
from headrace.pipelines.broker import Broker, ClusterBroker
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.localbroker import LocalBroker
from headrace.serving.client import AsyncClient
from headrace.views import Answer
from tests.pipelines.outage import silent
from tests.service.conftest import Running, Start, make_topic
from tests.service.test_service import decisions, events, learned, spec

COUNT = 400


def river_scores(sent: Sequence[Outgoing]) -> list[float]:
    """What River itself predicts for each event before it learns it: a model for each key."""
    models: dict[bytes, Any] = {}
    scores = []
    for event in sent:
        read = msgspec.json.decode(event.value)
        model = models.setdefault(
            event.key, preprocessing.StandardScaler() | linear_model.LinearRegression()
        )
        x = {"power": float(read["power"])}
        scores.append(float(model.predict_one(x)))
        model.learn_one(x, float(read["temp"]))
    return scores


def patient(broker: Broker) -> AIOKafkaProducer:
    """Somebody's producer, which waits for its broker for as long as it takes."""
    return AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=300_000)


async def send_all(producer: AIOKafkaProducer, sent: Sequence[Outgoing]) -> None:
    for event in sent:
        await producer.send(
            event.topic, key=event.key, value=event.value, timestamp_ms=event.timestamp_ms
        )
    await producer.flush()


class Asked(NamedTuple):
    """One prediction: when it was asked, what came."""

    at: float
    answer: Answer | UnavailableError


async def ask_until(client: AsyncClient, agent: str, over: asyncio.Event) -> list[Asked]:
    """Predictions, one after the other, until it is over."""
    clock = asyncio.get_running_loop().time
    asked = []
    while not over.is_set():
        at = clock()
        try:
            asked.append(Asked(at, await client.predict(agent, key="ada", features={"power": 1.0})))
        except UnavailableError as error:
            asked.append(Asked(at, error))
        await asyncio.sleep(0.01)
    return asked


async def check_against_river(running: Running, agent: str, sent: Sequence[Outgoing]) -> None:
    """The outage is over, every event has exactly one decision, and each score is River's own."""
    async with asyncio.timeout(5):
        while running.service.worker.presence.away_s:  # noqa: ASYNC110 - it asks twice a second
            await asyncio.sleep(0.05)
    assert not running.service.failed.done()
    made = await decisions(running.client, agent)
    assert [d["position"]["offset"] for d in made] == list(range(len(sent)))
    assert [d["score"] for d in made] == river_scores(sent)


async def refused_in_time(call: Any) -> UnavailableError:
    with pytest.raises(UnavailableError) as refused:
        await asyncio.wait_for(call, 2.0)
    return refused.value


async def test_the_broker_is_away_while_events_come_and_predictions_are_asked(
    start: Start, broker: Broker, outage_s: float
) -> None:
    """Answers go on from memory and say how stale; what needs the broker is refused at once; then
    everything is learned, once.
    """
    agent, topic = "steady", "t-steady"
    sent = events(topic, range(COUNT))
    async with start() as (service, client), patient(broker) as producer:
        await client.deploy(spec(agent, topic))
        await service.events.send_all(sent[:200])
        await learned(client, agent, 200)
        over = asyncio.Event()
        asking = asyncio.ensure_future(ask_until(client, agent, over))
        sending = asyncio.ensure_future(send_all(producer, sent[200:]))
        clock = asyncio.get_running_loop().time
        with silent(broker):
            began = clock()
            await asyncio.sleep(outage_s - 0.5)
            await refused_while_away(Running(service, client), agent, topic)
            ended = clock()
        await asyncio.wait_for(sending, 60)
        await learned(client, agent, COUNT)
        over.set()
        found = [each.answer for each in await asking if began < each.at < ended]
        await check_against_river(Running(service, client), agent, sent)
    answers = [answer for answer in found if isinstance(answer, Answer)]
    assert len(answers) == len(found) > 20 * outage_s
    heard = [answer.standing.heard_ms or 0 for answer in answers]
    assert heard[-1] > 1000 * (outage_s - 1.5)
    assert heard == sorted(heard)


async def refused_while_away(running: Running, agent: str, topic: str) -> None:
    service, client = running
    refusals = [
        await refused_in_time(client.deploy(spec("late", topic))),
        await refused_in_time(client.pause(agent)),
        await refused_in_time(client.submit_feedback(agent, key="ada", event=b'{"id":"ada"}')),
        await refused_in_time(anext(client.watch_decisions(agent))),
    ]
    # A feedback is looked at before it is sent: this one has no power, so the guard may be first.
    assert {refusal.code for refusal in refusals} == {"broker_away"}
    assert "the broker has not answered for" in (await client.agent(agent)).note
    assert service.worker.ready


@pytest.mark.usefixtures("kafka")
async def test_kafka_is_killed_and_started_again(
    start: Start, tmp_path: Path, outage_s: float
) -> None:
    """The same, with the process gone in between: on the same directory and port it goes on."""
    agent, topic = "phoenix", "t-phoenix"
    sent = events(topic, range(COUNT))
    first = LocalBroker(tmp_path / "kafka")
    await first.start()
    cluster = ClusterBroker(first.bootstrap)
    await make_topic(cluster, topic)
    async with start(on=cluster) as (service, client), patient(cluster) as producer:
        await client.deploy(spec(agent, topic))
        await service.events.send_all(sent[:200])
        await learned(client, agent, 200)
        over = asyncio.Event()
        asking = asyncio.ensure_future(ask_until(client, agent, over))
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        sending = asyncio.ensure_future(send_all(producer, sent[200:]))
        await first.stop()
        await asyncio.sleep(outage_s)
        over.set()
        answers = [each.answer for each in await asking]
        again = LocalBroker(tmp_path / "kafka")
        await again.start()
        try:
            assert again.bootstrap == cluster.bootstrap
            await asyncio.wait_for(sending, 60)
            await learned(client, agent, COUNT)
            await check_against_river(Running(service, client), agent, sent)
        finally:
            await service.worker.stop()
            await again.stop()
    assert all(isinstance(answer, Answer) for answer in answers)
    assert len(answers) > 20 * outage_s
