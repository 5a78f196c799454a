"""The gRPC server of a worker."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import cast

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from headrace.clock import Clock, SystemClock
from headrace.config import is_loopback, joined
from headrace.errors import StateError
from headrace.serving import (
    agent_pb2_grpc,
    decision_pb2_grpc,
    health,
    prediction_pb2_grpc,
    snapshot_pb2_grpc,
)
from headrace.serving.agents import AgentServicer
from headrace.serving.backend import Backend
from headrace.serving.decisions import DecisionServicer
from headrace.serving.health import HealthServicer
from headrace.serving.interceptor import Interceptor
from headrace.serving.limits import Limits
from headrace.serving.metrics import AgentsCollector, MetricsServer, Requests
from headrace.serving.prediction import PredictionServicer
from headrace.serving.snapshots import SnapshotServicer

logger = logging.getLogger(__name__)

SERVICES = (
    "headrace.v1.PredictionService",
    "headrace.v1.DecisionService",
    "headrace.v1.AgentService",
    "headrace.v1.SnapshotService",
)

OURS = ("127.0.0.1", "localhost")  # addresses that every machine has


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Where to listen. A port of 0 is any free one; no metrics port, no `/metrics`."""

    host: str = "127.0.0.1"
    port: int = 50051
    metrics_port: int | None = None  # always on the loopback interface
    insecure: bool = False  # allow a host beyond loopback, in plain text and without login


def check_port(host: str, port: int) -> None:
    """Look before a long start whether the port is free, without keeping it.

    Raises StateError: taken, or the host is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _taken(host, port) from error
    # gRPC listens where it can, too: on `localhost` of a machine without IPv6, say.
    if not any(_is_free(family, address) for family, _, _, _, address in found):
        raise _taken(host, port)


def _is_free(family: socket.AddressFamily, address: object) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
            tried.bind(cast("tuple[str, int]", address))
            tried.listen()
    except OSError:
        return False
    return True


def _taken(host: str, port: int) -> StateError:
    foreign = "" if host in OURS else f", or {host} is not an address of this machine"
    return StateError(
        f"port {port} is taken on {host}{foreign};"
        " stop what listens there or choose another port with --grpc-port"
    )


class Server:
    """Order of calls: `await start()`, once; `await stop(grace_s)`, any number of times.

    It may start before the shards: health says NOT_SERVING until `Directory.ready()`.
    """

    def __init__(
        self,
        backend: Backend,
        listen: Listen | None = None,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._backend = backend
        self._listen = listen or Listen()
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._registry = CollectorRegistry()
        self._metrics = MetricsServer(self._registry)
        self._requests = Requests(self._registry)
        self._decisions = DecisionServicer(backend, self._limits)
        self._health = HealthServicer(backend.directory, SERVICES, self._limits)
        self._interceptor = Interceptor(self._limits, self._clock, self._requests)
        self._grpc: grpc.aio.Server | None = None
        self.address = ""  # bound ones, once started
        self.port = 0
        self.metrics_port: int | None = None

    @property
    def in_flight(self) -> int:
        """Calls that somebody waits for now."""
        return self._interceptor.in_flight

    @property
    def is_asked(self) -> bool:
        """Whether calls are in flight or were just now: a learner on the same loop takes shorter
        turns then.
        """
        return self._interceptor.is_asked

    async def start(self) -> int:
        """Listen, and return the bound port. Raises StateError: port taken, or host not local."""
        assert self._grpc is None, "start is called once"
        host, port = self._listen.host, self._listen.port
        if not self._listen.insecure and not is_loopback(host):
            raise StateError(
                f"{host} is not a loopback address, and calls are neither encrypted nor checked;"
                " listen on 127.0.0.1 or allow it with --insecure"
            )
        server = self._built()
        try:
            self.port = server.add_insecure_port(joined(host, port))
        except RuntimeError as error:
            raise _taken(host, port) from error
        self.address = joined(host, self.port)
        self._start_metrics()
        await server.start()
        self._grpc = server
        logger.info("serving host=%s port=%d metrics_port=%s", host, self.port, self.metrics_port)
        return self.port

    def _start_metrics(self) -> None:
        if self._listen.metrics_port is None:
            return
        directory, loop = self._backend.directory, asyncio.get_running_loop()
        self._registry.register(AgentsCollector(directory, loop, scrape_s=self._limits.scrape_s))
        self.metrics_port = self._metrics.start("127.0.0.1", self._listen.metrics_port)

    async def stop(self, grace_s: float = 1.0) -> None:
        """Say NOT_SERVING, end the watches, let calls in flight end for `grace_s` seconds."""
        server, self._grpc = self._grpc, None
        self._health.stop()
        self._decisions.stop()
        if server is not None:
            await server.stop(grace_s)
        await self._metrics.stop()

    def _built(self) -> grpc.aio.Server:
        limits = self._limits
        server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=_options(limits),
        )
        prediction = PredictionServicer(self._backend, limits, self._clock)
        agents = AgentServicer(self._backend, limits)
        snapshots = SnapshotServicer(self._backend, limits, self._clock)
        prediction_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        decision_pb2_grpc.add_DecisionServiceServicer_to_server(self._decisions, server)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(agents, server)
        snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshots, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server


def _options(limits: Limits) -> list[tuple[str, int]]:
    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    return [
        # Else a second worker would bind the same port and silently take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_connection_idle_ms", ms(limits.idle_s)),
        ("grpc.server_handshake_timeout_ms", ms(limits.handshake_s)),
        ("grpc.keepalive_time_ms", ms(limits.keepalive_s)),
        ("grpc.keepalive_timeout_ms", ms(limits.keepalive_s / 3)),
        ("grpc.http2.min_ping_interval_without_data_ms", ms(limits.keepalive_s / 2)),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
