"""What a faulty producer's batch does to a service."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer

from headrace.pipelines import clients
from headrace.pipelines.broker import Broker
from tests.pipelines.test_readable import GZIP, compressed
from tests.service.conftest import Start, make_topic
from tests.service.test_service import events, learned, spec
from tests.service.watched import quarantine


async def test_an_unreadable_batch_does_not_stop_the_service(start: Start, broker: Broker) -> None:
    """It is in quarantine once, with its offsets; events before and after it are learned; a deploy
    that reads the topic gets past it too.
    """
    if broker.durable:
        pytest.skip(f"{broker.url} refuses such a batch when it is produced")
    await make_topic(broker, "t-torn-batch")
    async with start() as (service, client):
        await client.deploy(spec("torn-batch", "t-torn-batch"))
        await service.events.send_all(events("t-torn-batch", range(5)))
        await produce(broker.bootstrap, "t-torn-batch", compressed(GZIP))
        await service.events.send_all(events("t-torn-batch", range(5, 9)))
        view = await learned(client, "torn-batch", 10)
        assert (view.shards[0].accepted, view.shards[0].quarantined) == (9, 1)
        (refused,) = await quarantine(client, "torn-batch")
        assert refused["reason"] == "unreadable"
        assert "offsets 5 to 7 cannot be read" in refused["text"]
        assert refused["position"]["offset"] == 7
        again = await client.deploy(spec("torn-again", "t-torn-batch"))
        assert again.changed


async def produce(bootstrap: str, topic: str, break_it: Callable[[bytearray], bytearray]) -> None:
    """Append a batch of three records as a faulty producer would."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        built = producer.create_batch()
        for _ in range(3):
            built.append(key=b"ada", value=b"{}", timestamp=1_700_000_000_000)
        build = built._build
        built._build = lambda: bytes(break_it(bytearray(build())))
        await (await producer.send_batch(built, topic, partition=0))
    finally:
        await clients.stop(producer)
