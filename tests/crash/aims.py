"""Where a worker kills itself: between two steps of a flush, of a rollback, of publishing.

The order of a flush is sacred (`headrace.pipelines.shard`): decisions are handed over, Kafka
acknowledges them, one synced write puts rows and position on disk, the group's offset is
committed. Each step of the real service is wrapped, so that the process gets SIGKILL exactly
between it and the next.

Of a rollback (`headrace.pipelines.replacement`): its place is in the log, the undo snapshot is kept
on the disk, the new state has its place. Of publishing: the manifest is in the repository, and the
catalogue does not say so yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from headrace.pipelines import control, vault
from headrace.pipelines.emit import Emitter
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.transport import ChunkConsumer
from headrace.pipelines.vault import Vault
from headrace.state import publishing
from headrace.state.cut import Cut, Kind
from headrace.state.directory import StateDirectory
from headrace.state.publishing import Published
from headrace.state.repository import Repository
from headrace.state.store import ShardMeta, ShardStore
from headrace.state.sums import Sums
from tests.crash.life import Life, Point

POINTS: tuple[Point, ...] = ("handed-over", "acknowledged", "written", "committed")
ROLLBACK_POINTS: tuple[Point, ...] = ("placed", "kept", "adopted", "in-repository")
"""Passed only where somebody asks for a rollback, or a snapshot."""


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
        self._wrap_rollback()
        self._wrap_publish()

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

    def _wrap_rollback(self) -> None:
        log_effect, take, adopt = Shards._log_effect, Vault.take, StateDirectory.adopt

        async def placed(shards: Shards, accepted: control.Accepted, *where: Any) -> int:
            counted = await log_effect(shards, accepted, *where)
            if accepted.kind == "rollback":
                self.passed("placed")
            return counted

        async def kept(
            of: Vault, shard: Shard, snapshot_id: str, kind: Kind, partitions: int
        ) -> Path:
            path = await take(of, shard, snapshot_id, kind, partitions)
            if kind == "undo":
                self.passed("kept")
            return path

        def adopted(directory: StateDirectory, draft: Path, path: Path) -> None:
            adopt(directory, draft, path)
            self.passed("adopted")

        setattr(Shards, "_log_effect", placed)  # noqa: B010
        setattr(Vault, "take", kept)  # noqa: B010
        setattr(StateDirectory, "adopt", adopted)  # noqa: B010

    def _wrap_publish(self) -> None:
        real = publishing.publish

        def publish(cut: Cut, checkpoint: Path, repository: Repository, sums: Sums) -> Published:
            done = real(cut, checkpoint, repository, sums)
            self.passed("in-repository")
            return done

        setattr(vault, "publish", publish)  # noqa: B010
