"""Rollback in mode `revert`: the snapshot's state, and learning goes on from here."""

from __future__ import annotations

from pathlib import Path

from headrace.models import reverting
from headrace.pipelines import control
from headrace.pipelines.forgetting import honour
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.state.store import ShardMeta, ShardStore


class Revert(Replacement):
    """All keys as the snapshot has them, or some of them; see `models.reverting`."""

    _command: control.Rollback
    _path: Path | None = None  # a draft with the snapshot's files
    _base: ShardStore | None = None  # the state there

    async def prepare(self, shard: Shard) -> None:
        await self.ready(shard)

    async def end(self) -> None:
        base, path = self._base, self._path
        self._base = self._path = None
        try:
            if base is not None:
                await in_a_thread(base.close)
        finally:
            if path is not None:
                await remove_drafts(path)

    async def ready(self, shard: Shard) -> None:
        if self._path is None:
            self._path = await self._fetched(shard.partition)
        if self._base is None:
            path = self._path
            await in_a_thread(lambda: self._open(path))

    def _open(self, path: Path) -> None:
        self._base = self._store_at(path)

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await in_a_thread(lambda: self._written(shard, undo, meta))

    def _written(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """In a thread: nobody writes to the shard's store meanwhile."""
        base, keys, spec = self._base, self._command.keys, shard.learner.spec
        assert base is not None
        honour(base, shard.forgotten)  # also what counted since it was fetched
        if not keys:
            base.write(reverting.whole(spec, base, shard.store), meta)
            base.close()
            self._base = self._path = None
            self._drafts.append(base.path)
            return base.path
        with self._copy_of(undo, shard.forgotten) as state:
            state.write(reverting.of_keys(spec, keys, base, shard.store), meta)
        return state.path
