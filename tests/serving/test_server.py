from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from headrace.clock import ManualClock
from headrace.config import is_loopback
from headrace.errors import (
    RequestError,
    StateError,
    UnavailableError,
)
from headrace.models.wants import MAX_KEY
from headrace.serving import prediction_pb2
from headrace.serving.client import AsyncClient
from headrace.serving.interceptor import Interceptor
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server, check_port
from headrace.views import Question
from tests.serving.world import SPEC, World, code_of

PREDICT = "/headrace.v1.PredictionService/Predict"
WATCH = "/headrace.v1.DecisionService/WatchDecisions"


async def test_a_taken_port_is_refused(server: Server, world: World) -> None:
    """A second worker on the same port stops with what to do, and takes no calls."""
    second = Server(world.backend, Listen(port=server.port))
    with pytest.raises(StateError, match=f"port {server.port} is taken on 127.0.0.1;"):
        await second.start()
    await second.stop()


def test_an_address_of_another_machine_is_told() -> None:
    """Of the loopback address that is not said: every machine has it."""
    with pytest.raises(StateError, match=r"or 192\.0\.2\.1 is not an address"):
        check_port("192.0.2.1", 50051)


async def test_a_taken_metrics_port_is_refused(world: World) -> None:
    """The metrics port too is refused when it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(world.backend, Listen(port=0, metrics_port=port))
        with pytest.raises(StateError, match=f"port {port} is taken"):
            await server.start()
        await server.stop()


async def test_only_loopback_without_insecure(world: World) -> None:
    """A host beyond loopback needs to be allowed."""
    with pytest.raises(StateError, match="allow it with --insecure"):
        await Server(world.backend, Listen(host="0.0.0.0", port=0)).start()
    server = Server(world.backend, Listen(host="0.0.0.0", port=0, insecure=True))
    assert await server.start() > 0
    await server.stop(0)
    assert [is_loopback(h) for h in ("localhost", "::1", "127.9.9.9", "::", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ({"amount": float("nan")}, "not_finite"),
        ({"amount": float("inf")}, "not_finite"),
        ({"amount": -1}, "out_of_range"),
        ({"amount": 10**400}, "out_of_range"),
        ({"amount": "12"}, "wrong_type"),
        ({"foreign": 1}, "wrong_type"),
        ({"amount": [1]}, "wrong_type"),
        ({"colour": "red"}, "unknown_feature"),
        ({"amount": "\ud800"}, "invalid_request"),
    ],
)
async def test_bad_features(client: AsyncClient, features: dict[str, Any], code: str) -> None:
    """A bad feature has its code and names its field."""
    with pytest.raises(RequestError) as found:
        await client.predict("card-fraud", key="4711", features=features)
    assert found.value.code == code
    if code != "invalid_request":
        assert [v.path for v in found.value.violations] == [f"features.{next(iter(features))}"]


async def test_bad_questions(client: AsyncClient) -> None:
    """Sizes and numbers of a question are bounded; each bound has its code."""
    limits = Limits()
    ask = client.predict
    assert await code_of(ask("", key="k")) == "invalid_request"
    assert await code_of(ask("card-fraud", key="k" * 2000)) == "too_large"
    assert await code_of(ask("a" * 2000, key="k")) == "too_large"
    longest = "𝄞" * MAX_KEY  # four bytes a character: what can be learned can be asked
    assert (await ask("card-fraud", key=longest)).standing.cold is False
    assert await code_of(ask("card-fraud", key=longest + "k")) == "too_large"
    assert await code_of(ask("card-fraud", key="k", k=0)) == "invalid_request"
    assert await code_of(ask("card-fraud", key="k", k=10**12)) == "invalid_request"
    assert await code_of(ask("card-fraud", key="k", setpoint=float("inf"))) == "not_finite"
    many = {f"f{n}": 1.0 for n in range(limits.features + 1)}
    assert await code_of(ask("card-fraud", key="k", features=many)) == "too_large"
    items = [str(n) for n in range(limits.items + 1)]
    assert await code_of(ask("card-fraud", key="k", candidates=items)) == "too_large"
    assert await code_of(ask("card-fraud", key="k", exclude=items)) == "too_large"
    assert await code_of(client.key("card-fraud", "nobody")) == "unknown_key"
    assert await code_of(client.agent("nobody")) == "unknown_agent"
    assert await code_of(client.deploy("")) == "invalid_request"
    assert await code_of(client.deploy("#" * (limits.spec_bytes + 1))) == "too_large"
    assert await code_of(client.deploy(SPEC)) == "agent_exists"
    send = client.submit_feedback
    assert await code_of(send("card-fraud", key="k", event=b"")) == "invalid_request"
    assert await code_of(send("card-fraud", key="k", event=b"{")) == "bad_event"
    big = b"{" + b" " * limits.event_bytes + b"}"
    assert await code_of(send("card-fraud", key="k", event=big)) == "too_large"
    assert [r async for r in client.watch_decisions("card-fraud", follow=False)] == []
    assert await code_of(anext(client.watch_decisions("nobody"))) == "unknown_agent"
    assert await code_of(anext(client.watch_quarantine("nobody"))) == "unknown_agent"


async def test_a_batch_of_events_is_bounded(target: str, world: World) -> None:
    """By rows, and each event by itself; what is refused as a whole has appended nothing."""
    rows = [prediction_pb2.KeyedEvent(key="k", event=b"{}") for _ in range(1001)]
    request = prediction_pb2.SubmitFeedbackBatchRequest(agent="card-fraud", events=rows)
    method = "/headrace.v1.PredictionService/SubmitFeedbackBatch"
    code, text = await raw(target, method, request.SerializeToString())
    assert (code, text) == ("INVALID_ARGUMENT", "events has 1001 entries; the limit is 1000")
    assert world.log == []


async def test_the_answer_to_a_batch_of_events_fits(world: World) -> None:
    """Where messages are small, fewer events are taken: none is appended without an answer."""
    world.refuses = "x" * 5_000
    limits = Limits(message_bytes=64 << 10)
    server = Server(world.backend, Listen(port=0), limits=limits)
    target = f"127.0.0.1:{await server.start()}"
    try:
        async with AsyncClient(target) as client:
            bad = [("k" * 200, b"{}")] * 32
            outcomes = [row async for row in client.submit_many("card-fraud", bad)]
            assert len(outcomes) == 32
            with pytest.raises(RequestError, match="the limit is 32"):
                async for _ in client.submit_many("card-fraud", bad * 2):
                    pass
    finally:
        await server.stop(0)


async def test_a_batch_is_bounded(target: str) -> None:
    """A batch above the cap is refused as a whole."""
    rows = prediction_pb2.PredictBatchRequest(
        questions=[prediction_pb2.Question(agent="card-fraud") for _ in range(1001)]
    )
    method = "/headrace.v1.PredictionService/PredictBatch"
    code, text = await raw(target, method, rows.SerializeToString())
    assert (code, text) == ("INVALID_ARGUMENT", "questions has 1001 entries; the limit is 1000")


async def raw(target: str, method: str, data: bytes) -> tuple[str, str]:
    """Code and text of a call with these bytes."""
    async with grpc.aio.insecure_channel(target) as channel:
        call: Any = channel.unary_unary(method)
        try:
            await call(data)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""


async def test_raw_bad_bytes_get_a_status_of_the_table(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, and no traceback goes to log or client."""
    for data in (b"\xff", b"\x0a\xff", b"\x0a\x03\x0a\x01\xff", b"\x08" * 1000):
        code, text = await raw(target, PREDICT, data)
        assert code == "INVALID_ARGUMENT", data
        assert "Traceback" not in text
    assert not caplog.records


