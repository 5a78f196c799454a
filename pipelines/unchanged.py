"""A rollback that is not done: the new epoch begins with the state that is there."""

from __future__ import annotations

from pathlib import Path

from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import in_a_thread
from headrace.state.store import ShardMeta

NOTHING_TO_UNDO = "there is nothing to take back"
"""Why an undo is not done in a partition where what it undoes does not hold."""


class Unchanged(Replacement):
    """Every shard of an agent takes its epoch, also one whose snapshot was damaged, or in which
    there is nothing to take back.
    """

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await in_a_thread(lambda: self._copied(undo, meta, shard.forgotten))

    def _copied(self, undo: Path, meta: ShardMeta, forgotten: Forgotten) -> Path:
        with self._copy_of(undo, forgotten) as state:
            state.write((), meta)
        return state.path
