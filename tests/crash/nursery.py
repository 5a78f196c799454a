"""The harness's side of the worker's process: order a life, see what becomes of it, end it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from headrace.config import worker_environment
from tests.crash.life import Life, decode_said
from tests.tree import ROOT

START_WAIT_S = 60.0
"""From the order of a life until its worker is ready; starting takes one or two seconds."""
END_WAIT_S = 60.0
"""From SIGTERM until the process has ended."""
LOG_TAIL_BYTES = 6_000


class WorkerEndedError(Exception):
    """A worker ended that should not have; the text has its last words."""


class Worker:
    """A worker's process. `address` is done when it is ready, `ended` with its exit status."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid: asyncio.Future[int] = loop.create_future()
        self.address: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.aimed: str | None = None  # the point at which it killed itself

    async def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        pid = await self.pid
        if not self.ended.done():
            os.kill(pid, number)

    async def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        async with asyncio.timeout(END_WAIT_S):
            await self.signal(signal.SIGKILL)
            await self.ended

    async def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        async with asyncio.timeout(END_WAIT_S):
            await self.signal(signal.SIGTERM)
            return await self.ended

    def lost(self, reason: str) -> None:
        """The process in which it was born is gone: nothing more will be heard."""
        futures: tuple[asyncio.Future[Any], ...] = (self.pid, self.address, self.ended)
        for future in futures:
            if not future.done():
                future.set_exception(WorkerEndedError(reason))
                future.exception()  # whoever awaits it is told, and asyncio is content


class Nursery:
    """A process that has everything imported and bears one worker after the other.

    Order of calls: `start`, `bear` when the last worker has ended, `stop`. `log` takes what the
    workers log.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]
        self._worker: Worker | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.crash.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=worker_environment(),
            )
        self._listening = asyncio.create_task(self._listen())

    async def bear(self, life: Life) -> Worker:
        """Order a worker's life. It is not ready yet when this returns."""
        assert self._worker is None or self._worker.ended.done(), "one worker at a time"
        worker = self._worker = Worker()
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(life) + b"\n")
        await self._process.stdin.drain()
        return worker

    async def ready(self, worker: Worker) -> str | None:
        """Its address, or None if it ended, as it was ordered to, before it was ready."""
        either: set[asyncio.Future[Any]] = {worker.address, worker.ended}
        await asyncio.wait(either, timeout=START_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if worker.address.done():
            return worker.address.result()
        if worker.ended.done() and worker.aimed:
            return None
        raise WorkerEndedError(f"a worker did not start; it said: {self.last_words()}")

    async def stop(self) -> None:
        """End the worker that may still run, and the process."""
        if self._worker is not None and not self._worker.ended.done():
            await self._worker.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening

    def last_words(self) -> str:
        """The end of what workers logged."""
        return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said, worker = decode_said(line), self._worker
            assert worker is not None
            if said.what == "born":
                worker.pid.set_result(said.pid)
            elif said.what == "ready":
                worker.address.set_result(said.text)
            elif said.what == "aimed":
                worker.aimed = said.text
            else:
                worker.ended.set_result(int(said.text))
        if self._worker is not None and not self._worker.ended.done():
            self._worker.lost(f"the nursery has ended; it said: {self.last_words()}")
