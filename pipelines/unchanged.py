"""A rollback that could not be done: the new epoch begins with the state that is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headrace.pipelines.forgetting import honour
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.shard import Shard
from headrace.state.checkpoints import link_or_copy
from headrace.state.store import ShardMeta, ShardStore


class Unchanged(Replacement):
    """Every shard of an agent takes its epoch, also one whose snapshot was damaged."""

    async def prepare(self, shard: Shard) -> None:
        """Nothing is needed."""

    async def end(self) -> None:
        """Nothing was made."""

    async def ready(self, shard: Shard) -> None:
        """Nothing is needed."""

    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await asyncio.to_thread(self._copied, undo, meta, shard.forgotten)

    def _copied(self, undo: Path, meta: ShardMeta, forgotten: Forgotten) -> Path:
        draft = self._site.directory.draft()
        link_or_copy(undo, draft)
        state = ShardStore.open(draft, create=False, options=self._site.stores, compact=False)
        try:
            honour(state, forgotten)  # the checkpoint may be of a former try
            state.write((), meta)
        finally:
            state.close()
        return draft
