"""Which state a shard begins from: the one on this disk, a snapshot, or what its deploy says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from headrace.errors import ForeignStateError, StateError
from headrace.logs import fields
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.decided import NEWEST_DECISIONS, decided_below
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.shard import ShardStart
from headrace.pipelines.site import Commands, Site, log_effect, spec_of
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Vouched
from headrace.state.store import ShardMeta, Store
from headrace.views import Partition

log = logging.getLogger(__name__)


class State(NamedTuple):
    """An open store, and where a shard begins with it."""

    store: Store
    epoch: int
    start: ShardStart


class Opening:
    """Finds the state of one shard. Order of calls: `state`, once."""

    def __init__(
        self,
        site: Site,
        controls: Commands,
        vault: Vault,
        deployment: control.Deployment,
        partition: Partition,
    ) -> None:
        self._site = site
        self._controls = controls
        self._vault = vault
        self._deployment = deployment
        self._partition = partition
        self._spec: Spec = spec_of(deployment)

    async def state(self) -> State:
        """The newest state that belongs to what the control log says.

        Raises StateError if what there is cannot be used, with what to do.
        """
        found = self._local()
        restored = await self._restored(found)
        store = restored or found or self._site.open_store(self._path(self._deployment.life))
        try:
            return await self._begun(store)
        except BaseException:
            store.close()
            raise

    # -- what there is -----------------------------------------------------------------------

    def _local(self) -> Store | None:
        """The newest on this disk; older ones, and those that went astray, are removed."""
        found: Store | None = None
        for epoch in reversed(self._epochs()):
            path = self._path(epoch)
            if found is None:
                store = self._site.open_store(path)
                if store.meta is None or self._is_on_lineage(store.meta):
                    found = store
                    continue
                store.close()
                log.warning("shard.astray", extra=self._fields(epoch=epoch))
            self._site.directory.drop_shard(path)
        return found

    def _epochs(self) -> list[int]:
        epochs = self._site.directory.epochs(self._deployment.agent, *self._partition)
        return [epoch for epoch in epochs if epoch >= self._deployment.life]

    def _published(self) -> list[Vouched]:
        """Snapshots of this shard that lead to the present state, newest first."""
        deployment, partition = self._deployment, self._partition
        return [
            vouched
            for vouched in self._vault.catalogue.newest(deployment.agent, *partition)
            if vouched.spec_digest == deployment.deploy.digest
            and deployment.life <= vouched.epoch <= deployment.epoch
            and self._leads_here(vouched.epoch, vouched.next_offset)
        ]

    async def _restored(self, local: Store | None) -> Store | None:
        """The newest good snapshot in its place on this disk, if it is newer than what is there."""
        for vouched in self._published():
            if local is not None and not _newer(vouched, local):
                return None
            try:
                draft = await self._vault.fetch(
                    self._partition, vouched.snapshot_id, vouched.digest
                )
            except StateError as error:
                self._vault.refused(vouched.snapshot_id, self._partition, error)
                continue
            if local is not None:
                local.close()
            path = self._path(vouched.epoch)
            self._site.directory.drop_shard(path)  # an older state of this epoch
            self._site.directory.adopt(draft, path)
            position = {"snapshot": vouched.snapshot_id, "next_offset": vouched.next_offset}
            log.info("shard.restored", extra=self._fields(**position))
            return self._site.open_store(path)
        return None

    # -- whether it belongs here -------------------------------------------------------------

    def _is_on_lineage(self, meta: ShardMeta) -> bool:
        if meta.epoch > self._deployment.epoch:
            return True  # of another control log: `_check_deployment` says so
        return self._leads_here(meta.epoch, meta.next_offset)

    def _leads_here(self, epoch: int, next_offset: int) -> bool:
        """Whether the rollback that ended this epoch counts from there on, or from later."""
        for accepted in self._deployment.rollbacks():
            if accepted.epoch > epoch:
                effect = self._deployment.effect(accepted.control_id, self._partition)
                return effect is None or next_offset <= effect
        return True

    def _check_deployment(self, meta: ShardMeta) -> None:
        """Raises ForeignStateError unless the state is of this deployment: its effect was in the
        log before anything became durable.
        """
        deployment, partition = self._deployment, self._partition
        began = deployment.effect(deployment.commands[0].control_id, partition)
        ours = deployment.life <= meta.epoch <= deployment.epoch
        if began is None or not ours or meta.spec_digest != deployment.deploy.digest:
            raise ForeignStateError(
                f"the state of agent {deployment.agent!r} in {partition.topic}"
                f"[{partition.partition}] is not of this deployment: the control log was made "
                "anew. Delete the agent, which removes that state, and deploy it again"
            )

    # -- where it begins ---------------------------------------------------------------------

    async def _begun(self, store: Store) -> State:
        site, deployment, partition = self._site, self._deployment, self._partition
        meta = store.meta
        if meta is not None:
            log_span = await check_log(site.logs, site.cluster_id, partition, meta)
            self._check_deployment(meta)
            next_offset, end = meta.next_offset, log_span.end
        else:
            next_offset, end = await self._deployed_at()
        start = ShardStart(
            next_offset=next_offset,
            decided_below=end,
            cluster_id=site.cluster_id,
            spec_digest=deployment.deploy.digest,
            flush_keys=self._spec.state.flush_keys,
            life=deployment.life,
            told_below=await self._told_below() if next_offset < end else 0,
        )
        return State(store, deployment.life if meta is None else meta.epoch, start)

    async def _told_below(self) -> int:
        """Decisions on events below this offset are in their topic, and are not sent again."""
        deploy, partition = self._deployment.deploy, self._partition
        where = Partition(deploy.emit_topic, partition.partition)
        records = await self._site.logs.newest(where, NEWEST_DECISIONS)
        return decided_below(records, deploy.agent, partition, self._deployment.life)

    async def _deployed_at(self) -> tuple[int, int]:
        """Where the log says that the agent began here, and how far it may have decided since.

        Says it first if nobody has.
        """
        deployment, partition = self._deployment, self._partition
        deploy = deployment.commands[0]
        logged = deployment.effect(deploy.control_id, partition)
        if logged is None:
            start = await self._start()
            effect = await log_effect(self._site, self._controls, deploy, (partition, start))
            return effect, 0
        log_span = await self._site.logs.span(partition)
        if not log_span.begin <= logged <= log_span.end:
            raise ForeignStateError(
                f"agent {deployment.agent!r} began at offset {logged} of {partition.topic}"
                f"[{partition.partition}] and there is no local state, but the log now holds "
                f"{log_span.begin}..{log_span.end}: it cannot be learned again. Delete the agent "
                "and deploy it again to start from what is there"
            )
        return logged, log_span.end

    async def _start(self) -> int:
        logs, source = self._site.logs, self._spec.source
        log_span = await logs.span(self._partition)
        if source.start == "earliest":
            return log_span.begin
        if source.start_ms is None:
            return log_span.end
        at = await logs.offset_at_time(self._partition, source.start_ms)
        return log_span.end if at is None else at

    def _path(self, epoch: int) -> Path:
        return self._site.shard_path(self._deployment.agent, epoch, self._partition)

    def _fields(self, **more: object) -> dict[str, object]:
        topic, partition = self._partition
        return fields(agent=self._deployment.agent, topic=topic, partition=partition, **more)


def _newer(vouched: Vouched, store: Store) -> bool:
    meta = store.meta
    return meta is None or (vouched.epoch, vouched.next_offset) > (meta.epoch, meta.next_offset)
