from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.clock import ManualClock
from headrace.errors import NotFoundError, UnavailableError
from headrace.serving import prediction_pb2
from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import Answer, Question
from tests.serving.world import World, code_of

PREDICT = "method=/headrace.v1.PredictionService/Predict"


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


async def test_a_worker_that_is_not_ready_can_be_scraped(server: Server, world: World) -> None:
    """While it starts or stops: that it is not ready, the broker and the calls; of its agents and
    snapshots nothing, not even a 0, and all of them again when it answers.
    """
    before = await scraped(server)
    world.is_ready = False
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(UnavailableError, match="the worker is starting"):
            await client.predict("card-fraud", key="4711")
    samples = await scraped(server)
    requests = {name for name in samples if name.startswith("headrace_request")}
    assert samples.keys() - requests == {"headrace_ready{}", "headrace_broker_away_seconds{}"}
    assert samples["headrace_ready{}"] == 0
    assert f"headrace_requests_total{{code=UNAVAILABLE,{PREDICT}}}" in requests
    world.is_ready = True
    assert before.keys() <= (await scraped(server)).keys()


async def test_calls_are_counted_by_method_and_code(server: Server) -> None:
    """Every call that ended is counted once, under its method and gRPC code."""
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        for _ in range(3):
            await client.predict("card-fraud", key="4711")
        with pytest.raises(NotFoundError):
            await client.predict("nobody", key="4711")
        await client.watch_decisions("card-fraud", from_start=True).__anext__()
    samples = await scraped(server)
    assert samples[f"headrace_requests_total{{code=OK,{PREDICT}}}"] == 3
    assert samples[f"headrace_requests_total{{code=NOT_FOUND,{PREDICT}}}"] == 1
    assert samples[f"headrace_request_seconds_count{{{PREDICT}}}"] == 4


@pytest.mark.parametrize("kind", ["Predict", "PredictStream"])
async def test_a_call_is_timed_from_its_message(world: World, kind: str) -> None:
    """How long a client takes to send its first message is no latency of the worker; what passes
    from then on is.
    """
    clock, due = ManualClock(), asyncio.Event()
    server = Server(world.backend, Listen(port=0, metrics_port=0), clock=clock)
    path = f"/headrace.v1.PredictionService/{kind}"
    request: Any = getattr(prediction_pb2, f"{kind}Request")()
    request.question.agent = "card-fraud"

    async def late() -> AsyncIterator[bytes]:
        await due.wait()
        yield request.SerializeToString()

    answer = world.predict

    def slowly(question: Question) -> Answer:
        clock.advance(0.25)
        return answer(question)

    target = f"127.0.0.1:{await server.start()}"
    async with AsyncClient(target) as client, grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.stream_unary if kind == "Predict" else channel.stream_stream
        call = method(path)(late())
        while not server.in_flight:
            await client.ready()
        clock.advance(7.0)
        world.predict = slowly  # type: ignore[method-assign]
        due.set()
        assert await (call if kind == "Predict" else call.read())
        assert await call.code() is grpc.StatusCode.OK
        samples = await scraped(server)
    await server.stop()
    assert samples[f"headrace_request_seconds_sum{{method={path}}}"] == 0.25


async def test_a_call_without_a_message_is_counted_and_not_timed(world: World) -> None:
    """What was shed, or brought nothing, says nothing of how long an answer takes."""
    limits = Limits(in_flight=1, message_s=0.2)
    server = Server(world.backend, Listen(port=0, metrics_port=0), limits=limits)
    end = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await end.wait()
        yield b""

    target = f"127.0.0.1:{await server.start()}"
    async with AsyncClient(target) as client, grpc.aio.insecure_channel(target) as channel:
        make: Any = channel.stream_unary("/headrace.v1.PredictionService/Predict")
        silent = asyncio.ensure_future(make(nothing()))
        while not server.in_flight:
            await client.ready()
        assert await code_of(client.predict("card-fraud", key="4711")) == "overloaded"
        with pytest.raises(grpc.aio.AioRpcError, match="no message within"):
            await silent
        end.set()
        while server.in_flight:
            await client.ready()
        samples = await scraped(server)
    await server.stop()
    for code in ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        assert samples[f"headrace_requests_total{{code={code},{PREDICT}}}"] == 1
    assert f"headrace_request_seconds_count{{{PREDICT}}}" not in samples


async def test_a_scrape_does_not_outlive_its_worker(server: Server) -> None:
    """After stop the port is free again."""
    port = server.metrics_port
    await server.stop(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
