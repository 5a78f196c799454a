from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from headrace.errors import (
    OverloadError,
)
from headrace.serving import decision_pb2
from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import Question
from tests.serving.world import SPEC, World, code_of

PREDICT = "/headrace.v1.PredictionService/Predict"
WATCH = "/headrace.v1.DecisionService/WatchDecisions"


@pytest.fixture
def tight() -> Limits:
    return Limits(in_flight=8, streams=2, stall_s=0.2, retry_s=0.25)


async def test_a_flood_is_shed_with_a_time_to_retry(world: World, tight: Limits) -> None:
    """Of 1000 calls at once 8 are served and 992 get RESOURCE_EXHAUSTED; none is lost."""
    server = Server(world.backend, Listen(port=0), limits=tight)
    client = AsyncClient(f"127.0.0.1:{await server.start()}")
    world.hold = asyncio.Event()
    spec = SPEC.replace("card-fraud", "second")

    async def call() -> str:
        try:
            await client.deploy(spec)
        except OverloadError as error:
            return f"{error.code}, retry in {error.retry_s} s"
        return "OK"

    flood = [asyncio.create_task(call()) for _ in range(1000)]
    while sum(task.done() for task in flood) < 1000 - 8:
        await asyncio.wait([t for t in flood if not t.done()], return_when="FIRST_COMPLETED")
    assert await client.ready()  # health is never shed
    world.hold.set()
    assert Counter(await asyncio.gather(*flood)) == {
        "OK": 8,
        "overloaded, retry in 0.25 s": 992,
    }
    world.hold = None
    assert (await client.deploy(spec)).agent == "second"
    await client.close()
    await server.stop()


async def test_commands_have_a_bound_of_their_own(world: World) -> None:
    """Of many deploys at once a few are worked on; the others are shed, questions still pass."""
    server = Server(world.backend, Listen(port=0), limits=Limits(control_calls=3))
    world.hold = asyncio.Event()
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        deploys = [asyncio.create_task(client.deploy(SPEC)) for _ in range(10)]
        while sum(task.done() for task in deploys) < 7:
            await asyncio.wait([t for t in deploys if not t.done()], return_when="FIRST_COMPLETED")
        assert (await client.predict("card-fraud", key="4711")).score == 0.95
        assert await code_of(client.validate(SPEC)) == "overloaded"
        assert await code_of(client.pause("card-fraud")) == "overloaded"
        world.hold.set()
        outcomes = await asyncio.gather(*deploys, return_exceptions=True)
        assert sum(isinstance(outcome, OverloadError) for outcome in outcomes) == 7
        assert await client.validate(SPEC) == []
    await server.stop()


async def test_a_gather_over_thousands_is_served(world: World, client: AsyncClient) -> None:
    """AsyncClient keeps its predictions within what a worker admits: none of 2000 is shed."""
    asked = [client.predict("card-fraud", key="4711") for _ in range(2000)]
    assert {answer.score for answer in await asyncio.gather(*asked)} == {0.95}


async def test_a_refused_stream_is_an_overload(world: World) -> None:
    """What HTTP/2 itself refuses reaches the client as an overload too, never as a lost worker."""
    limits = Limits(streams_per_connection=2)
    server = Server(world.backend, Listen(port=0), limits=limits)
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:

        async def call() -> str:
            try:
                await client.agents()
            except OverloadError as error:
                return error.code
            return "OK"

        codes = Counter(await asyncio.gather(*(call() for _ in range(500))))
    assert codes["OK"] > 0
    assert set(codes) <= {"OK", "overloaded"}
    await server.stop()


async def test_streams_have_a_bound_of_their_own(world: World, tight: Limits) -> None:
    """Watches beyond the bound are shed; unary calls still pass."""
    server = Server(world.backend, Listen(port=0), limits=tight)
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        watches = [client.watch_decisions("card-fraud", from_start=True) for _ in range(2)]
        for watch in watches:
            await anext(watch)
        assert await code_of(anext(client.watch_decisions("card-fraud"))) == "overloaded"
        assert (await client.predict("card-fraud", key="4711")).score == 0.95
        await server.stop()


async def test_a_stream_of_questions_that_is_shed_hears_why(world: World) -> None:
    """However much it has to send, a refused stream ends with the overload, never as a bug."""
    server = Server(world.backend, Listen(port=0), limits=Limits(streams=0, retry_s=0.25))
    many = [Question(agent="card-fraud", key="4711")] * 100
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        for _ in range(30):
            assert await code_of(anext(client.predict_stream(many))) == "overloaded"
    await server.stop()


async def test_a_consumer_that_does_not_read_is_cut_off(world: World, target: str) -> None:
    """Who reads nothing for `stall_s` gets RESOURCE_EXHAUSTED; the feed is closed at once."""
    world.endless = True
    async with grpc.aio.insecure_channel(target) as channel:
        request = decision_pb2.WatchDecisionsRequest(agent="card-fraud").SerializeToString()
        watch: Any = channel.unary_stream(WATCH)
        call = watch(request)
        async with asyncio.timeout(20):
            await world.feed_closed.wait()
        world.endless = False
        with pytest.raises(grpc.aio.AioRpcError, match=r"has read nothing for 0\.2 s") as found:
            async for _ in call:
                pass
    assert found.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_that_brings_no_message_loses_its_place(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Who opens a call and sends nothing holds a place for `message_s`, no longer."""
    server = Server(world.backend, Listen(port=0), limits=Limits(in_flight=1, message_s=0.5))
    target = f"127.0.0.1:{await server.start()}"

    # gRPC's client leaves the task that pulls requests waiting when a call has failed. The event is
    # held here, or nothing but a cycle would hold that task, and its garbage would be told as an
    # error ("Task was destroyed but it is pending") whenever the collector comes by.
    end = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await end.wait()
        yield b""

    async with AsyncClient(target) as client, grpc.aio.insecure_channel(target) as channel:
        stream: Any = channel.stream_unary(PREDICT)
        silent = asyncio.ensure_future(stream(nothing()))
        while not server.in_flight:
            await client.ready()
        assert await code_of(client.predict("card-fraud", key="4711")) == "overloaded"
        # Who is shed hears it before a message has come.
        with pytest.raises(grpc.aio.AioRpcError, match="1 calls are in flight already"):
            await stream(nothing())
        gc.collect()
        with pytest.raises(grpc.aio.AioRpcError, match=r"no message within 0\.5 s"):
            await silent
        while server.in_flight:
            await client.ready()
        assert (await client.predict("card-fraud", key="4711")).score == 0.95
        with pytest.raises(grpc.aio.AioRpcError, match="has no message"):
            await stream(_none())
        end.set()
    await server.stop()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def _none() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for data in empty:
        yield data
