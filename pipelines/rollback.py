"""Putting the state of a snapshot in place of a shard's, between two events.

The steps of a revert, each of which may be the last one before a crash:

1. the effect is in the control log and has been read back: it counts from here, position X;
2. what was learned below X is durable, in the old epoch, and its decisions are acknowledged;
3. a checkpoint of that is on this disk: the undo snapshot, which is published by and by;
4. a draft has the new state, its position X and the new epoch in one synced write;
5. the draft takes its place under the new epoch: renamed, and the directory synced;
6. the shard goes on with it, and the old epoch's directory is removed.

After a crash before 5, the old epoch is learned up to X again and the rest is done then; after it,
the new epoch is there. So it is always all of the old state or all of the new one.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from headrace import interpreter
from headrace.models import reverting
from headrace.models.learner import Learner
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Site, origin_of, spec_of
from headrace.pipelines.vault import Vault, undo_id
from headrace.state.checkpoints import link_or_copy
from headrace.state.store import ShardMeta, ShardStore, Store

COOL_KEYS = 500
"""Live models of the former state that are let go of between two turns of the event loop."""


class Revert:
    """One rollback in one shard. Order of calls: `prepare` before the command counts, if there is
    time; then `work` under the shard's turn.
    """

    def __init__(
        self,
        site: Site,
        vault: Vault,
        deployment: control.Deployment,
        accepted: control.Accepted,
    ) -> None:
        assert isinstance(accepted.command, control.Rollback)
        self._site = site
        self._vault = vault
        self._deployment = deployment
        self._accepted = accepted
        self._command: control.Rollback = accepted.command
        self._spec: Spec = spec_of(deployment)
        self._base: Path | None = None

    async def prepare(self, shard: Shard) -> None:
        """Have the snapshot's files here, verified. Raises StateError if they are not good."""
        base = self._command.base(shard.partition.partition)
        self._base = await self._vault.fetch(
            shard.partition, self._command.snapshot_id, base.digest
        )

    async def work(self, shard: Shard) -> bool:
        """Do it, from step 2 on; False: the shard is being closed. Raises StateError."""
        if self._base is None:
            await self.prepare(shard)
        assert self._base is not None
        if not await shard.settle():
            return False
        undo = await self._vault.take(
            shard, undo_id(shard.origin.agent, self._accepted.control_id), "undo", self._partitions
        )
        former_epoch = shard.origin.epoch
        meta = shard.meta(self._accepted.epoch)
        learner, store = await asyncio.to_thread(self._renewed, shard, undo, meta)
        former_learner, former = shard.learner, shard.renew(learner, store)
        interpreter.keep()
        former.close()
        self._site.directory.drop_shard(
            self._site.shard_path(self._deployment.agent, former_epoch, shard.partition)
        )
        while former_learner.cool(COOL_KEYS):  # noqa: ASYNC110 - to free them all takes long
            await asyncio.sleep(0)
        return True

    @property
    def _partitions(self) -> int:
        return len(self._command.bases)

    def _renewed(self, shard: Shard, undo: Path, meta: ShardMeta) -> tuple[Learner, Store]:
        """Steps 4 and 5, in a thread: nobody writes to the shard's store meanwhile."""
        assert self._base is not None
        base = ShardStore.open(self._base, create=False, options=self._site.stores)
        if self._command.keys:
            draft = self._site.directory.draft()
            link_or_copy(undo, draft)
            state = ShardStore.open(draft, create=False, options=self._site.stores)
            rows = reverting.of_keys(self._spec, self._command.keys, base, shard.store)
        else:
            draft, state = self._base, base
            rows = reverting.whole(self._spec, base, shard.store)
        try:
            state.write(rows, meta)
        finally:
            state.close()
            base.close()
        path = self._site.shard_path(self._deployment.agent, meta.epoch, shard.partition)
        self._site.directory.adopt(draft, path)
        if draft is not self._base:
            shutil.rmtree(self._base, ignore_errors=True)
        origin = origin_of(self._deployment, meta.epoch, shard.partition)
        store = self._site.open_store(path)
        return Learner(self._spec, origin, store), store
