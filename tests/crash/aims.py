"""Where a worker kills itself: between two steps of a flush, of a rollback, or of publishing.

The order of a flush is sacred (`headrace.pipelines.shard`): decisions are handed over, Kafka
acknowledges them, one synced write puts rows and position on disk, the group's offset is
committed. So is that of a rollback (`headrace.pipelines.replacement`): the effect has been read
back, the undo snapshot is on the disk, the draft has taken its place, the old epoch is removed.
And that of publishing: a file is kept, the manifest is, the catalogue vouches for it. Each step of
the real service is wrapped, so that the process gets SIGKILL exactly between it and the next.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

from headrace.pipelines import control
from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.emit import Emitter
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.transport import ChunkConsumer
from headrace.pipelines.vault import Vault
from headrace.state.cut import Kind
from headrace.state.directory import StateDirectory
from headrace.state.repository import ShelfRepository
from headrace.state.store import ShardStore
from tests.crash.life import FlushPoint, Life, Point, PublishPoint, RollbackPoint

OF_FLUSH: tuple[FlushPoint, ...] = get_args(FlushPoint)
OF_ROLLBACK: tuple[RollbackPoint, ...] = get_args(RollbackPoint)
OF_PUBLISHING: tuple[PublishPoint, ...] = get_args(PublishPoint)
POINTS: tuple[Point, ...] = (*OF_FLUSH, *OF_ROLLBACK, *OF_PUBLISHING)


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
        self._after(ShardStore, "write", "written")
        self._wrap_commit()
        self._wrap_effects()
        self._wrap_undo()
        self._after(StateDirectory, "adopt", "adopted")
        self._wrap_drop()
        self._after(ShelfRepository, "add_file", "file-kept")
        self._after(ShelfRepository, "add_manifest", "manifest-kept")
        self._wrap_vouching()

    def _after(self, owner: type, name: str, point: Point) -> None:
        """Pass the point when that method, one that is not awaited, has done what it does."""
        real = getattr(owner, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            done = real(*given, **named)
            self.passed(point)
            return done

        setattr(owner, name, wrapped)

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

    def _wrap_effects(self) -> None:
        real = Shards.log_effect

        async def log_effect(shards: Shards, accepted: control.Accepted, *where: Any) -> int:
            counted = await real(shards, accepted, *where)
            if accepted.kind == "rollback":
                self.passed("counted")
            return counted

        setattr(Shards, "log_effect", log_effect)  # noqa: B010

    def _wrap_undo(self) -> None:
        real: Callable[..., Awaitable[Path]] = Vault.take

        async def take(
            vault: Vault, shard: Shard, snapshot_id: str, kind: Kind, *rest: int
        ) -> Path:
            path = await real(vault, shard, snapshot_id, kind, *rest)
            if kind == "undo":
                self.passed("undo-kept")
            return path

        setattr(Vault, "take", take)  # noqa: B010

    def _wrap_drop(self) -> None:
        real = StateDirectory.drop_shard

        def drop_shard(directory: StateDirectory, path: Path) -> None:
            there = path.exists()
            real(directory, path)
            if there:
                self.passed("dropped")

        setattr(StateDirectory, "drop_shard", drop_shard)  # noqa: B010

    def _wrap_vouching(self) -> None:
        real = CatalogueLog.append

        async def append(log: CatalogueLog, key: bytes, value: bytes | None) -> None:
            await real(log, key, value)
            if value is not None:
                self.passed("vouched")

        setattr(CatalogueLog, "append", append)  # noqa: B010
