"""The shards that this worker holds: how they are opened, found, and closed."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import msgspec

from headrace import interpreter
from headrace.errors import ForeignStateError, OverloadError, SpecError, StateError
from headrace.logs import fields
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec, load_spec
from headrace.pipelines import control
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.reader import Logs
from headrace.pipelines.shard import Change, Outlets, Shard, ShardStart, Sink
from headrace.state.directory import StateDirectory
from headrace.state.store import ShardMeta, ShardStore, Store, StoreOptions
from headrace.views import Partition

log = logging.getLogger(__name__)


LEAVING_PAUSE_S = 0.02
"""Between two looks at whether a shard that is to be opened has been closed."""
SPECS_KEPT = 1_000
"""Specs kept in read form; reading one builds its model, which takes milliseconds."""


class Commands(Protocol):
    """What the shards ask of the control log; see `pipelines.controllog.ControlLog`."""

    @property
    def registry(self) -> control.Registry: ...

    async def append(self, record: control.ControlRecord) -> int: ...


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where this worker runs: what every one of its shards needs to know."""

    descriptors_max: int
    worker: str
    logs: Logs
    cluster_id: str
    quarantine_topic: str
    directory: StateDirectory
    stores: StoreOptions
    sink: Sink
    busy: Callable[[], bool]


def spec_of(deployment: control.Deployment) -> Spec:
    """The spec as it was deployed."""
    return _read_spec(msgspec.json.encode(deployment.deploy.spec))


@functools.lru_cache(maxsize=SPECS_KEPT)
def _read_spec(text: bytes) -> Spec:
    return load_spec(text)


def _check_deployment(
    deployment: control.Deployment, partition: Partition, meta: ShardMeta
) -> None:
    """Raises ForeignStateError unless the state is of this deployment: its effect was in the log
    before anything became durable.
    """
    began = deployment.effect(deployment.commands[0].control_id, partition)
    there = (meta.epoch, meta.spec_digest)
    if began is None or there != (deployment.epoch, deployment.deploy.digest):
        raise ForeignStateError(
            f"the state of agent {deployment.agent!r} in {partition.topic}[{partition.partition}] "
            "is not of this deployment: the control log was made anew. Delete the agent, which "
            "removes that state, and deploy it again"
        )