async def test_a_bad_message_in_a_stream(target: str) -> None:
    """Streams refuse bytes that are no message just so."""
    method = "/headrace.v1.PredictionService/PredictStream"

    async def messages() -> AsyncIterator[bytes]:
        yield b"\xff"

    async with grpc.aio.insecure_channel(target) as channel:
        stream: Any = channel.stream_stream(method)
        call = stream(messages())
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await call.read()
    assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_huge_message_is_refused(client: AsyncClient) -> None:
    """A message above the limit is refused before it is read, and said so."""
    with pytest.raises(RequestError, match="one message is too large") as found:
        await client.submit_feedback("card-fraud", key="k", event=b" " * (5 << 20))
    assert found.value.code == "too_large"


async def test_an_unknown_streamis_unimplemented(target: str) -> None:
    """A method that this version lacks is UNIMPLEMENTED."""
    assert (await raw(target, "/headrace.v1.PredictionService/Explain", b""))[0] == "UNIMPLEMENTED"


async def test_the_callers_deadline_is_honoured(world: World, server: Server) -> None:
    """A call that would wait longer than its deadline ends with it, and frees its place."""
    world.hold = asyncio.Event()
    async with AsyncClient(f"127.0.0.1:{server.port}", control_timeout_s=0.05) as client:
        with pytest.raises(UnavailableError, match="no answer from") as found:
            await client.deploy(SPEC)
    assert found.value.code == "deadline"
    await server.stop(5)  # would wait for a handler that goes on


async def test_stop_ends_the_watches_with_words(client: AsyncClient, server: Server) -> None:
    """A worker that goes down tells its watchers so, at once, whatever the grace."""
    watch = client.watch_decisions("card-fraud", from_start=True)
    assert await anext(watch) == {"id": "a"}
    assert await anext(watch) == {"id": "b"}
    waiting = asyncio.ensure_future(anext(watch))
    async with asyncio.timeout(30):  # a busy machine takes some of it
        await server.stop(60)
    assert await code_of(waiting) == "stopping"
    assert await code_of(client.agents()) == "no_worker"


