"""A service from its start to its end, and what is said on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.markup import escape

from headrace.cli.brokers import wait_for
from headrace.cli.client import address_of
from headrace.cli.console import grid, say, waiting
from headrace.cli.failure import FAILED, infrastructure, tell
from headrace.cli.program import program
from headrace.config import Config
from headrace.errors import HeadraceError, StateError
from headrace.logs import fields
from headrace.pipelines.broker import open_broker
from headrace.service import Service
from headrace.serving.server import check_port
from headrace.state.mlflow_sink import check_installed

log = logging.getLogger(__name__)

STOPPED_BEFORE_READY = 128  # and the signal's number, as shells count
STOP_WAIT_S = 15.0
"""How long a stop may take; with a broker that is away it would take minutes."""
CANCEL_WAIT_S = 2.0


async def serve(settings: Config) -> None:
    """Run a worker until a signal or a failure. Raises HeadraceError, or typer.Exit."""
    _print_settings(settings)
    try:
        await _serve(settings, Stop())
    except GivenUp as given_up:
        # What is left of a stop that failed waits for a broker that is away, for minutes, and the
        # event loop would wait for it. Nothing can be lost any more: the flushes before are whole.
        tell(given_up.reason)
        logging.shutdown()
        os._exit(FAILED)
    say("stopped")


class GivenUp(Exception):
    """The service did not stop in order. `reason`: why it had to stop, or this."""

    def __init__(self, reason: HeadraceError) -> None:
        super().__init__(str(reason))
        self.reason = reason


async def _serve(settings: Config, stop: Stop) -> None:
    async with AsyncExitStack() as taken:
        _check_start(settings)
        run_dir = Path(taken.enter_context(TemporaryDirectory(prefix="headrace-up-")))
        broker = open_broker(settings.broker, run_dir, wait_s=settings.broker_wait_s)
        await stop.unless(wait_for(broker, settings))
        taken.push_async_callback(broker.stop)
        service = Service(settings, broker=broker)
        state = _state(settings)  # before the start, which makes the directory
        with waiting("starting (Ctrl-C gives up)"):
            await stop.unless(service.start())
        _print_addresses(service, settings, state)
        try:
            await _first(stop.asked, service.failed)
        finally:
            ended_well = await _stop(service)
        reason = _reason(service.failed)
        if not ended_well:
            words = "the worker did not stop in order; its state is that of the last flush"
            raise GivenUp(reason or StateError(words))
        if reason is not None:
            raise reason


def _check_start(settings: Config) -> None:
    """What would end the start only when the broker is up, seen before. Raises StateError."""
    if settings.mlflow is not None:
        check_installed()
    check_port(settings.grpc_host, settings.grpc_port)


def _reason(failed: asyncio.Future[None]) -> HeadraceError | None:
    """What the service has failed of; None if it was asked to stop."""
    if not failed.done() or failed.cancelled() or (error := failed.exception()) is None:
        return None
    return infrastructure(error)


class Stop:
    """SIGINT and SIGTERM as a future. The second signal is Python's own again: it ends at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.asked: asyncio.Future[int] = self._loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._ask, number)

    def _ask(self, number: int) -> None:
        self.asked.set_result(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(each)

    async def unless(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, given up at the first signal. Raises HeadraceError, or typer.Exit."""
        task = asyncio.ensure_future(work)
        await _first(task, self.asked)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise typer.Exit(STOPPED_BEFORE_READY + self.asked.result())
        if (error := task.exception()) is not None:
            raise infrastructure(error) from None


async def _first(*either: asyncio.Future[Any]) -> None:
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)


async def _stop(service: Service) -> bool:
    """Stop in order, within a bound. Whether it went well; a crash would lose no more."""
    task = asyncio.ensure_future(service.stop())
    with waiting("stopping: writing state (Ctrl-C once more leaves at once)"):
        await asyncio.wait({task}, timeout=STOP_WAIT_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_WAIT_S)
        log.warning("service.stop_given_up", extra=fields(seconds=STOP_WAIT_S))
        return False
    if task.cancelled() or (error := task.exception()) is not None:
        reason = "cancelled" if task.cancelled() else repr(error)
        log.warning("service.stop_failed", extra=fields(error=reason))
        return False
    return True


def _print_settings(settings: Config) -> None:
    changed = [setting for setting in settings.describe() if setting.source != "default"]
    if changed:
        rows = [tuple(escape(text) for text in setting) for setting in changed]
        grid(("setting", "value", "from"), rows)


def _state(settings: Config) -> str:
    """Where the state lives, and whether something was learned there before."""
    path = settings.state_path()
    if path is None:
        return "temporary: it goes with the process"
    shards = path / "shards"
    before = shards.is_dir() and any(shards.iterdir())
    return f"{path.absolute()} ({'learned before' if before else 'new'})"


def _print_addresses(service: Service, settings: Config, state: str) -> None:
    broker = service.broker
    if not broker.durable:
        say(
            "[yellow]memory: events are kept in memory, and they and what is learned from them go "
            "with this process[/]"
        )
    say(f"events   {broker.bootstrap} (Kafka protocol)")
    say(f"gRPC     {service.grpc_address}")
    if service.metrics_port is not None:
        say(f"metrics  http://127.0.0.1:{service.metrics_port}/metrics")
    say(f"state    {escape(state)}")
    usual = settings.grpc_port and address_of(settings) == address_of(Config())
    to = "" if usual else f" --address {service.grpc_address}"
    command = escape(f"{program()} deploy FILE{to}")
    say(f"[green]ready[/]; deploy an agent: `{command}`; Ctrl-C stops")
