"""Where a worker's time goes: samples of its main thread, and the CPU of its other threads.

A timer of the process's CPU interrupts the main thread every few milliseconds; what it is doing is
the innermost frame that stands in `STAGES`. A sample weighs as much CPU as the main thread has used
since the one before, so that the stages add up to what the thread has used. Interrupts come between
two bytecodes: time in C code counts for the line that called it.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import thread_time
from types import FrameType
from typing import Any

SAMPLE_S = 0.002  # of CPU between two samples; the kernel may make it longer
OTHER = "not told apart"
COLLECTOR = "garbage collector"

STAGES: tuple[tuple[str, str, str], ...] = (
    # the end of the file's path, the function ("" for all), the stage
    ("models/guard.py", "", "decode and guard"),
    ("models/typed_reader.py", "", "decode and guard"),
    ("models/features.py", "", "decode and guard"),
    ("models/wants.py", "", "decode and guard"),
    ("models/depth.py", "", "decode and guard"),
    ("models/pure.py", "", "predict"),
    ("models/forecasts.py", "", "predict"),
    ("models/fastlearn.py", "", "learn"),
    ("models/compiled/linear.py", "learn", "learn"),
    ("models/compiled/linear.py", "", "predict"),
    ("models/compiled/linear_bytes.py", "", "rows: encode and decode"),
    ("models/finite.py", "", "learn: look at the model"),
    ("models/policies.py", "", "decide"),
    ("models/decisions.py", "", "decision: encode"),
    ("models/learner.py", "_decision", "decision: make"),
    ("models/learner.py", "changed", "flush: encode"),
    ("models/metrics.py", "", "metrics"),
    ("models/codec/", "", "rows: encode and decode"),
    ("models/slots.py", "changed", "flush: encode"),
    ("models/slots.py", "pack", "flush: encode"),
    ("models/slots.py", "flushed", "flush: encode"),
    ("models/slots.py", "", "slots and journal"),
    ("models/keyed.py", "_learn", "learn"),
    ("models/keyed.py", "", "keyed step around the model"),
    ("models/learner.py", "", "step around the event"),
    ("models/logtime.py", "", "log time"),
    ("pipelines/emit.py", "append", "decision: append"),
    ("pipelines/emit.py", "", "decision: send"),
    ("aiokafka/producer/", "", "decision: send"),
    ("pipelines/shardstart.py", "emit", "decision: append"),
    ("pipelines/shard.py", "_flush", "flush: around it"),
    ("pipelines/shard.py", "", "shard: slices"),
    ("pipelines/transport.py", "", "fetch and driver"),
    ("pipelines/streams.py", "", "fetch and driver"),
    ("pipelines/fetchthread.py", "", "fetch and driver"),
    ("/faust/", "", "fetch and driver"),
    ("/mode/", "", "fetch and driver"),
    ("/aiokafka/", "", "fetch and driver"),
    ("benchmarks/", "", "this measurement"),
    ("/selectors.py", "", "event loop"),
    ("/asyncio/", "", "event loop"),
)


def stage_of(frame: FrameType | None) -> str:
    """The stage of the innermost frame that belongs to one."""
    while frame is not None:
        code = frame.f_code
        for path, function, stage in STAGES:
            if path in code.co_filename and function in ("", code.co_name):
                return stage
        frame = frame.f_back
    return OTHER


class Stages:
    """Samples while it is entered; on the main thread only, as signals are."""

    def __init__(self) -> None:
        self._cpu: defaultdict[str, float] = defaultdict(float)
        self._samples = 0
        self._last = thread_time()
        self._threads = _thread_cpu()
        self._main = threading.get_ident()
        self._collecting = 0.0  # CPU seconds of the collector on the main thread
        self._collected = 0.0  # those of them that a sample has counted
        self._elsewhere: defaultdict[str, float] = defaultdict(float)  # on other threads
        self._began = 0.0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Stages]:
        meter = cls()
        before = signal.signal(signal.SIGPROF, meter._sample)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
        gc.callbacks.append(meter._collection)
        try:
            yield meter
        finally:
            gc.callbacks.remove(meter._collection)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
            meter._end()

    def figures(self) -> dict[str, Any]:
        """CPU seconds by stage, those of other threads too, and how many samples there were."""
        return {"cpu_s": dict(self._cpu), "samples": self._samples}

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now = thread_time()
        # No interrupt comes inside the collector: what it took is in the sample after it.
        collected = self._collecting - self._collected
        self._cpu[COLLECTOR] += collected
        self._cpu[stage_of(frame)] += now - self._last - collected
        self._last, self._collected = now, self._collecting
        self._samples += 1

    def _collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = thread_time()
        elif threading.get_ident() == self._main:
            self._collecting += thread_time() - self._began
        else:
            self._elsewhere[_thread_stage(threading.current_thread().name)] += (
                thread_time() - self._began
            )

    def _end(self) -> None:
        main = threading.main_thread().native_id
        for (thread, name), cpu_s in _thread_cpu().items():
            if thread != main:
                self._cpu[name] += cpu_s - self._threads.get((thread, name), 0.0)
        for name, cpu_s in self._elsewhere.items():
            self._cpu[name] -= cpu_s
            self._cpu[COLLECTOR] += cpu_s


def _thread_cpu() -> dict[tuple[int, str], float]:
    """CPU seconds of every thread of this process, by id and stage. Linux only."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found: dict[tuple[int, str], float] = {}
    for task in Path("/proc/self/task").iterdir():
        number = int(task.name)
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        found[number, _thread_stage(names.get(number, ""))] = nanoseconds / 1e9
    return found


def _thread_stage(name: str) -> str:
    if name.startswith(("asyncio_", "ThreadPoolExecutor")):
        return "thread: store write"
    if not name:
        return "thread: RocksDB, gRPC"
    return "thread: fetch" if name != threading.main_thread().name else name
