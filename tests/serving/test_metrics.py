from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.errors import NotFoundError
from headrace.serving.client import AsyncClient
from headrace.serving.server import Listen, Server
from tests.serving.world import World


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    server = Server(world.backend, Listen(port=0, metrics_port=0))
    await server.start()
    yield server
    await server.stop(0.2)


async def scraped(server: Server) -> dict[str, float]:
    """Every sample of a scrape: `name{label="value"}` → its value."""

    def get() -> str:
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())

    samples = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(get)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


async def test_a_scrape_reads_the_agents_as_they_are(server: Server, world: World) -> None:
    """Events, lag, hot keys, metrics and baselines of each agent, read from the Directory."""
    samples = await scraped(server)
    where = "{agent=card-fraud,partition=0,topic=transactions}"
    assert {
        name: samples[f"headrace_{name}{where}"] for name in ("lag", "keys_hot", "unflushed")
    } == {
        "lag": 10,
        "keys_hot": 7,
        "unflushed": 10,
    }
    events = ("accepted", "quarantined", "learned")
    assert [samples[f"headrace_events_{name}_total{where}"] for name in events] == [88, 2, 81]
    assert samples["headrace_metric{agent=card-fraud,metric=F1}"] == 0.87
    baseline = "{agent=card-fraud,baseline=majority,metric=F1}"
    assert samples[f"headrace_metric_baseline{baseline}"] == 0.5
    assert samples["headrace_ready{}"] == 1
    assert samples["headrace_broker_away_seconds{}"] == 0
    assert samples[f"headrace_heard_age_seconds{where}"] == 1.5
    assert samples[f"headrace_flush_waits{where}"] == 1
    world.away_s = 12.5
    world.is_ready = False
    world.views.clear()
    later = await scraped(server)
    assert later["headrace_ready{}"] == 0
    assert later["headrace_broker_away_seconds{}"] == 12.5
    assert f"headrace_lag{where}" not in later


async def test_a_scrape_tells_how_snapshots_are_doing(server: Server) -> None:
    """What was refused and what is owed; of each agent how old the newest is, and how far behind:
    a quiet agent's grows old and is behind by nothing.
    """
    samples = await scraped(server)
    assert samples["headrace_snapshots_refused_total{}"] == 1
    assert samples["headrace_snapshots_owed{}"] == 2
    assert samples["headrace_snapshots_owed_age_seconds{}"] == 3.5
    assert samples["headrace_snapshot_age_seconds{agent=card-fraud}"] == 40.5
    assert samples["headrace_snapshot_behind{agent=card-fraud}"] == 12


async def test_calls_are_counted_by_method_and_code(server: Server) -> None:
    """Every call that ended is counted once, under its method and gRPC code."""
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        for _ in range(3):
            await client.predict("card-fraud", key="4711")
        with pytest.raises(NotFoundError):
            await client.predict("nobody", key="4711")
        await client.watch_decisions("card-fraud", from_start=True).__anext__()
    samples = await scraped(server)
    method = "method=/headrace.v1.PredictionService/Predict"
    assert samples[f"headrace_requests_total{{code=OK,{method}}}"] == 3
    assert samples[f"headrace_requests_total{{code=NOT_FOUND,{method}}}"] == 1
    assert samples[f"headrace_request_seconds_count{{{method}}}"] == 4


async def test_a_scrape_does_not_outlive_its_worker(server: Server) -> None:
    """After stop the port is free again."""
    port = server.metrics_port
    await server.stop(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
