"""An event loop in virtual time, and processes that die between any two of its steps."""

from __future__ import annotations

import asyncio
import inspect
import random
import selectors
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import Context, ContextVar, copy_context
from typing import Any

STEPS_MAX = 2_000_000
"""Steps of one world: far more than any needs; a world that spins is a failure, not a hang."""


UNWIND_MAX = 1_000
"""Awaits that a dead task's `finally` blocks may have."""


class Stuck(Exception):
    """The world stands still, or spins: somebody waits for what will never come."""


class Process:
    """What dies together: all tasks begun in its context. `held` is what the system takes back.

    With `dies_at`, it dies instead of doing its step of that number. `dead` is done then.
    """

    def __init__(self, name: str, dies_at: int | None = None) -> None:
        self.name = name
        self.dies_at = dies_at
        self.steps = 0
        self.alive = True
        self.dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held = ExitStack()
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def bury(self) -> None:
        """It does no step any more: take back what it held. To be called from outside.

        A killed process runs no `finally`. Python would run them whenever it collects a coroutine;
        here they run now, where none of them can reach a log or a disk any more.
        """
        self.alive = False
        within = copy_context()  # what begins in there is the dead process's, too
        within.run(PROCESS.set, self)
        for task in self.tasks:  # unwinding one may begin another
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                within.run(_unwind, task.get_coro())
        self.tasks.clear()
        self.held.close()
        if not self.dead.done():
            self.dead.set_result(None)


class Killed(BaseException):
    """Thrown at every await of a dead process."""


def _unwind(work: Any) -> None:
    dropped = not inspect.iscoroutine(work)  # it ends a generator that nobody has any more
    if not dropped and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        for given in work.cr_frame.f_locals.values():  # nobody will begin that either
            if inspect.iscoroutine(given):
                given.close()
    for _ in range(UNWIND_MAX):
        try:
            work.throw(Killed)
        except BaseException:  # noqa: BLE001 - whatever a dead process says is not heard
            return
    raise AssertionError("a dead process goes on waiting")


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer; what goes to a thread runs here, after a delay by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.steps = 0
        self.long_waits = 0
        self._now = 0.0
        super().__init__(_Jump(self))
        self._clock_resolution = 1e-9
        self.set_task_factory(_remembered)  # type: ignore[arg-type]  # `context` since 3.11

    def time(self) -> float:
        """Virtual seconds. Now and then work takes some, so that slices come out as they may."""
        self._now += 1e-6 if self.chance.random() < 0.97 else self.chance.random() * 4e-3
        return self._now

    def advance(self, seconds: float) -> None:
        """Jump."""
        self._now += seconds

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(self._step, _of(context), callback, args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, self._step, _of(context), callback, args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As a thread would: done at some moment, told at a later one."""

        async def work() -> Any:
            await asyncio.sleep(self.delay(0.05))
            result = func(*args)
            await asyncio.sleep(self.delay(0.01))
            return result

        return self.create_task(work())

    def delay(self, usual_s: float) -> float:
        """Seconds by chance: mostly about `usual_s`, sometimes none, now and then very long."""
        kind = self.chance.random()
        if kind < 0.2:
            return 0.0
        if kind < 0.95:
            return usual_s * self.chance.random() * 2
        self.long_waits += 1
        return usual_s * 20

    def _step(
        self, process: Process | None, callback: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.steps += 1
        if process is None:
            callback(*args)
        elif process.alive:
            process.steps += 1
            if process.steps == process.dies_at:
                process.alive = False
                super().call_soon(process.bury, context=Context())
            else:
                callback(*args)


class _Jump(selectors.SelectSelector):
    """Instead of waiting for files, time goes on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if self._loop.steps > STEPS_MAX:
            raise Stuck(f"more than {STEPS_MAX:,} steps")
        if timeout is None:
            raise Stuck("nothing is left to happen, and somebody waits")
        if timeout > 0:
            self._loop.advance(timeout)
        return []


def _of(context: Context | None) -> Process | None:
    return PROCESS.get() if context is None else context.get(PROCESS, None)


def _remembered(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    *,
    context: Context | None = None,
) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, context=context)
    process = _of(context)
    if process is not None:
        process.tasks.append(task)
    return task
