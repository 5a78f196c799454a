"""Which state a shard begins from: the one on this disk, a snapshot, or what its deploy says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from headrace.errors import DiskFullError, ForeignStateError, OtherBuildError, StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.decided import NEWEST_DECISIONS, decided_below
from headrace.pipelines.exclusions import left_out
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.shard import ShardStart
from headrace.pipelines.site import Commands, Site, log_effect, spec_of
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Catalogue, Vouched
from headrace.state.manifest import Versions
from headrace.state.restoring import REFOLD, differing
from headrace.state.store import ShardMeta, ShardStore, Store
from headrace.views import Partition

log = logging.getLogger(__name__)

OTHER_BUILDS_MAX = 3
"""Snapshots that other builds wrote of which the probes are tried, the newest, for one shard."""


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

    async def state(self) -> State:
        """The newest state that belongs to what the control log says.

        Raises StateError if what there is cannot be used, with what to do.
        """
        found = self._local()
        try:
            restored = await self._restored(found)
            if restored is None and found is None:
                self._check_former()
        except OtherBuildError:
            restored = await self._anew()
            if restored is None:
                raise
        store = restored or found or self._site.open_store(self._path(self._deployment.life))
        try:
            state = await self._begun(store)
        except BaseException:
            store.close()
            raise
        agent = self._deployment.agent
        self._site.directory.drop_former(agent, self._life(), *self._partition)
        return state

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

    def _check_former(self) -> None:
        """Raises OtherBuildError if another build has left a state here that nothing replaces: it
        is not learned again, from further back perhaps, unless somebody says so.
        """
        agent, versions = self._deployment.agent, self._vault.probing.versions
        for wrote in self._site.directory.former(agent, self._life(), *self._partition):
            raise OtherBuildError(
                f"the state of agent {agent!r} here was written with {differing(wrote, versions)},"
                f" and it has no snapshot whose probes could show how its models go on: start the"
                f" build that wrote it and take one (`headrace snapshot create {agent} NAME`),"
                f" {REFOLD}"
            )

    def _life(self) -> range:
        return range(self._deployment.life, self._deployment.epoch + 1)

    async def _restored(self, local: Store | None) -> Store | None:
        """The newest good snapshot in its place on this disk, if it is newer than what is there.

        Raises OtherBuildError if there is none but of other builds, and nothing here.
        """
        published = leading_here(self._vault.catalogue, self._deployment, self._partition)
        refused: OtherBuildError | None = None
        for vouched in worth_a_try(published, self._vault.probing.versions):
            if local is not None and not _newer(vouched, local):
                return None
            try:
                draft = await self._vault.fetch(
                    self._partition, vouched.snapshot_id, vouched.digest
                )
            except DiskFullError:  # nothing is wrong with the snapshot: there is a next try
                if local is not None:
                    local.close()
                raise
            except StateError as error:
                self._vault.refused(vouched.snapshot_id, self._partition, error)
                if refused is None and isinstance(error, OtherBuildError):
                    refused = error
                continue
            if local is not None:
                local.close()
            path = self._path(vouched.epoch)
            self._site.directory.drop_shard(path)  # an older state of this epoch
            self._site.directory.adopt(draft, path)
            position = {"snapshot": vouched.snapshot_id, "next_offset": vouched.next_offset}
            log.info("shard.restored", extra=self._fields(**position))
            return self._site.open_store(path)
        if local is None and refused is not None:
            raise refused
        return None

    async def _anew(self) -> Store | None:
        """Where somebody has said that the agent begins anew: a store with nothing in it, where the
        log is learned from. It counts behind what was decided in the state that is left.
        """
        accepted = next(iter(self._deployment.replacements()[::-1]), None)
        if accepted is None or not isinstance(accepted.command, control.Migrate):
            return None
        command, partition = accepted.command, self._partition
        if not control.begins_anew(command) or partition in self._deployment.failed(command.id):
            return None
        if self._has_begun(accepted.epoch):
            return None
        effect = self._deployment.effect(command.id, partition)
        if effect is None:
            log_span = await self._site.logs.span(partition)
            end = min(max(await self._told_below(), log_span.begin), log_span.end)
            effect = await log_effect(self._site, self._controls, accepted, (partition, end))
        refold = command.how == "refold"  # it has nothing to answer with meanwhile
        meta = ShardMeta(
            next_offset=command.base(partition.partition).next_offset if refold else effect,
            epoch=accepted.epoch,
            spec_digest=command.digest,
            control_offset=accepted.offset,
            cluster_id=self._site.cluster_id,
        )
        draft = self._site.directory.draft()
        store = ShardStore.open(draft, create=True)
        store.write((), meta)
        store.close()
        path = self._path(accepted.epoch)
        self._site.directory.adopt(draft, path)
        return self._site.open_store(path)

    def _has_begun(self, epoch: int) -> bool:
        """Whether a state has been made since the agent began anew: that consent is used up."""
        agent, since = self._deployment.agent, range(epoch, self._deployment.epoch + 1)
        published = leading_here(self._vault.catalogue, self._deployment, self._partition)
        return any(vouched.epoch in since for vouched in published) or bool(
            self._site.directory.former(agent, since, *self._partition)
        )

    # -- whether it belongs here -------------------------------------------------------------

    def _is_on_lineage(self, meta: ShardMeta) -> bool:
        if meta.epoch > self._deployment.epoch:
            return True  # of another control log: `_check_deployment` says so
        return _leads(meta.epoch, meta.next_offset, self._deployment, self._partition)

    def _check_deployment(self, meta: ShardMeta) -> None:
        """Raises ForeignStateError unless the state is of this deployment: its effect was in the
        log before anything became durable.
        """
        deployment, partition = self._deployment, self._partition
        began = deployment.effect(deployment.commands[0].control_id, partition)
        ours = deployment.life <= meta.epoch <= deployment.epoch
        digest = deployment.version_at(meta.epoch, partition).digest
        if began is None or not ours or meta.spec_digest != digest:
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
        epoch = deployment.life if meta is None else meta.epoch
        start = ShardStart(
            next_offset=next_offset,
            decided_below=end,
            cluster_id=site.cluster_id,
            spec_digest=deployment.version_at(epoch, partition).digest,
            life=deployment.life,
            told_below=await self._told_below() if next_offset < end else 0,
        )
        return State(store, epoch, self._learning_again(epoch, start))

    def _learning_again(self, epoch: int, start: ShardStart) -> ShardStart:
        """A refold that began anew learns what its agent decided in earlier epochs, and decides
        none of it again.
        """
        for accepted in self._deployment.replacements():
            effect = self._deployment.effect(accepted.control_id, self._partition)
            if accepted.epoch == epoch and effect is not None and start.next_offset < effect:
                rule = left_out(self._deployment, accepted, self._partition)
                told_below = max(start.told_below, effect)
                return start._replace(told_below=told_below, left_out=rule)
        return start

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
        deployment = self._deployment
        first = deployment.version_at(deployment.life, self._partition)
        logs, source = self._site.logs, spec_of(deployment, first).source
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


def leading_here(
    catalogue: Catalogue, deployment: control.Deployment, partition: Partition
) -> list[Vouched]:
    """Snapshots of a shard that lead to its present state, newest first."""
    return [
        vouched
        for vouched in catalogue.newest(deployment.agent, *partition)
        if vouched.spec_digest == deployment.version_at(vouched.epoch, partition).digest
        and deployment.life <= vouched.epoch <= deployment.epoch
        and _leads(vouched.epoch, vouched.next_offset, deployment, partition)
    ]


def worth_a_try(published: Iterable[Vouched], versions: Versions) -> Iterator[Vouched]:
    """All of this build, and some of others: what does not go on here in the newest of them rarely
    does in an older one, and to fetch each takes long.
    """
    others = 0
    for vouched in published:
        others += vouched.versions != versions
        if vouched.versions == versions or others <= OTHER_BUILDS_MAX:
            yield vouched


def _leads(
    epoch: int, next_offset: int, deployment: control.Deployment, partition: Partition
) -> bool:
    """Whether what ended this epoch counts from there on, or from later."""
    for accepted in deployment.replacements():
        if accepted.epoch > epoch:
            effect = deployment.effect(accepted.control_id, partition)
            return effect is None or next_offset <= effect
    return True


def _newer(vouched: Vouched, store: Store) -> bool:
    meta = store.meta
    return meta is None or (vouched.epoch, vouched.next_offset) > (meta.epoch, meta.next_offset)
