"""Processes that are measured: each a fresh Python of its own, tied to one core.

What is measured has the first core to itself; broker, load and the process that watches share the
last one. A child says what it has to say in lines of JSON on its standard output and ends when its
standard input does, so none outlives us. Linux only: others do not tie a process to a core.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from headrace.config import worker_environment
from headrace.errors import StateError

ROOT = Path(__file__).parent.parent
ANSWER_WAIT_S = 180.0
"""How long a child may take for one line."""
END_WAIT_S = 20.0
_CORES = sorted(os.sched_getaffinity(0))
MEASURED, OTHER = _CORES[0], _CORES[-1]
"""The core of what is measured, and that of everything else; the same if there is only one."""


def tie(core: int) -> None:
    """Keep this process, and the children that it starts, on one core."""
    os.sched_setaffinity(0, {core})


class CoreUse(NamedTuple):
    """How busy the measured core has been since the machine was started, and whose work it was."""

    at_s: float
    busy_s: float
    ours_s: float

    @classmethod
    def now(cls, process: Child) -> CoreUse:
        """As the kernel counts it, in hundredths of a second. Linux only."""
        tick = os.sysconf("SC_CLK_TCK")
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        counts = next(line.split() for line in lines if line.startswith(f"cpu{MEASURED} "))
        user, nice, system, _idle, _waiting, *others = map(int, counts[1:9])
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
        ours = stat.rpartition(")")[2].split()[11:13]
        busy = user + nice + system + sum(others)
        return cls(monotonic(), busy / tick, sum(map(int, ours)) / tick)

    def others_until(self, later: CoreUse) -> float:
        """The share of the core's time that went to others in between."""
        others = later.busy_s - self.busy_s - (later.ours_s - self.ours_s)
        return max(others, 0.0) / (later.at_s - self.at_s)


class Child:
    """A module of this directory that runs as a process; made by `child`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def says(self) -> dict[str, Any]:
        """Its next line. Raises StateError if it ends, or says nothing for too long."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise StateError(f"{self._name} said nothing for {ANSWER_WAIT_S:g} s") from None
        if not line:
            raise StateError(f"{self._name} has ended: exit code {await self._process.wait()}")
        return msgspec.json.decode(line, type=dict[str, Any])

    async def asked(self, request: Any) -> dict[str, Any]:
        """Its answer to a line of ours."""
        await self.told(request)
        return await self.says()

    async def told(self, line: Any) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(line) + b"\n")
        await self._process.stdin.drain()

    async def end(self) -> None:
        """Let it end by itself; kill it, by its own id, if it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        waiting = asyncio.ensure_future(self._process.wait())
        if not await _within(waiting, END_WAIT_S):
            self._process.kill()
            await waiting


@asynccontextmanager
async def child(module: str, order: msgspec.Struct, core: int) -> AsyncIterator[Child]:
    """Run `benchmarks.<module>` on a core; `order` is the first line of its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.tied", str(core), f"benchmarks.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=worker_environment(),
        cwd=ROOT,
        limit=1 << 24,
    )
    running = Child(module, process)
    try:
        await running.told(order)
        yield running
    finally:
        await running.end()


def say(line: Any) -> None:
    """What a child tells the process that started it."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


async def _within(work: Awaitable[Any], seconds: float) -> bool:
    done, _ = await asyncio.wait({asyncio.ensure_future(work)}, timeout=seconds)
    return bool(done)
