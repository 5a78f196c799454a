from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from headrace.serving.client import AsyncClient
from headrace.serving.server import SERVICES, Server
from tests.serving.world import World

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def check(stub: Any, service: str = "") -> int:
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_not_serving_until_the_shards_are_ready(
    world: World, target: str, client: AsyncClient
) -> None:
    """The server is up before the shards; health says NOT_SERVING, then SERVING."""
    world.is_ready = False
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert [await check(stub, name) for name in ("", *SERVICES)] == [NOT_SERVING] * 5
        assert not await client.ready()
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == NOT_SERVING
        world.is_ready = True
        assert (await watch.read()).status == SERVING
        assert [await check(stub, name) for name in ("", *SERVICES)] == [SERVING] * 5
    assert await client.ready()


async def test_a_worker_that_stops_says_so_first(server: Server, target: str) -> None:
    """Health watchers hear NOT_SERVING before the worker goes."""
    async with grpc.aio.insecure_channel(target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        await server.stop(5)
        assert (await watch.read()).status == NOT_SERVING


async def test_unknown_services_are_not_found(target: str) -> None:
    """The health protocol's answers for a service that is not there."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await check(stub, "headrace.v1.Nothing")
        assert found.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="headrace.v1.Nothing"))
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert (await watch.read()).status == unknown


async def test_reflection_shows_the_services(target: str) -> None:
    """Tools such as grpcurl find every service and its messages under canonical file names."""

    def ask() -> tuple[list[str], str]:
        with grpc.insecure_channel(target) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            names = list(database.get_services())
            found = database.FindFileContainingSymbol("headrace.v1.PredictionService")
            return names, found.name

    names, file = await asyncio.to_thread(ask)
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(names)
    assert file == "headrace/v1/prediction.proto"
