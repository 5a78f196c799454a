"""Where a worker kills itself: the four places between two steps of a flush.

The order of a flush is sacred (`headrace.pipelines.shard`): decisions are handed over, Kafka
acknowledges them, one synced write puts rows and position on disk, the group's offset is
committed. Each step of the real service is wrapped, so that the process gets SIGKILL exactly
between it and the next.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable

from headrace.pipelines.emit import Emitter
from headrace.pipelines.transport import ChunkConsumer
from headrace.state.store import ShardMeta, ShardStore
from tests.crash.life import Life, Point

POINTS: tuple[Point, ...] = ("handed-over", "acknowledged", "written", "committed")


class Aim:
    """Counts the passages of the aimed point while `armed`; the last is the process's end."""

    def __init__(self, life: Life, last_words: Callable[[], None]) -> None:
        self._point = life.point
        self._left = life.passage
        self._turns = life.turns
        self.armed = life.early
        self._last_words = last_words
        self._lock = threading.Lock()  # the store is written in threads

    def passed(self, point: Point) -> None:
        """Called at each point; does not return from the passage that was ordered."""
        if not self.armed or point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._last_words()
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap the steps of the real service, in this process."""
        self._wrap_drain()
        self._wrap_write()
        self._wrap_commit()

    def _wrap_drain(self) -> None:
        real = Emitter.drain

        async def drain(emitter: Emitter) -> None:
            draining = asyncio.ensure_future(real(emitter))
            for _ in range(self._turns):
                await asyncio.sleep(0)
            if not draining.done():  # handed over, and Kafka has not said that it has them
                self.passed("handed-over")
            await draining
            self.passed("acknowledged")

        setattr(Emitter, "drain", drain)  # noqa: B010 - a method is replaced on purpose

    def _wrap_write(self) -> None:
        real = ShardStore.write

        def write(
            store: ShardStore, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta
        ) -> None:
            real(store, rows, meta)
            self.passed("written")

        setattr(ShardStore, "write", write)  # noqa: B010

    def _wrap_commit(self) -> None:
        real = ChunkConsumer.force_commit

        async def force_commit(
            consumer: ChunkConsumer, topics: object = None, start_new_transaction: bool = True
        ) -> bool:
            done = await real(consumer, topics, start_new_transaction)
            if done:
                self.passed("committed")
            return done

        setattr(ChunkConsumer, "force_commit", force_commit)  # noqa: B010
