"""The whole service on a real broker, judged by the offline fold of what the broker holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from aiokafka import AIOKafkaProducer

from headrace.pipelines.broker import Broker
from headrace.state.store import ShardStore
from tests.fold import kafka, oracles
from tests.fold.control import Life, Where
from tests.fold.events import Row, log
from tests.service.conftest import Start
from tests.service.test_service import learned

TOPIC = "exact"
BYTES_MAX = 900_000  # of a record; a broker takes no larger ones
FUTURE_MS = 4_000_000_000_000  # nor does Kafka take stamps from so far ahead


async def send(broker: Broker, rows: Sequence[Row]) -> None:
    """Records one after the other, as they are: without keys and values, too."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for row in rows:
            stamp = row.timestamp if 0 <= row.timestamp < FUTURE_MS else None
            await producer.send(
                TOPIC, key=row.key, value=row.value, partition=0, timestamp_ms=stamp
            )
        await producer.flush()


def parts(count: int) -> Iterator[list[Row]]:
    """A log that any broker takes, in pieces."""
    rows = [row for row in log(5, count) if len(row.value or b"") < BYTES_MAX]
    for begin in range(0, len(rows), 60):
        yield rows[begin : begin + 60]


async def test_a_service_on_a_broker_is_what_the_fold_says(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    """Rows, decisions and quarantine of three agents, over a pause, a delete and a restart."""
    agents = {
        "exact-fraud": oracles.fraud("exact-fraud", TOPIC),
        "exact-visits": oracles.visits("exact-visits", TOPIC),
        "exact-heating": oracles.heating("exact-heating", TOPIC),
    }
    first, second, third, last = parts(240)
    async with start() as (service, client):
        app = service.config.app
        for oracle in agents.values():
            await client.deploy(oracle.spec.encode())
        await send(broker, first)
        await learned(client, "exact-fraud", len(first))
        await client.pause("exact-fraud")
        await send(broker, second)
        await learned(client, "exact-fraud", len(first) + len(second))
        await client.resume("exact-fraud")
        await client.delete("exact-heating")
    async with start() as (service, client):
        await client.deploy(agents["exact-heating"].spec.encode())
        await send(broker, third + last)
        count = sum(map(len, (first, second, third, last)))
        for agent in agents:
            await learned(client, agent, count)
    with ExitStack() as until_compared:

        def opened(life: Life, where: Where) -> ShardStore:
            shards = tmp_path / "state" / "shards" / life.agent
            path = shards / str(life.epoch) / f"{where[0]}@{where[1]}"
            store = ShardStore.open(path, create=False)
            until_compared.callback(store.close)
            return store

        for agent, oracle in agents.items():
            found = await kafka.differences(broker.bootstrap, app, oracle, agent, opened)
            assert found == []
            lives = await kafka.lives_of(broker.bootstrap, app, agent)
            assert [life.epoch for life in lives] == ([1, 2] if "heating" in agent else [1])
        other = oracles.visits("exact-fraud", TOPIC)  # another meaning is seen to be another

        def closed(life: Life, where: Where) -> None:
            return None

        assert await kafka.differences(broker.bootstrap, app, other, "exact-fraud", closed) != []
