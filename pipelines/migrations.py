"""Migrations: another spec for an agent that runs, with a state of that spec.

Each is a replacement, as a rollback is, and goes the same steps. `reset` begins with nothing;
`keep` goes on with what the shard has learned, and `from` with what a snapshot has, both as
`models.migration` carries it over; `refold` learns the log again under the new spec, with a twin as
a rewind does, while the shard goes on answering under the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from headrace.models import migration
from headrace.pipelines import control
from headrace.pipelines.forgetting import honour
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.rewind import Again
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.state.store import ShardMeta, ShardStore
from headrace.views import Partition

ROWS_AT_A_TIME = 10_000
"""Rows of a draft that are written in one batch, which is in memory as a whole."""


class Migration(Replacement):
    """What all of them have in common: the new spec counts with the new epoch."""

    _command: control.Migrate


class Reset(Migration):
    """Nothing of what was learned: as if the agent had been deployed here."""

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await in_a_thread(lambda: self._empty(meta))

    def _empty(self, meta: ShardMeta) -> Path:
        with self._store_at(self._new_draft(), create=True) as store:
            store.write((), meta)
        return store.path


class Keep(Migration):
    """The models as they are, with the parameters of the new spec."""

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await in_a_thread(lambda: self._carried(shard, undo, meta))

    def _carried(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """In a thread: nobody writes to the shard's store meanwhile."""
        rows = migration.migrated(shard.learner.spec, self._spec(shard.partition), shard.store)
        with self._copy_of(undo, shard.forgotten) as store:
            _write(store, rows, meta)
        return store.path


class Taken(Migration):
    """`from`: the models of a snapshot, and learning goes on from here."""

    _base: Path | None = None

    async def prepare(self, shard: Shard) -> None:
        await self.ready(shard)

    async def end(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            await remove_drafts(base)

    async def ready(self, shard: Shard) -> None:
        if self._base is None:
            self._base = await self._fetched(shard.partition)

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        assert self._base is not None
        draft, self._base = self._base, None
        self._drafts.append(draft)
        await in_a_thread(lambda: self._carried(draft, shard, meta))
        return draft

    def _carried(self, draft: Path, shard: Shard, meta: ShardMeta) -> None:
        """In a thread: nobody writes to the shard's store meanwhile."""
        epoch = self._command.base(shard.partition.partition).epoch
        old = spec_of(self._deployment, self._deployment.version_at(epoch, shard.partition))
        new = self._spec(shard.partition)
        with self._store_at(draft) as store:
            honour(store, shard.forgotten)  # also what counted since it was fetched
            _write(store, migration.migrated(old, new, store), meta)
            store.write(migration.resumed(shard.learner.spec, new, store, shard.store), meta)


class Refold(Migration, Again):
    """The log learned again under the new spec, from where the command says; pauses count, and
    what rewinds have left out stays out.
    """

    async def _first(self, partition: Partition) -> Path:
        """Nothing: the twin begins with a new store."""
        return self._site.directory.draft()


def _write(store: ShardStore, rows: Iterator[migration.Write], meta: ShardMeta) -> None:
    """Piece by piece: nobody sees a draft before it is adopted."""
    while piece := list(islice(rows, ROWS_AT_A_TIME)):
        store.write(piece, meta)
    store.write((), meta)
