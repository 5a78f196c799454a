"""Putting another state in place of a shard's, between two events.

The steps of a rollback or a migration, each of which may be the last one before a crash:

1. the effect is in the control log and has been read back: it counts from here, position X;
2. what was learned below X is durable, in the old epoch, and its decisions are acknowledged;
3. a checkpoint of that is on this disk: the undo snapshot, which is published by and by;
4. a draft has the new state, its position X and the new epoch, synced;
5. the draft takes its place under the new epoch: renamed, and the directory synced;
6. the shard goes on with it, and the old epoch's directory is removed.

After a crash before 5, the old epoch is learned up to X again and the rest is done then; after it,
the new epoch is there. So it is always all of the old state or all of the new one.
"""

from __future__ import annotations

import abc
import asyncio
import shutil
from pathlib import Path

from msgspec import structs

from headrace import interpreter
from headrace.errors import UnavailableError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Site
from headrace.pipelines.vault import Vault, undo_id
from headrace.state.store import ShardMeta, ShardStore, Store
from headrace.views import Partition

COOL_KEYS = 500
"""Live models of the former state that are let go of between two turns of the event loop."""


class Replacement(abc.ABC):
    """One rollback or migration in one shard. Order of calls: `prepare` before the command counts,
    as far as that is possible, `ready` when it is about to count, `work` when it does, both under
    the shard's turn; `end` in any case.
    """

    def __init__(
        self,
        site: Site,
        vault: Vault,
        deployment: control.Deployment,
        accepted: control.Accepted,
    ) -> None:
        assert isinstance(accepted.command, control.Rollback | control.Migrate)
        self._site = site
        self._vault = vault
        self._deployment = deployment
        self._accepted = accepted
        self._command: control.Rollback | control.Migrate = accepted.command

    @abc.abstractmethod
    async def prepare(self, shard: Shard) -> None:
        """Have ready what takes long, while the shard goes on."""

    @abc.abstractmethod
    async def ready(self, shard: Shard) -> None:
        """Have ready all that is needed where the shard stands, under its turn.

        Raises StateError if it cannot be had, because the snapshot is damaged, say, and
        UnavailableError `stopping` if the shard is being closed.
        """

    @abc.abstractmethod
    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """Step 4: a closed store with the new state and that meta."""

    @abc.abstractmethod
    async def end(self) -> None:
        """Give back what `prepare` has made; `work` makes it again if it comes later."""

    def _going_on(self, shard: Shard) -> tuple[Spec, Origin]:
        """Under which spec, and as whom. A rollback changes nothing of it but the epoch."""
        origin = shard.origin
        return shard.learner.spec, structs.replace(origin, epoch=self._accepted.epoch)

    def _meta(self, shard: Shard) -> ShardMeta:
        """Where the new state stands."""
        return shard.meta(self._accepted.epoch)

    async def work(self, shard: Shard) -> bool:
        """Do it, from step 2 on; False: the shard is being closed. Raises StateError."""
        try:
            return await self._replaced(shard)
        except UnavailableError:
            if shard.leaving:
                return False
            raise
        finally:
            await self.end()

    async def _replaced(self, shard: Shard) -> bool:
        await self.ready(shard)
        if not await shard.settle():
            return False
        undo = await self._vault.take(
            shard,
            undo_id(self._command.agent, self._command.id),
            "undo",
            self._command.partitions,
        )
        former_epoch = shard.origin.epoch
        draft = await self._draft(shard, undo, self._meta(shard))
        learner, store = await asyncio.to_thread(self._adopted, draft, *self._going_on(shard))
        former_learner, former = shard.learner, shard.renew(learner, store)
        interpreter.keep()
        former_path = self._site.shard_path(self._command.agent, former_epoch, shard.partition)
        # In a thread: answers of the new state must not wait until the old one has been put away.
        await asyncio.to_thread(self._put_away, former, former_path)
        while former_learner.cool(COOL_KEYS):  # noqa: ASYNC110 - to free them all takes long
            await asyncio.sleep(0)
        return True

    async def on_copy(self, shard: Shard) -> Path:
        """Do to a shard that is nobody's what it did to the live one where it counted: only the new
        state matters, so nothing is kept of the old one. Whoever calls it has the shard's turn.

        Returns where the new store lies, a draft. Raises StateError, UnavailableError.
        """
        old = self._site.directory.draft()
        try:
            await self.ready(shard)
            if not await shard.settle():
                raise UnavailableError("stopping", "the worker is going down")
            await asyncio.to_thread(shard.store.checkpoint, old)
            draft = await self._draft(shard, old, self._meta(shard))
        finally:
            await self.end()
            await asyncio.to_thread(shutil.rmtree, old, ignore_errors=True)
        learner, store = await asyncio.to_thread(self._opened, draft, *self._going_on(shard))
        shard.renew(learner, store).close()
        return draft

    def _put_away(self, former: Store, path: Path) -> None:
        """Step 6, in a thread."""
        former.close()
        self._site.directory.drop_shard(path)

    async def _fetched(self, partition: Partition) -> Path:
        """The files of the snapshot, verified, at a draft. Raises StateError."""
        base = self._command.base(partition.partition)
        return await self._vault.base(partition, self._command.snapshot_id, base)

    def _adopted(self, draft: Path, spec: Spec, origin: Origin) -> tuple[Learner, Store]:
        """Step 5, and the state opened, in a thread."""
        partition = Partition(origin.topic, origin.partition)
        path = self._site.shard_path(origin.agent, origin.epoch, partition)
        self._site.directory.adopt(draft, path)
        store = self._site.open_store(path)
        return Learner(spec, origin, store), store

    def _opened(self, draft: Path, spec: Spec, origin: Origin) -> tuple[Learner, Store]:
        options = self._site.stores
        store = ShardStore.open(draft, create=False, options=options, compact=False)
        return Learner(spec, origin, store), store
