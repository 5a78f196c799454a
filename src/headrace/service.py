"""The whole service in one object: a broker, a worker, and the gRPC server in front of it.

This is composition: the one place below the command line that sees every room.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace import interpreter
from headrace.clock import new_id
from headrace.config import Config
from headrace.pipelines.archives import Archives
from headrace.pipelines.broker import Broker, open_broker
from headrace.pipelines.commands import Commands
from headrace.pipelines.feeds import Decisions, EventProducer, Feedback
from headrace.pipelines.forget_commands import ForgetCommands
from headrace.pipelines.live import LiveShards
from headrace.pipelines.past.answers import Past
from headrace.pipelines.rollback_commands import RollbackCommands
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.worker import Worker
from headrace.serving.backend import Backend
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server

EMBEDDED_SESSION_S = 2.0
"""Session timeout towards an embedded broker, which lets a first member wait for half of it."""


class Service:
    """A worker that is ready to learn and to answer.

    `broker`: one that runs already and outlives the service; else `config.broker` is opened.
    Order of calls: `start`; `grpc_address` and `broker` may be used; wait for `failed`; `stop`.
    Raises StateError or UnavailableError from `start`, after releasing what it had taken.
    """

    def __init__(self, config: Config, *, broker: Broker | None = None) -> None:
        self.config = config
        self.grpc_address = ""
        self._lent_broker = broker
        self.broker: Broker
        self.worker: Worker
        self.past: Past
        self.events: EventProducer
        self._server: Server
        self.metrics_port: int | None = None
        self._taken = AsyncExitStack()

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done, with the reason, when infrastructure has failed and the process must end."""
        return self.worker.failed

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Release everything in the reverse order of the start; the broker goes last."""
        await self._taken.aclose()

    async def _start(self) -> None:
        config = self.config
        run_dir = Path(self._taken.enter_context(TemporaryDirectory(prefix="headrace-run-")))
        if self._lent_broker is not None:
            self.broker = self._lent_broker
        else:
            self.broker = open_broker(config.broker, run_dir, wait_s=config.broker_wait_s)
            await self.broker.start()
            self._taken.push_async_callback(self.broker.stop)
        if self.broker.own:
            session_s = min(config.session_timeout_s, EMBEDDED_SESSION_S)
            config = dataclasses.replace(config, session_timeout_s=session_s)
        self.worker = Worker(
            config,
            self.broker,
            config.state_path() or run_dir / "state",
            worker_id=new_id(),
            busy=lambda: self._server.is_asked,
        )
        self.events = EventProducer(self.broker.bootstrap)
        live = LiveShards(self.worker)
        snapshots = SnapshotCommands(self.worker)
        self.past = Past(self.worker, live, snapshots)
        backend = Backend(
            predictor=live,
            directory=live,
            specs=live,
            controls=Commands(self.worker),
            sink=Feedback(self.worker, self.events),
            feed=Decisions(self.worker),
            snapshots=snapshots,
            rollbacks=RollbackCommands(self.worker, snapshots),
            past=self.past,
            forgets=ForgetCommands(self.worker),
            archives=Archives(self.worker, snapshots),
        )
        # Before the shards: health must answer NOT_SERVING while they are being restored.
        listen = Listen(
            host=config.grpc_host,
            port=config.grpc_port,
            metrics_port=config.metrics_port,
            insecure=config.insecure,
        )
        self._server = Server(
            backend,
            listen,
            limits=Limits(
                message_bytes=config.message_bytes_max,
                streams_per_connection=config.streams_max,
            ),
        )
        self._taken.push_async_callback(self._server.stop)
        await self._server.start()
        self.grpc_address = self._server.address
        self.metrics_port = self._server.metrics_port
        await self.events.start()
        self._taken.push_async_callback(self.events.stop)
        self._taken.push_async_callback(self.worker.stop)
        await self.worker.start()
        self.past.start()
        self._taken.push_async_callback(self.past.stop)
        interpreter.settle()
