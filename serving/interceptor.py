"""Every call passes here: bounds, errors, figures.

Messages are parsed and written here too, inside the one broad handler of the room, so that bad
bytes get a status of the table and not gRPC's own traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from headrace.clock import Clock, new_id
from headrace.errors import (
    EventError,
    OverloadError,
    RequestError,
    SpecError,
    StateError,
    UnavailableError,
)
from headrace.serving import status
from headrace.serving.limits import Limits
from headrace.serving.metrics import Requests

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any  # an RpcMethodHandler, whose stubs know only blocking servicers
LINGER_S = 1.0
"""How long a worker stays attentive after a call."""
CONTROL = frozenset(
    f"/headrace.v1.{method}"
    for method in (
        "AgentService/DeployAgent",
        "AgentService/ValidateAgent",
        "AgentService/PauseLearning",
        "AgentService/ResumeLearning",
        "AgentService/DeleteAgent",
        "SnapshotService/CreateSnapshot",
        "SnapshotService/PinSnapshot",
        "SnapshotService/DeleteSnapshot",
        "SnapshotService/DiffSnapshots",
        "SnapshotService/ExportSnapshot",
        "SnapshotService/ImportSnapshot",
        "SnapshotService/PreviewRollback",
        "SnapshotService/Rollback",
        "SnapshotService/UndoRollback",
        "SnapshotService/VerifyDecision",
    )
)
"""What reads a spec or a snapshot, or waits for a log: these have a bound of their own."""
ALWAYS_ADMITTED = "/grpc.health.v1.Health/Check"  # a busy worker is not a dead one


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler: admits or sheds, turns errors into statuses, counts."""

    def __init__(self, limits: Limits, clock: Clock, requests: Requests) -> None:
        self._limits = limits
        self._clock = clock
        self._requests = requests
        self._unary: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._asking: set[asyncio.Task[Any]] = set()
        self._asked_at = -LINGER_S
        self._control: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Calls that somebody waits for: unary ones and two-way streams, no watches."""
        return len(self._asking)

    @property
    def is_asked(self) -> bool:
        """Whether questions are in flight, or were a moment ago: the next one may be on its way.

        A call needs several turns of the event loop before it can be seen here. A two-way stream
        asks with each message; while it is silent nobody waits.
        """
        return bool(self._unary) or self._clock.monotonic() - self._asked_at < LINGER_S

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # gRPC answers UNIMPLEMENTED
        method = handler_call_details.method
        shed = None if method == ALWAYS_ADMITTED else self._admit(method, handler)
        # On the wire a single message is a stream of one. Taken as a stream, it can be waited for
        # with a bound, and refused before it has come.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method, handler, shed))
        return grpc.stream_unary_rpc_method_handler(self._once(method, handler, shed))

    def _admit(self, method: str, handler: Handler) -> OverloadError | None:
        """Take places until the call's task ends, or say why there is none."""
        streaming, limits = handler.response_streaming or handler.request_streaming, self._limits
        bounds = [(self._streams, limits.streams, "streams")]
        if not streaming:
            bounds = [(self._unary, limits.in_flight, "calls")]
        if method in CONTROL:
            bounds.append((self._control, limits.control_calls, "commands"))
        for taken, limit, kind in bounds:
            if len(taken) >= limit:
                text = f"{limit} {kind} are in flight already; try again in {limits.retry_s} s"
                return OverloadError("overloaded", text, retry_s=limits.retry_s)
        self._asked_at = self._clock.monotonic()
        task = asyncio.current_task()
        assert task is not None
        places = [taken for taken, _, _ in bounds]
        if handler.request_streaming or not streaming:
            places.append(self._asking)
        for taken in places:
            taken.add(task)
            task.add_done_callback(taken.discard)
        return None

    def _once(self, method: str, handler: Handler, shed: OverloadError | None) -> Any:
        async def call(raws: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._guard(method, context) as timer:
                if shed:
                    raise shed
                if handler.request_streaming:
                    answer = await handler.stream_unary(self._all(handler, raws, timer), context)
                else:
                    answer = await handler.unary_unary(
                        await self._one(handler, raws, timer), context
                    )
                return self._written(answer)
            raise AssertionError("a guard that swallows an error aborts the call")

        return call

    def _stream(self, method: str, handler: Handler, shed: OverloadError | None) -> Any:
        async def call(raws: AsyncIterator[bytes], context: Context) -> None:
            async with self._guard(method, context) as timer:
                if shed:
                    raise shed
                if handler.request_streaming:
                    answers = handler.stream_stream(self._all(handler, raws, timer), context)
                else:
                    answers = handler.unary_stream(await self._one(handler, raws, timer), context)
                async with aclosing(answers) as messages:
                    async for message in messages:
                        await self._write(context, self._written(message))

        return call

    async def _one(self, handler: Handler, raws: AsyncIterator[bytes], timer: _Timer) -> Any:
        """The one message of a call that takes one."""
        message_s = self._limits.message_s
        try:
            async with asyncio.timeout(message_s):
                raw = await anext(raws)
        except TimeoutError:
            text = f"the call brought no message within {message_s} s"
            raise UnavailableError("deadline", text) from None
        except StopAsyncIteration:
            raise RequestError("invalid_request", "the call has no message") from None
        timer.start()
        return _parsed(handler, raw)

    async def _all(
        self, handler: Handler, raws: AsyncIterator[bytes], timer: _Timer
    ) -> AsyncIterator[Any]:
        """The messages of a two-way stream, for as long as the client keeps it open."""
        async for raw in raws:
            timer.start()
            self._asked_at = self._clock.monotonic()
            yield _parsed(handler, raw)

    async def _write(self, context: Context, data: bytes) -> None:
        """Write one message; flow control makes this wait for a client that does not read."""
        stall_s = self._limits.stall_s
        try:
            async with asyncio.timeout(stall_s):
                await context.write(data)
        except TimeoutError:
            text = f"the client has read nothing for {stall_s} s"
            raise OverloadError("slow_consumer", text, retry_s=self._limits.retry_s) from None

    def _written(self, message: Message) -> bytes:
        data = message.SerializeToString()
        if len(data) > self._limits.message_bytes:
            text = f"the answer has {len(data)} bytes; the limit is {self._limits.message_bytes}"
            raise RequestError("too_large", text)
        return data

    @asynccontextmanager
    async def _guard(self, method: str, context: Context) -> AsyncIterator[_Timer]:
        timer = _Timer(self._clock)
        code = "OK"
        try:
            _in_time(context)
            yield timer
        except (RequestError, SpecError, EventError, StateError) as error:
            code = status.row_of(error).status.name
            await _abort(context, status.describe(error))
        except asyncio.CancelledError:
            code = "CANCELLED"  # the client went away, or its deadline passed
            raise
        except grpc.aio.InternalError as error:
            code = "CANCELLED"  # it went away while it was written to: gRPC would log an error
            raise asyncio.CancelledError from error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # River's Rust panics are no Exceptions
            code = "INTERNAL"
            error_id = new_id()
            logger.exception("call_failed method=%s id=%s", method, error_id, exc_info=error)
            await _abort(context, status.internal(error_id))
        finally:
            self._requests.observe(method, code, timer.seconds)


class _Timer:
    """Runs from a call's first message on: how long a client takes to send is no latency."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None

    @property
    def seconds(self) -> float | None:
        """None: no message has come."""
        return None if self._began is None else self._clock.monotonic() - self._began

    def start(self) -> None:
        """A message is there; any but the first changes nothing."""
        if self._began is None:
            self._began = self._clock.monotonic()


def _in_time(context: Context) -> None:
    if context.time_remaining() == 0.0:
        raise UnavailableError("deadline", "the deadline passed before the call began")


async def _abort(context: Context, described: Any) -> None:
    code = next(code for code in grpc.StatusCode if code.value[0] == described.code)
    await context.abort(code, described.message, status.trailing(described))


def _parsed(handler: Handler, raw: bytes) -> Any:
    assert handler.request_deserializer is not None
    try:
        return handler.request_deserializer(raw)
    except DecodeError as error:
        text = f"the request is no such message: {error}"
        raise RequestError("invalid_request", text) from error
