"""Rollback in mode `revert`: the snapshot's state, and learning goes on from here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from headrace.errors import StateError
from headrace.models import reverting
from headrace.pipelines import control
from headrace.pipelines.forgetting import honour
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.shard import Shard
from headrace.state.checkpoints import link_or_copy
from headrace.state.store import ShardMeta, ShardStore


class Revert(Replacement):
    """All keys as the snapshot has them, or some of them; see `models.reverting`."""

    _command: control.Rollback
    _base: ShardStore | None = None  # the snapshot's state, at a draft of its own

    async def prepare(self, shard: Shard) -> None:
        with contextlib.suppress(StateError):  # `ready` tries again, and says so
            await self.ready(shard)

    async def end(self) -> None:
        if self._base is not None:
            await asyncio.to_thread(self._base.close)
            shutil.rmtree(self._base.path, ignore_errors=True)
        self._base = None

    async def ready(self, shard: Shard) -> None:
        if self._base is None:
            path = await self._fetched(shard.partition)
            self._base = await asyncio.to_thread(self._store_at, path)

    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await asyncio.to_thread(self._written, shard, undo, meta)

    def _written(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """In a thread: nobody writes to the shard's store meanwhile."""
        base, keys, spec = self._base, self._command.keys, shard.learner.spec
        assert base is not None
        honour(base, shard.forgotten)  # also what counted since it was fetched
        if not keys:
            base.write(reverting.whole(spec, base, shard.store), meta)
            base.close()
            self._base = None
            return base.path
        draft = self._site.directory.draft()
        link_or_copy(undo, draft)
        state = self._store_at(draft)
        try:
            honour(state, shard.forgotten)  # the checkpoint may be of a former try
            state.write(reverting.of_keys(spec, keys, base, shard.store), meta)
        finally:
            state.close()
        return draft

    def _store_at(self, draft: Path) -> ShardStore:
        return ShardStore.open(draft, create=False, options=self._site.stores, compact=False)
