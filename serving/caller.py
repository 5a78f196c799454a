"""A connection to a worker, and one call over it: what both clients stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2_grpc

from headrace.errors import HeadraceError
from headrace.serving import (
    agent_pb2_grpc,
    calls,
    decision_pb2_grpc,
    prediction_pb2_grpc,
    snapshot_pb2_grpc,
)


class Caller:
    """A connection of a blocking client, with a stub for each service."""

    def __init__(
        self,
        target: str = calls.DEFAULT_TARGET,
        *,
        timeout_s: float = calls.TIMEOUT_S,
        control_timeout_s: float = calls.CONTROL_TIMEOUT_S,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.control_timeout_s = control_timeout_s
        self._channel = grpc.insecure_channel(target, options=calls.OPTIONS)
        self._prediction: Any = prediction_pb2_grpc.PredictionServiceStub(self._channel)
        self._decision: Any = decision_pb2_grpc.DecisionServiceStub(self._channel)
        self._agent: Any = agent_pb2_grpc.AgentServiceStub(self._channel)
        self._snapshot: Any = snapshot_pb2_grpc.SnapshotServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """End all calls and the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """All pages of a list, from the newest on."""
        while True:
            page = self._call(method, request)
            yield page
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def _control(self, method: Callable[..., Any], request: object) -> Any:
        return self._call(method, request, self.control_timeout_s)

    def _call(
        self, method: Callable[..., Any], request: object, timeout_s: float | None = None
    ) -> Any:
        try:
            return method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _watch(
        self, method: Callable[..., Any], request: object, for_s: float | None = None
    ) -> Iterator[Any]:
        """The call has begun when this returns."""
        return self._read(method(request, timeout=for_s))

    def _read(self, call: Any) -> Iterator[Any]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()

    def _failure(self, error: grpc.RpcError) -> HeadraceError:
        return calls.failure(error, self.target)


class AsyncCaller:
    """The same for asyncio. It belongs to one event loop."""

    def __init__(
        self,
        target: str = calls.DEFAULT_TARGET,
        *,
        timeout_s: float = calls.TIMEOUT_S,
        control_timeout_s: float = calls.CONTROL_TIMEOUT_S,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.control_timeout_s = control_timeout_s
        self._channel = grpc.aio.insecure_channel(target, options=calls.OPTIONS)
        self._prediction: Any = prediction_pb2_grpc.PredictionServiceStub(self._channel)
        self._decision: Any = decision_pb2_grpc.DecisionServiceStub(self._channel)
        self._agent: Any = agent_pb2_grpc.AgentServiceStub(self._channel)
        self._snapshot: Any = snapshot_pb2_grpc.SnapshotServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._window = asyncio.Semaphore(calls.IN_FLIGHT)  # of predictions

    async def close(self) -> None:
        """End all calls and the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def _pages(self, method: Callable[..., Any], request: Any) -> AsyncIterator[Any]:
        """All pages of a list, from the newest on."""
        while True:
            page = await self._call(method, request)
            yield page
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _control(self, method: Callable[..., Any], request: object) -> Any:
        return await self._call(method, request, self.control_timeout_s)

    async def _call(
        self, method: Callable[..., Any], request: object, timeout_s: float | None = None
    ) -> Any:
        try:
            return await method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    async def _watch(
        self, method: Callable[..., Any], request: object, for_s: float | None
    ) -> AsyncIterator[Any]:
        async for message in self._read(method(request, timeout=for_s)):
            yield message

    async def _read(self, call: Any) -> AsyncIterator[Any]:
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()

    def _failure(self, error: grpc.RpcError) -> HeadraceError:
        return calls.failure(error, self.target)
