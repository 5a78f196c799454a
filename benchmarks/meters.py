"""What is measured inside a worker's process, beside its speed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter, thread_time
from typing import Any, Protocol

from benchmarks.stages import Stages

from headrace.models.learner import Learner
from headrace.state.store import ShardMeta, ShardStore

BEAT_S = 0.001


class Meter(Protocol):
    """Measures while it is entered."""

    def figures(self) -> dict[str, Any]: ...


class Heartbeat:
    """How long the event loop did not turn: a task that sleeps for a millisecond, again and again.

    The collector's own stops are told apart, as they are part of the loop's; and the CPU that the
    loop's thread used at most between two beats, which is less where others had the core meanwhile.
    """

    def __init__(self) -> None:
        self._longest = 0.0
        self._longest_cpu = 0.0
        self._longest_collection = 0.0
        self._collections = [0, 0, 0]
        self._began = 0.0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Heartbeat]:
        meter = cls()
        beating = asyncio.create_task(meter._beat())
        gc.callbacks.append(meter._collecting)
        try:
            yield meter
        finally:
            gc.callbacks.remove(meter._collecting)
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    def figures(self) -> dict[str, Any]:
        return {
            "longest_ms": self._longest * 1e3,
            "longest_cpu_ms": self._longest_cpu * 1e3,
            "longest_collection_ms": self._longest_collection * 1e3,
            "full_collections": self._collections[2],
        }

    async def _beat(self) -> None:
        before, cpu_before = perf_counter(), thread_time()
        while True:
            await asyncio.sleep(BEAT_S)
            now, cpu_now = perf_counter(), thread_time()
            self._longest = max(self._longest, now - before - BEAT_S)
            self._longest_cpu = max(self._longest_cpu, cpu_now - cpu_before)
            before, cpu_before = now, cpu_now

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
            return
        self._collections[info["generation"]] += 1
        self._longest_collection = max(self._longest_collection, perf_counter() - self._began)


class Flushes:
    """What flushes cost: encoding the changed rows, and writing them, by the clock on the wall."""

    def __init__(self) -> None:
        self._rows = 0
        self._encode_s = 0.0
        self._write_s = 0.0
        self._writes = 0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Flushes]:
        meter = cls()
        changed, write = Learner.changed, ShardStore.write
        with (
            instead(Learner, "changed", lambda learner: meter._encoding(changed(learner))),
            instead(
                ShardStore,
                "write",
                lambda store, rows, meta: meter._writing(write, store, rows, meta),
            ),
        ):
            yield meter

    def figures(self) -> dict[str, Any]:
        return {
            "rows": self._rows,
            "writes": self._writes,
            "encode_s": self._encode_s,
            "write_s": self._write_s,
        }

    def _encoding(
        self, rows: Iterator[tuple[bytes, bytes | None]]
    ) -> Iterator[tuple[bytes, bytes | None]]:
        while True:
            began = perf_counter()
            row = next(rows, None)
            self._encode_s += perf_counter() - began
            if row is None:
                return
            self._rows += 1
            yield row

    def _writing(
        self,
        write: Callable[..., None],
        store: ShardStore,
        rows: Iterable[tuple[bytes, bytes | None]],
        meta: ShardMeta,
    ) -> None:
        began = perf_counter()
        write(store, rows, meta)
        self._write_s += perf_counter() - began
        self._writes += 1


@contextlib.contextmanager
def instead(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Put a method in another's place, for as long as this is entered."""
    before = getattr(owner, name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, before)


METERS: dict[str, Callable[[], AbstractAsyncContextManager[Meter]]] = {
    "heartbeat": Heartbeat.running,
    "flushes": Flushes.running,
    "stages": Stages.running,
}