class Shards:
    """All open shards, by agent and partition. Implements `ports.ReadingPositions`."""

    def __init__(self, site: Site, controls: Commands) -> None:
        self._site = site
        self._controls = controls
        self._open: dict[tuple[str, Partition], Shard] = {}
        self._leaving: list[Shard] = []  # being closed: their stores are still open

    def all(self) -> list[Shard]:
        """Every open shard."""
        return list(self._open.values())

    def of_partition(self, partition: Partition) -> list[Shard]:
        """The shards of all agents that read the partition."""
        return [shard for (_, p), shard in self._open.items() if p == partition]

    def of_agent(self, agent: str) -> list[Shard]:
        """The agent's shards, by partition."""
        return [shard for (name, _), shard in sorted(self._open.items()) if name == agent]

    def find(self, agent: str, partition: Partition) -> Shard | None:
        """One shard; None if it is not open here."""
        return self._open.get((agent, partition))

    def next_offset(self, partition: Partition) -> int | None:
        """Where reading must start: the shard that is farthest behind decides."""
        return min((s.next_offset for s in self.of_partition(partition)), default=None)

    def durable_offset(self, partition: Partition) -> int | None:
        """What may be committed: the least that is durable in every shard of the partition."""
        leaving = (s for s in self._leaving if s.partition == partition)
        shards = (*self.of_partition(partition), *leaving)
        return min((s.durable_offset for s in shards), default=None)

    def check_room(self, more: int) -> None:
        """Raise OverloadError `no_room` if so many more shards exceed the budget of open files."""
        each = self._site.stores.descriptors()
        needed = (len(self._open) + more) * each
        if needed > self._site.descriptors_max:
            raise OverloadError(
                "no_room",
                f"{more} more shards need {more * each} open files, and {len(self._open)} shards "
                f"have {len(self._open) * each} of {self._site.descriptors_max}: delete an agent, "
                "or raise descriptors_max (and `ulimit -n`)",
                retry_s=60.0,
            )

    async def open(self, deployment: control.Deployment, partition: Partition) -> Shard:
        """Open (or find) the shard of an agent, with its state as durable as it was left.

        Raises StateError if the state on disk cannot be used, with what to do.
        """
        there = self.find(deployment.agent, partition)
        if there is not None:
            return there
        while self._is_leaving(deployment, partition):  # noqa: ASYNC110 - its store is still open
            await asyncio.sleep(LEAVING_PAUSE_S)
        try:
            spec = spec_of(deployment)
        except SpecError as error:  # the log outlives the build that took the spec
            raise StateError(
                f"this build refuses the spec of agent {deployment.agent!r}: {error}. Delete "
                "it, or start the build that deployed it"
            ) from error
        path = self._site.directory.shard_path(deployment.agent, deployment.epoch, *partition)
        origin = Origin(
            agent=deployment.agent,
            spec_version=deployment.spec_version,
            epoch=deployment.epoch,
            topic=partition.topic,
            partition=partition.partition,
        )
        outlets = Outlets(
            sink=self._site.sink,
            decisions=Partition(deployment.deploy.emit_topic, partition.partition),
            quarantine=Partition(self._site.quarantine_topic, 0),
        )
        with ExitStack() as until_open:
            store = self._open_store(path)
            until_open.callback(store.close)
            at = await self._shard_start(deployment, spec, partition, store)
            learner = Learner(spec, origin, store)
            shard = Shard(learner, store, outlets, at, busy=self._site.busy)
            await self._catch_up_with_commands(shard, deployment)
            until_open.pop_all()
        self._open[deployment.agent, partition] = shard
        interpreter.keep()
        log.info(
            "shard.opened",
            extra=fields(
                agent=deployment.agent,
                topic=partition.topic,
                partition=partition.partition,
                next_offset=shard.next_offset,
            ),
        )
        return shard

    def _is_leaving(self, deployment: control.Deployment, partition: Partition) -> bool:
        here = (deployment.agent, deployment.epoch, partition)
        return any((s.origin.agent, s.origin.epoch, s.partition) == here for s in self._leaving)

    def _open_store(self, path: Path) -> Store:
        return ShardStore.open(path, create=True, options=self._site.stores)

    async def close(self, shard: Shard, *, flush: bool) -> None:
        """Close it, and know of it no more, also when its last flush fails. Raises why."""
        if self.find(shard.origin.agent, shard.partition) is shard:
            del self._open[shard.origin.agent, shard.partition]
        self._leaving.append(shard)
        try:
            await shard.close(flush=flush)
        finally:
            self._leaving.remove(shard)

    async def apply(self, accepted: control.Accepted) -> dict[Shard, StateError]:
        """Apply a pause, resume or delete to the shards of its agent that this worker holds.

        Returns those whose state cannot be used any more, and why.
        """
        failed: dict[Shard, StateError] = {}
        for shard in self.of_agent(accepted.agent):
            if shard.origin.epoch == accepted.epoch:
                try:
                    await self._apply(shard, accepted)
                except StateError as error:
                    failed[shard] = error
        return failed

    async def delete(self, accepted: control.Accepted, owned: Iterable[Partition]) -> None:
        """Apply a delete: after the effect is in the log, the state goes.

        `owned`: the partitions of its topic that this worker holds. One whose shard is not open
        has an effect too, at the log's end, behind all that it may have decided.
        """
        for shard, error in (await self.apply(accepted)).items():
            _log_unusable(shard, error)
        for partition in owned:
            if self.find(accepted.agent, partition) is None:
                log_span = await self._site.logs.span(partition)
                await self._log_effect(accepted, partition, log_span.end)
        # A rebalance may be closing some of them: their directory stays until that is done.
        shards = [
            shard
            for shard in (*self.of_agent(accepted.agent), *self._leaving)
            if (shard.origin.agent, shard.origin.epoch) == (accepted.agent, accepted.epoch)
        ]
        for shard in shards:
            try:
                await self.close(shard, flush=False)
            except StateError as error:
                _log_unusable(shard, error)
        self.drop_lives(accepted.agent, through=accepted.epoch)

    def drop_lives(self, agent: str, *, through: int) -> None:
        """Delete the state of an agent's lives up to that epoch: nobody reads it any more."""
        try:
            self._site.directory.drop_agent(agent, through=through)
        except StateError:  # the next start tries again
            log.exception("agent.not_removed", extra=fields(agent=agent))

    async def finish_delete(self, deployment: control.Deployment, partitions: int) -> None:
        """Do what a crash may have left undone: the effects of a delete, and its directory."""
        delete, topic = deployment.commands[-1], deployment.source_topic
        every = [Partition(topic, number) for number in range(partitions)]
        owed = [p for p in every if deployment.effect(delete.control_id, p) is None]
        await self.delete(delete, owed)

    async def _apply(self, shard: Shard, accepted: control.Accepted) -> None:
        async def effect(offset: int) -> int:
            return await self._log_effect(accepted, shard.partition, offset)

        await shard.apply(accepted.kind, accepted.offset, effect)

    async def _log_effect(
        self, accepted: control.Accepted, partition: Partition, offset: int
    ) -> int:
        """Log where a command takes effect and return the position that counts."""
        await self._controls.append(
            control.ShardEffect(
                id=f"{accepted.control_id}/{partition.topic}/{partition.partition}",
                control_id=accepted.control_id,
                agent=accepted.agent,
                epoch=accepted.epoch,
                topic=partition.topic,
                partition=partition.partition,
                next_offset=offset,
                worker=self._site.worker,
            )
        )
        deployment = self._controls.registry.last(accepted.agent)
        counted = deployment.effect(accepted.control_id, partition) if deployment else None
        # A newer epoch may have begun meanwhile; this shard is then closed before its next event.
        return offset if counted is None else counted

    async def _shard_start(
        self,
        deployment: control.Deployment,
        spec: Spec,
        partition: Partition,
        store: Store,
    ) -> ShardStart:
        site = self._site
        meta = store.meta
        if meta is not None:
            log_span = await check_log(site.logs, site.cluster_id, partition, meta)
            _check_deployment(deployment, partition, meta)
            next_offset, decided_below = meta.next_offset, log_span.end
        else:
            next_offset, decided_below = await self._deployed_at(deployment, spec, partition)
        return ShardStart(
            next_offset=next_offset,
            decided_below=decided_below,
            cluster_id=site.cluster_id,
            spec_digest=deployment.deploy.digest,
            flush_keys=spec.state.flush_keys,
        )

    async def _deployed_at(
        self, deployment: control.Deployment, spec: Spec, partition: Partition
    ) -> tuple[int, int]:
        """Where the log says that the agent began here, and how far it may have decided since.

        Says it first if nobody has.
        """
        deploy = deployment.commands[0]
        logged = deployment.effect(deploy.control_id, partition)
        if logged is None:
            start = await self._start(spec, partition)
            return await self._log_effect(deploy, partition, start), 0
        log_span = await self._site.logs.span(partition)
        if not log_span.begin <= logged <= log_span.end:
            raise ForeignStateError(
                f"agent {deployment.agent!r} began at offset {logged} of {partition.topic}"
                f"[{partition.partition}] and there is no local state, but the log now holds "
                f"{log_span.begin}..{log_span.end}: it cannot be learned again. Delete the agent "
                "and deploy it again to start from what is there"
            )
        return logged, log_span.end

    async def _start(self, spec: Spec, partition: Partition) -> int:
        log_span = await self._site.logs.span(partition)
        if spec.source.start == "earliest":
            return log_span.begin
        if spec.source.start_ms is None:
            return log_span.end
        at = await self._site.logs.offset_at_time(partition, spec.source.start_ms)
        return log_span.end if at is None else at

    async def _catch_up_with_commands(self, shard: Shard, deployment: control.Deployment) -> None:
        """Give a shard the commands that came after its deploy, those without an effect last.

        Those that come meanwhile are told to open shards only: so it looks until there are none.
        """
        known = 1
        while known < len(deployment.commands):
            commands, known = deployment.commands[known:], len(deployment.commands)
            changes: list[Change] = []
            unapplied: list[control.Accepted] = []
            for command in commands:
                at = deployment.effect(command.control_id, shard.partition)
                if at is None:
                    unapplied.append(command)
                else:
                    changes.append(Change(at, command.kind, command.offset))
            shard.schedule(changes)
            for command in unapplied:
                await self._apply(shard, command)


def _log_unusable(shard: Shard, error: StateError) -> None:
    """Of a shard that is deleted: it goes as the others do."""
    at = shard.origin
    log.warning(
        "shard.unusable", extra=fields(agent=at.agent, partition=at.partition, error=str(error))
    )
