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
    _base: Path | None = None

    async def prepare(self, shard: Shard) -> None:
        with contextlib.suppress(StateError):  # `ready` tries again, and says so
            await self.ready(shard)

    async def end(self) -> None:
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
        self._base = None

    async def ready(self, shard: Shard) -> None:
        if self._base is None:
            self._base = await self._fetched(shard.partition)

    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await asyncio.to_thread(self._written, shard, undo, meta)

    def _written(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """In a thread: nobody writes to the shard's store meanwhile."""
        assert self._base is not None
        keys, options = self._command.keys, self._site.stores
        spec = shard.learner.spec
        base = ShardStore.open(self._base, create=False, options=options, compact=False)
        try:
            honour(base, shard.forgotten)  # also what counted since it was fetched
            if not keys:
                base.write(reverting.whole(spec, base, shard.store), meta)
                draft, self._base = self._base, None
                return draft
            draft = self._site.directory.draft()
            link_or_copy(undo, draft)
            state = ShardStore.open(draft, create=False, options=options, compact=False)
            try:
                state.write(reverting.of_keys(spec, keys, base, shard.store), meta)
            finally:
                state.close()
        finally:
            base.close()
        return draft
