"""grpc.health.v1: up before the shards are, NOT_SERVING until they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.errors import NotFoundError
from headrace.ports import Directory
from headrace.serving.limits import Limits

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE = "grpc.health.v1.Health"


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped package
    """Asks the Directory at each check: there is no second copy of the truth that could lag."""

    def __init__(self, directory: Directory, services: Collection[str], limits: Limits) -> None:
        self._directory = directory
        self._services = frozenset(services) | {""}
        self._poll_s = limits.health_poll_s
        self._stopping = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            # The health protocol asks for NOT_FOUND here.
            raise NotFoundError("unknown_service", f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last, ended = None, False
        while not ended:
            # Read before the status: who stops while this one is written is told in the next turn.
            ended = self._stopping.is_set()
            now = self._status(request.service)
            if now != last:
                yield health_pb2.HealthCheckResponse(status=now)
                last = now
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Say NOT_SERVING from now on and end the watches after they have heard it."""
        self._stopping.set()

    def _status(self, service: str) -> int:
        if service not in self._services:
            unknown: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            return unknown
        serving = self._directory.ready() and not self._stopping.is_set()
        name = "SERVING" if serving else "NOT_SERVING"
        number: int = health_pb2.HealthCheckResponse.ServingStatus.Value(name)
        return number
