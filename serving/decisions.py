"""DecisionService: follow an agent's decision topic, the quarantine, and what is withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from headrace.errors import UnavailableError
from headrace.serving import decision_pb2, decision_pb2_grpc, decode
from headrace.serving.backend import Backend
from headrace.serving.limits import Limits

Context = grpc.aio.ServicerContext[Any, Any]


class DecisionServicer(decision_pb2_grpc.DecisionServiceServicer):
    """Hands on records as they were written.

    Nothing is buffered here: the next record is taken from the feed when this one is written, and
    a client that does not read for `Limits.stall_s` is cut off by the interceptor.
    """

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._directory = backend.directory
        self._feed = backend.feed
        self._limits = limits
        self._waiting: set[asyncio.Task[Any]] = set()  # for the next record, not for a client
        self._stopping = False

    async def WatchDecisions(
        self, request: decision_pb2.WatchDecisionsRequest, context: Context
    ) -> AsyncIterator[decision_pb2.WatchDecisionsResponse]:
        agent = decode.name(request.agent, self._limits)
        self._directory.agent(agent)  # raises for an agent that is not there
        records = self._feed.watch(
            agent, from_start=_from_start(request.start), follow=not request.until_end
        )
        async for record in self._watched(records, context):
            yield decision_pb2.WatchDecisionsResponse(record=record)

    async def WatchQuarantine(
        self, request: decision_pb2.WatchQuarantineRequest, context: Context
    ) -> AsyncIterator[decision_pb2.WatchQuarantineResponse]:
        agent = decode.name(request.agent, self._limits) if request.agent else None
        records = self._feed.watch_quarantine(
            agent, from_start=_from_start(request.start), follow=not request.until_end
        )
        async for record in self._watched(records, context):
            yield decision_pb2.WatchQuarantineResponse(record=record)

    async def WatchWithdrawn(
        self, request: decision_pb2.WatchWithdrawnRequest, context: Context
    ) -> AsyncIterator[decision_pb2.WatchWithdrawnResponse]:
        agent = decode.name(request.agent, self._limits) if request.agent else None
        records = self._feed.watch_withdrawn(
            agent, from_start=_from_start(request.start), follow=not request.until_end
        )
        async for record in self._watched(records, context):
            yield decision_pb2.WatchWithdrawnResponse(record=record)

    def stop(self) -> None:
        """End all watches, each when its client has been written what it is being written: they
        would outlast any grace.
        """
        self._stopping = True
        for task in self._waiting:
            task.cancel()

    async def _watched(
        self, records: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        # Clients may wait for the headers: they say that the request was accepted.
        await context.send_initial_metadata(())
        try:
            while (record := await self._next(records)) is not None:
                yield record
        finally:
            close = getattr(records, "aclose", None)  # generators have it, iterators need not
            if close is not None:
                await close()

    async def _next(self, records: AsyncIterator[bytes]) -> bytes | None:
        """The next record; None: there will be none. Raises UnavailableError `stopping`.

        Only this wait is ever cancelled by a stop: gRPC leaves a call open, without an answer, if
        its handler was cancelled while it wrote.
        """
        task = asyncio.current_task()
        assert task is not None
        self._check()
        self._waiting.add(task)
        try:
            return await anext(records, None)
        except asyncio.CancelledError:
            if self._stopping:
                task.uncancel()
            self._check()
            raise
        finally:
            self._waiting.discard(task)

    def _check(self) -> None:
        if self._stopping:
            text = "the worker is going down; watch again"
            raise UnavailableError("stopping", text) from None


def _from_start(start: decision_pb2.WatchStart) -> bool:
    return start == decision_pb2.WATCH_START_EARLIEST
