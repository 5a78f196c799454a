"""The control log as a worker sees it; the verbs and the order of `pipelines.controllog`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from headrace.pipelines import control
from headrace.views import Partition
from tests.simulation.broker import SimBroker
from tests.simulation.loop import Process

CONTROL = Partition("sim.control", 0)


class SimControlLog:
    """Appends, follows, and waits until a record has been read back."""

    def __init__(
        self,
        broker: SimBroker,
        process: Process,
        on_accepted: Callable[[control.Accepted], Awaitable[None]],
    ) -> None:
        self.registry = control.Registry()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broker = broker
        self._process = process
        self._on_accepted = on_accepted
        self._log = broker.logs[CONTROL]
        self._accepted: asyncio.Queue[control.Accepted] = asyncio.Queue()
        self._waiting: deque[tuple[Callable[[], bool], asyncio.Future[None]]] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        name = self._process.name
        end = await self.send(control.Hello(id=f"hello/{name}", worker=name))
        while self.registry.next_offset <= end:
            await self._broker.away(0.01)
            self._read(announce=False)
        self._tasks = [asyncio.create_task(work) for work in (self._follow(), self._announce())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def append(self, record: control.ControlRecord) -> int:
        """Append, and return the offset once it has been read back."""
        offset = await self.send(record)
        await self._until(lambda: self.registry.next_offset > offset)
        return offset

    async def send(self, record: control.ControlRecord) -> int:
        """Append only."""
        await self._broker.away(0.02)
        offset = self._log.append(None, control.encode(record))
        await self._broker.away(0.02)
        return offset

    async def wake(self) -> None:
        """Nobody waits for a command here."""

    async def _until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, done))
            await done

    async def _follow(self) -> None:
        while True:
            await self._broker.away(0.05)
            if self.registry.next_offset < self._log.end:
                self._read(announce=True)
            else:
                await asyncio.sleep(0.05)

    def _read(self, *, announce: bool) -> None:
        for row in self._log.rows(self.registry.next_offset):
            assert row.value is not None
            accepted = self.registry.apply(control.decode(row.value), row.offset)
            if accepted is not None and announce:
                self._accepted.put_nowait(accepted)
        for _ in range(len(self._waiting)):
            condition, done = self._waiting.popleft()
            if not condition():
                self._waiting.append((condition, done))
            elif not done.done():
                done.set_result(None)

    async def _announce(self) -> None:
        while True:
            await self._on_accepted(await self._accepted.get())

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)
