"""Which state a shard begins from: the one on this disk, a snapshot, or what its deploy says."""

from __future__ import annotations

import functools
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from headrace.errors import (
    AwayStateError,
    BadDiskError,
    DiskFullError,
    ForeignStateError,
    OtherBuildError,
    StateError,
)
from headrace.logs import fields
from headrace.pipelines import boundaries, control
from headrace.pipelines.applied import applied
from headrace.pipelines.beginning_anew import BeginningAnew
from headrace.pipelines.decided import NEWEST_DECISIONS, decided_below
from headrace.pipelines.leading import leading_here, leads, worth_a_try
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.reader import LogSpan
from headrace.pipelines.shardstart import ShardStart
from headrace.pipelines.site import Commands, Site, log_effect, spec_of
from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Vouched
from headrace.state.store import AppliedRecord, ShardMeta, ShardStore, Store
from headrace.views import Partition

log = logging.getLogger(__name__)


class State(NamedTuple):
    """An open store, and where a shard begins with it."""

    store: Store
    epoch: int
    start: ShardStart


class _Begin(NamedTuple):
    """Where a shard begins, and the log as it is then; the rest as in `ShardStart`."""

    next_offset: int
    log_span: LogSpan
    decided_below: int
    told_below: int


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
        self._new = BeginningAnew(site, vault, deployment, partition)
        # The one that is open; `state` gives it away, or closes it.
        self._store: Store | None = None
        self._away: AwayStateError | None = None  # why a newer snapshot was not fetched

    async def state(self) -> State:
        """The newest state that belongs to what the control log says.

        Raises StateError if what there is cannot be used, with what to do; AwayStateError if it
        lacks a snapshot that cannot be reached: then it is to be tried again.
        """
        try:
            await self._find()
            state = await self._begun()
            agent = self._deployment.agent
            drop = self._site.directory.drop_former
            await in_a_thread(lambda: drop(agent, self._life(), *self._partition))
        except BaseException as error:
            if self._store is not None:
                self._store.close()
            if self._away is not None and isinstance(error, ForeignStateError):
                raise self._away from error  # a snapshot may be what the log goes on from
            raise
        return state

    # -- the store that is open ----------------------------------------------------------------

    async def _open(self, path: Path) -> Store:
        """Have that store open, made if it is missing; none is open."""

        def work() -> None:
            self._store = self._site.open_store(path)

        await in_a_thread(work)
        assert self._store is not None
        return self._store

    async def _close(self) -> None:
        """Have none open."""
        store, self._store = self._store, None
        if store is not None:
            await in_a_thread(store.close)

    # -- what there is -----------------------------------------------------------------------

    async def _find(self) -> None:
        """Open the newest state that can be used; a new store if there is none."""
        await self._local()
        try:
            await self._restored()
            if self._store is None:
                self._new.check_former()
        except OtherBuildError:
            await self._anew()
            if self._store is None:
                raise
        if self._store is None:
            await self._open(self._path(self._deployment.life))

    async def _local(self) -> None:
        """Open the newest on this disk; older ones, and those that went astray, are removed."""
        for epoch in reversed(self._epochs()):
            path = self._path(epoch)
            if self._store is None:
                store = await self._open(path)
                if store.meta is None or self._is_on_lineage(store.meta):
                    continue
                await self._close()
                log.warning("shard.astray", extra=self._fields(epoch=epoch))
            await in_a_thread(functools.partial(self._site.directory.drop_shard, path))

    def _epochs(self) -> list[int]:
        epochs = self._site.directory.epochs(self._deployment.agent, *self._partition)
        return [epoch for epoch in epochs if epoch >= self._deployment.life]

    def _life(self) -> range:
        return range(self._deployment.life, self._deployment.epoch + 1)

    async def _restored(self) -> None:
        """Put the newest good snapshot in its place on this disk and open it, if it is newer than
        what is open.

        Raises OtherBuildError if there is none but of other builds, and nothing here, and
        AwayStateError if the repository is away, and nothing here: no snapshot is refused for that.
        """
        published = leading_here(self._vault.catalogue, self._deployment, self._partition)
        refused: OtherBuildError | None = None
        for vouched in worth_a_try(published, self._vault.probing.versions):
            if self._store is not None and not _newer(vouched, self._store):
                return
            snapshot_id = vouched.snapshot_id
            try:
                draft = await self._vault.fetch(self._partition, snapshot_id, vouched.digest)
            except AwayStateError as error:  # so are the older ones
                if self._store is None or self._store.meta is None:
                    raise
                self._away = error
                why = {"snapshot": snapshot_id, "error": str(error)}
                log.warning("shard.not_restored", extra=self._fields(**why))
                return
            except (DiskFullError, BadDiskError):  # nothing is wrong with the snapshot
                raise
            except StateError as error:
                self._vault.refused(snapshot_id, self._partition, error)
                if refused is None and isinstance(error, OtherBuildError):
                    refused = error
                continue
            await self._close()
            await self._adopt(draft, self._path(vouched.epoch))
            position = {"snapshot": snapshot_id, "next_offset": vouched.next_offset}
            log.info("shard.restored", extra=self._fields(**position))
            return
        if self._store is None and refused is not None:
            raise refused

    async def _adopt(self, draft: Path, path: Path) -> None:
        """Put what is at the draft in the place of what is there, and open it."""

        def adopt() -> None:
            try:
                self._site.directory.drop_shard(path)  # an older state, or what a crash has left
                self._site.directory.adopt(draft, path)
            except BaseException:  # it is tried again, and fetched again: the room may be wanted
                shutil.rmtree(draft, ignore_errors=True)
                raise

        await in_a_thread(adopt)
        await self._open(path)

    async def _anew(self) -> None:
        """Where somebody has said that the agent begins anew, open a store with nothing in it, from
        where the log is learned. It counts behind what was decided in the state that is left.
        """
        accepted, partition = self._new.agreed(), self._partition
        if accepted is None:
            return
        effect = self._deployment.effect(accepted.control_id, partition)
        if effect is None:
            log_span = await self._site.logs.span(partition)
            end = min(max(await self._told_below(), log_span.begin), log_span.end)
            effect = await log_effect(self._site, self._controls, accepted, (partition, end))
        meta = self._new.meta(accepted, effect)
        draft = self._site.directory.draft()
        await in_a_thread(lambda: _begin(draft, meta))
        await boundaries.send(self._site.sink, self._deployment, accepted, partition)
        await self._site.sink.drain()
        await self._adopt(draft, self._path(accepted.epoch))

    # -- whether it belongs here -------------------------------------------------------------

    def _is_on_lineage(self, meta: ShardMeta) -> bool:
        if meta.epoch > self._deployment.epoch:
            return True  # of another control log: `_check_deployment` says so
        return leads(meta.epoch, meta.next_offset, self._deployment, self._partition)

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

    async def _begun(self) -> State:
        site, deployment, partition = self._site, self._deployment, self._partition
        store = self._store
        assert store is not None
        meta = store.meta
        if meta is not None:
            log_span = await check_log(site.logs, site.cluster_id, partition, meta)
            self._check_deployment(meta)
            told_below = await self._told_below() if meta.next_offset < log_span.end else 0
            begin = _Begin(meta.next_offset, log_span, log_span.end, told_below)
        else:
            begin = await self._deployed_at()
        epoch = deployment.life if meta is None else meta.epoch
        known = meta is not None and (meta.applied or meta.anchor) is not None
        start = ShardStart(
            next_offset=begin.next_offset,
            decided_below=begin.decided_below,
            cluster_id=site.cluster_id,
            spec_digest=deployment.version_at(epoch, partition).digest,
            life=deployment.life,
            told_below=begin.told_below,
            anchor=None if known else await self._before(begin),
        )
        return State(store, epoch, self._new.start(epoch, start))

    async def _before(self, begin: _Begin) -> AppliedRecord | None:
        """The record before the one that it begins with, if the log has one there."""
        if begin.next_offset <= begin.log_span.begin:
            return None
        return applied(await self._site.logs.record_at(self._partition, begin.next_offset - 1))

    async def _told_below(self) -> int:
        """Decisions on events below this offset are in their topic, and are not sent again."""
        deploy, partition = self._deployment.deploy, self._partition
        where = Partition(deploy.emit_topic, partition.partition)
        records = await self._site.logs.newest(where, NEWEST_DECISIONS)
        return decided_below(records, self._deployment, partition)

    async def _deployed_at(self) -> _Begin:
        """Where the log says that the agent began here. Says it first if nobody has."""
        deployment, partition = self._deployment, self._partition
        deploy = deployment.commands[0]
        logged = deployment.effect(deploy.control_id, partition)
        if logged is None:
            log_span = await self._site.logs.span(partition)
            await self._settle_forgets(log_span.end)
            start = await self._start(log_span)
            effect = await log_effect(self._site, self._controls, deploy, (partition, start))
            return _Begin(effect, log_span, 0, 0)
        # Who held it before may still decide: the log has by now what it has decided on by then.
        told_below = await self._told_below()
        log_span = await self._site.logs.span(partition)
        if not log_span.begin <= logged <= log_span.end:
            raise ForeignStateError(
                f"agent {deployment.agent!r} began at offset {logged} of {partition.topic}"
                f"[{partition.partition}] and there is no local state, but the log now holds "
                f"{log_span.begin}..{log_span.end}: it cannot be learned again. Delete the agent "
                "and deploy it again to start from what is there"
            )
        if told_below > log_span.end:
            raise ForeignStateError(
                f"agent {deployment.agent!r} has decided on offset {told_below - 1} of "
                f"{partition.topic}[{partition.partition}] and there is no local state, but the "
                f"log ends at {log_span.end}: the topic was made anew or truncated. Delete the "
                "agent and deploy it again to learn from the new log"
            )
        return _Begin(logged, log_span, log_span.end, told_below)

    async def _settle_forgets(self, end: int) -> None:
        """What a former life was told to forget, and had not when it ended, counts from the log's
        `end` on, before this one learns anything. So does what counted behind that end: in a log
        that has been made anew since.
        """
        life = self._deployment.life
        for accepted in self._deployment.former_forgets:
            counts = self._deployment.effect(accepted.control_id, self._partition)
            if counts is None or counts > end:
                ours = structs.replace(accepted, life=life, epoch=life)
                await log_effect(self._site, self._controls, ours, (self._partition, end))

    async def _start(self, log_span: LogSpan) -> int:
        deployment = self._deployment
        first = deployment.version_at(deployment.life, self._partition)
        source = spec_of(deployment, first).source
        if source.start == "earliest":
            return log_span.begin
        if source.start_ms is None:
            return log_span.end
        at = await self._site.logs.offset_at_time(self._partition, source.start_ms)
        return log_span.end if at is None else at

    def _path(self, epoch: int) -> Path:
        return self._site.shard_path(self._deployment.agent, epoch, self._partition)

    def _fields(self, **more: object) -> dict[str, object]:
        topic, partition = self._partition
        return fields(agent=self._deployment.agent, topic=topic, partition=partition, **more)


def _begin(draft: Path, meta: ShardMeta) -> None:
    """Make a store there that has learned nothing."""
    with ShardStore.open(draft, create=True) as store:
        store.write((), meta)


def _newer(vouched: Vouched, store: Store) -> bool:
    meta = store.meta
    return meta is None or (vouched.epoch, vouched.next_offset) > (meta.epoch, meta.next_offset)