async def test_stop_ends_a_watch_that_is_being_written_to(
    client: AsyncClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets what is on its way, and then the same words."""
    usual, written = Interceptor._write, asyncio.Event()

    async def late(interceptor: Interceptor, context: Any, data: bytes) -> None:
        await usual(interceptor, context, data)
        written.set()
        await asyncio.sleep(0.2)

    monkeypatch.setattr(Interceptor, "_write", late)
    watch = client.watch_decisions("card-fraud", from_start=True)
    assert await anext(watch) == {"id": "a"}
    await written.wait()
    async with asyncio.timeout(30):
        await server.stop(60)
    assert await code_of(anext(watch)) == "stopping"


async def test_an_answer_above_the_message_limit_is_an_error(world: World) -> None:
    """An answer that is too large is said so instead of being sent."""
    server = Server(world.backend, Listen(port=0), limits=Limits(message_bytes=4096))
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        many = [f"item {n}" for n in range(300)]  # 3 KB, and 6 KB with their scores
        with pytest.raises(RequestError, match="the answer has") as found:
            await client.predict("card-fraud", key="4711", candidates=many)
        assert found.value.code == "too_large"
    await server.stop()


async def test_a_long_batch_lets_others_in(world: World) -> None:
    """Between two slices of a batch the event loop runs other calls."""
    server = Server(world.backend, Listen(port=0), limits=Limits(slice_s=0.0))
    order: list[str] = []
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        await client.agents()

        async def batch() -> None:
            await client.predict_many(Question(agent="card-fraud", key="4711") for _ in range(500))
            order.append("batch")

        async def single() -> None:
            await client.predict("card-fraud", key="4711")
            order.append("single")

        await asyncio.gather(batch(), single())
    await server.stop()
    assert order == ["single", "batch"]


async def test_in_flight_counts_who_waits_and_no_watches(
    world: World, server: Server, client: AsyncClient
) -> None:
    """Unary calls and two-way streams are in flight; a watch is not."""
    watch = client.watch_decisions("card-fraud", from_start=True)
    await anext(watch)
    assert server.in_flight == 0
    going = asyncio.Event()

    async def questions() -> AsyncIterator[Question]:
        yield Question(agent="card-fraud", key="4711")
        await going.wait()

    rows = client.predict_stream(questions())
    await anext(rows)
    assert server.in_flight == 1
    world.hold = asyncio.Event()
    deploy = asyncio.create_task(client.deploy(SPEC.replace("card-fraud", "second")))
    await world.waiting.wait()
    assert server.in_flight == 2
    world.hold.set()
    going.set()
    await deploy
    assert [row async for row in rows] == []
    await client.agents()  # a round trip later the ended calls are gone
    assert server.in_flight <= 1


async def test_a_worker_stays_attentive_for_a_moment(world: World) -> None:
    """The learner's turns are short while calls are in flight and for a second after the last."""
    clock = ManualClock()
    server = Server(world.backend, Listen(port=0), clock=clock)
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        seen = [server.is_asked]
        await client.predict("card-fraud", key="4711")
        while server.in_flight:
            await client.ready()
        for seconds in (0.0, 0.9, 0.2):
            clock.advance(seconds)
            seen.append(server.is_asked)
    await server.stop()
    assert seen == [False, True, True, False]


async def test_a_silent_stream_asks_for_no_attention(world: World) -> None:
    """A two-way stream that is kept open asks with its messages, not by being open."""
    clock = ManualClock()
    server = Server(world.backend, Listen(port=0), clock=clock)
    going, over = asyncio.Event(), asyncio.Event()

    async def questions() -> AsyncIterator[Question]:
        yield Question(agent="card-fraud", key="4711")
        await going.wait()
        yield Question(agent="card-fraud", key="4711")
        await over.wait()

    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        rows = client.predict_stream(questions())
        await anext(rows)
        seen = [server.is_asked]
        clock.advance(1.1)
        seen.append(server.is_asked)
        going.set()
        await anext(rows)
        seen.append(server.is_asked)
        assert server.in_flight == 1
        over.set()
    await server.stop()
    assert seen == [True, False, True]


async def test_a_client_that_leaves_in_mid_stream_is_no_bug(
    world: World, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection cut while records flow ends the feed and logs no error."""
    world.endless = True
    watch = client.watch_decisions("card-fraud")
    await anext(watch)
    await client.close()
    async with asyncio.timeout(5):
        await world.feed_closed.wait()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_leaves_while_it_is_written_to_is_no_bug(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPC finds that the connection is gone before it cancels the call."""

    async def gone(*_: object) -> None:
        raise grpc.aio.InternalError('Failed "execute_batch"')

    monkeypatch.setattr(Interceptor, "_write", gone)
    server = Server(world.backend, Listen(port=0))
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        with pytest.raises(TimeoutError):  # this client is still there, and hears nothing more
            async with asyncio.timeout(1):
                await anext(client.watch_decisions("card-fraud", from_start=True))
    await server.stop()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
