"""The shards that this worker holds: how they are opened, found, and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from headrace import interpreter
from headrace.errors import OverloadError, StateError
from headrace.logs import fields
from headrace.models.learner import Learner
from headrace.pipelines import control
from headrace.pipelines.applying import Applying
from headrace.pipelines.forgetting import honour
from headrace.pipelines.forgotten import NOTHING, Forgotten, forgotten_in
from headrace.pipelines.opening import Opening
from headrace.pipelines.shard import Shard
from headrace.pipelines.shardstart import Outlets
from headrace.pipelines.site import Commands, Site, log_effect, origin_of, spec_of
from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.vault import Vault
from headrace.pipelines.works import Works
from headrace.views import Partition

log = logging.getLogger(__name__)

LEAVING_PAUSE_S = 0.02
"""Between two looks at whether a shard that is to be opened has been closed."""


class Shards:
    """All open shards, by agent and partition. Implements `ports.ReadingPositions`."""

    def __init__(self, site: Site, controls: Commands, vault: Vault) -> None:
        self._site = site
        self._vault = vault
        vault.forgotten = self._forgotten
        # What is forgotten where, as of that offset of the control log.
        self._forgotten_at = -1
        self._forgotten_there: dict[tuple[str, Partition, bool], Forgotten] = {}
        # Runs what takes long beside the shard that it is for; its failure is that of the shard.
        self.in_background: Callable[[Shard, Coroutine[Any, Any, None]], None]
        self._controls = controls
        self.works = Works(site, controls, vault)
        self._applying = Applying(self, controls)
        self._open: dict[tuple[str, Partition], Shard] = {}
        self._leaving: list[Shard] = []  # being closed: their stores are still open

    @property
    def site(self) -> Site:
        """Where they are."""
        return self._site

    def all(self) -> list[Shard]:
        """Every open shard."""
        return list(self._open.values())

    def of_partition(self, partition: Partition) -> list[Shard]:
        """The shards of all agents that read the partition."""
        return [shard for (_, p), shard in self._open.items() if p == partition]

    def joined(self, partition: Partition) -> list[Shard]:
        """Those of them that learn from what is read for all; the others learn apart."""
        return [shard for shard in self.of_partition(partition) if not shard.apart]

    def of_agent(self, agent: str) -> list[Shard]:
        """The agent's shards, by partition."""
        return [shard for (name, _), shard in sorted(self._open.items()) if name == agent]

    def find(self, agent: str, partition: Partition) -> Shard | None:
        """One shard; None if it is not open here."""
        return self._open.get((agent, partition))

    def next_offset(self, partition: Partition) -> int | None:
        """Where reading must start: the shard that is farthest behind decides, of those that do not
        learn apart.
        """
        return min((s.next_offset for s in self.joined(partition)), default=None)

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
        while self.is_leaving(deployment, partition):  # noqa: ASYNC110 - its store is still open
            await asyncio.sleep(LEAVING_PAUSE_S)
        opening = Opening(self._site, self._controls, self._vault, deployment, partition)
        state = await opening.state()
        try:
            spec = spec_of(deployment, deployment.version_at(state.epoch, partition))
            forgotten = self._forgotten(deployment.agent, partition, deployment.epoch)
            await in_a_thread(lambda: honour(state.store, forgotten))
            shard = Shard(
                Learner(spec, origin_of(deployment, state.epoch, partition), state.store),
                state.store,
                self._outlets(deployment, partition),
                state.start,
                busy=self._site.busy,
            )
        except BaseException:
            state.store.close()
            raise
        shard.forgotten = forgotten
        shard.opening = True
        try:
            takes_long = await self._applying.catch_up(shard, deployment)
        except BaseException:
            await shard.close(flush=False)
            raise
        shard.opening = False
        self._open[deployment.agent, partition] = shard
        if takes_long:
            self.in_background(shard, self._applying.in_turn(shard, takes_long))
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

    def _forgotten(self, agent: str, partition: Partition, epoch: int) -> Forgotten:
        """What a state of that epoch must not know of. Raises StateError if nobody can tell."""
        registry = self._controls.registry
        deployment = registry.last(agent)
        if deployment is None:
            return NOTHING
        if self._forgotten_at != registry.next_offset:
            self._forgotten_at = registry.next_offset
            self._forgotten_there.clear()
        former = epoch < deployment.life
        whose = (agent, partition, former)
        if whose not in self._forgotten_there:
            catalogue = self._vault.catalogue
            self._forgotten_there[whose] = forgotten_in(
                deployment, partition, catalogue, former=former
            )
        return self._forgotten_there[whose]

    def _outlets(self, deployment: control.Deployment, partition: Partition) -> Outlets:
        return Outlets(
            sink=self._site.sink,
            decisions=Partition(deployment.deploy.emit_topic, partition.partition),
            quarantine=Partition(self._site.quarantine_topic, 0),
        )

    def is_leaving(self, deployment: control.Deployment, partition: Partition) -> bool:
        """Whether that life's shard is being closed: it may yet decide on what it had begun."""
        here = (deployment.agent, deployment.life, partition)
        return any((s.origin.agent, s.life, s.partition) == here for s in self._leaving)

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
        """Apply any command but a deploy to the shards of its agent that this worker holds.

        Returns those whose state cannot be used any more, and why. Raises UnavailableError when all
        have ended.
        """
        of_life = self._of_life(accepted)
        applying = (self._applying.or_leave(shard, accepted) for shard in of_life)
        ended = await asyncio.gather(*applying, return_exceptions=True)
        failed: dict[Shard, StateError] = {}
        for shard, error in zip(of_life, ended, strict=True):
            if isinstance(error, StateError):
                failed[shard] = error
            elif error is not None:
                raise error
        return failed

    def _of_life(self, accepted: control.Accepted) -> list[Shard]:
        return [s for s in self.of_agent(accepted.agent) if s.life == accepted.life]

    async def delete(self, accepted: control.Accepted, owned: Iterable[Partition]) -> None:
        """Apply a delete: after the effect is in the log, the state goes.

        `owned`: the partitions of its topic that this worker holds. One whose shard is not open
        has an effect too, at the log's end, behind all that it may have decided.
        """
        for shard in self._of_life(accepted):
            shard.leave()
        for shard, error in (await self.apply(accepted)).items():
            log_unusable(shard, error)
        for partition in owned:
            if self.find(accepted.agent, partition) is None:
                log_span = await self._site.logs.span(partition)
                await self.log_effect(accepted, partition, log_span.end)
        # A rebalance may be closing some of them: their directory stays until that is done.
        shards = [
            shard
            for shard in (*self.of_agent(accepted.agent), *self._leaving)
            if (shard.origin.agent, shard.life) == (accepted.agent, accepted.life)
        ]
        for shard in shards:
            try:
                await self.close(shard, flush=False)
            except StateError as error:
                log_unusable(shard, error)
        await self.drop_lives(accepted.agent, through=accepted.epoch)

    async def drop_lives(self, agent: str, *, through: int) -> None:
        """Delete the state of an agent's lives up to that epoch: nobody reads it any more."""
        try:
            await in_a_thread(lambda: self._site.directory.drop_agent(agent, through=through))
        except StateError:  # the next start tries again
            log.exception("agent.not_removed", extra=fields(agent=agent))

    async def finish_delete(self, deployment: control.Deployment, partitions: int) -> None:
        """Do what a crash may have left undone: the effects of a delete, and its directory."""
        delete, topic = deployment.commands[-1], deployment.source_topic
        every = [Partition(topic, number) for number in range(partitions)]
        owed = [p for p in every if deployment.effect(delete.control_id, p) is None]
        await self.delete(delete, owed)

    async def log_effect(
        self, accepted: control.Accepted, partition: Partition, offset: int, failed: str = ""
    ) -> int:
        """Log from which offset on a command counts there; returns which one does."""
        at = (partition, offset)
        return await log_effect(self._site, self._controls, accepted, at, failed)


def log_unusable(shard: Shard, error: StateError) -> None:
    """Of a shard that is deleted, or has been closed: nothing else is done about it."""
    at = shard.origin
    log.warning(
        "shard.unusable", extra=fields(agent=at.agent, partition=at.partition, error=str(error))
    )
