"""DecisionService: follow an agent's decision topic, and the quarantine."""

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
        self._watching: set[asyncio.Task[Any]] = set()
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

    def stop(self) -> None:
        """End all watches: they would outlast any grace."""
        self._stopping = True
        for task in self._watching:
            task.cancel()

    async def _watched(
        self, records: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        # Clients may wait for the headers: they say that the request was accepted.
        await context.send_initial_metadata(())
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            async for record in records:
                yield record
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            task.uncancel()
            raise UnavailableError("stopping", "the worker is going down; watch again") from None
        finally:
            self._watching.discard(task)
            close = getattr(records, "aclose", None)  # generators have it, iterators need not
            if close is not None:
                await close()


def _from_start(start: decision_pb2.WatchStart) -> bool:
    return start == decision_pb2.WATCH_START_EARLIEST
