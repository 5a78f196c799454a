"""Taking forgotten keys out of what was kept: snapshots in the repository, checkpoints on the disk.

As soon as a complete snapshot is there that knows nothing of them, the service's own older ones
are removed; those that somebody named or pinned are written anew without the keys, under the same
id, and so are all of an agent that has failed. Their files go with a later collection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from headrace.errors import StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.holdings import PASSING
from headrace.pipelines.housekeeping import (
    Holder,
    holds_first,
    in_use_by,
    is_kept,
    keeps_house,
    known_of,
)
from headrace.pipelines.vault import Vault
from headrace.views import Partition, SnapshotView

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at what still holds a key that was forgotten."""
ANYBODY_EVERY = 720
"""Looks, an hour, between two of a worker at what agents have left that are deleted or have failed,
if it is not the one to do it, for all it knows; see `housekeeping.keeps_house`."""

FORGET_WITHIN_MS = 8 * 24 * 3_600_000
"""By then no file of the repository holds it: a snapshot is taken and others are rewritten within
minutes, and a collection, once an hour, removes a file after two grace times of three days, and a
manifest that was to go when the repository was away. Not while a manifest that is vouched for
cannot be read, of whatever agent: then nothing is removed; see `state.collecting`."""


class Owed(NamedTuple):
    """Snapshots of an agent that hold keys which were forgotten since."""

    deleting: list[str]
    rewriting: list[str]


class Erasing:
    """Order of calls: `run` is a task that runs for ever."""

    def __init__(
        self,
        vault: Vault,
        registry: control.Registry,
        holder: Holder,
        broken: Mapping[str, StateError] | None = None,
    ) -> None:
        """`broken`: the agents that have failed here, whatever they are by then, and why."""
        self._vault = vault
        self._registry = registry
        self._holder = holder
        self._broken = broken if broken is not None else {}
        self._looks = 0

    async def run(self) -> None:
        """Look again and again; what fails is tried again at the next look."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what can be done now."""
        self._looks += 1
        for deployment in list(self._mine()):
            await asyncio.sleep(0)  # a turn for the events: there may be many agents
            try:
                await self._erase(deployment)
            except StateError as error:
                log.warning(
                    "forget.not_erased", extra=fields(agent=deployment.agent, error=str(error))
                )
        try:
            await self._vault.forget_checkpoints(fresh=self._is_fresh)
        except StateError as error:
            log.warning("forget.not_erased", extra=fields(error=str(error)))

    def _mine(self) -> Iterator[control.Deployment]:
        """Agents that have been told to forget and that this worker keeps house for; deleted ones
        and those that have failed here are its own if it keeps house for the repository, and now
        and then in any case. Two workers may see to one of these at once: see
        `Vault.rewrite`.
        """
        first = keeps_house(self._holder, self._registry, self._broken)
        others = first or self._looks % ANYBODY_EVERY == 0
        mine = [
            deployment
            for deployment in self._registry.live()
            if holds_first(self._holder, deployment) or (others and self._has_failed(deployment))
        ]
        if others:
            mine += self._registry.deleted()
        yield from (deployment for deployment in mine if deployment.forgets())

    async def _erase(self, deployment: control.Deployment) -> None:
        vault, agent = self._vault, deployment.agent
        owed = owed_by(vault, agent)
        if self._has_failed(deployment):  # it takes no newer ones: these are what it has
            owed = Owed(deleting=[], rewriting=owed.rewriting + owed.deleting)
        for snapshot_id in owed.rewriting:
            if snapshot_id in in_use_by(self._registry, vault, agent):
                continue  # a rollback may yet ask for what its record vouches for
            try:
                await self._rewrite(snapshot_id)
            except StateError as error:  # the others are erased nevertheless
                failed = fields(agent=agent, snapshot=snapshot_id, error=str(error))
                log.warning("forget.not_erased", extra=failed)
        if self._is_fresh(agent):
            for snapshot_id in owed.deleting:
                # One that was pinned meanwhile is written anew at the next look.
                if not is_kept(snapshot_id, self._registry, vault):
                    await vault.remove(snapshot_id, *known_of(snapshot_id, self._registry))

    async def _rewrite(self, snapshot_id: str) -> None:
        for vouched in list(self._vault.catalogue.shards(snapshot_id).values()):
            if self._vault.holds_forgotten(vouched):
                await self._vault.rewrite(vouched)

    def _has_failed(self, deployment: control.Deployment) -> bool:
        """For good: what waiting cures is tried again, and takes snapshots then."""
        why = self._broken.get(deployment.agent)
        return why is not None and not isinstance(why, PASSING) and not deployment.deleted

    def _is_fresh(self, agent: str) -> bool:
        """Whether there is a complete snapshot of the present life without the forgotten keys, or
        the agent is deleted and needs none, or it has failed and all that it has taken is published
        and without them.
        """
        deployment = self._registry.last(agent)
        if deployment is None or deployment.deleted:
            return True
        views = self._vault.catalogue.snapshots(agent)
        if self._has_failed(deployment):  # what is owed goes first: an undo may need it
            held = any(_holds_forgotten(self._vault, view) for view in views)
            return not held and not self._vault.owes_any(agent)
        mine = (v for v in views if v.complete and not v.imported and v.epoch >= deployment.life)
        return any(_is_after(deployment, v) and not _holds_forgotten(self._vault, v) for v in mine)


def _is_after(deployment: control.Deployment, view: SnapshotView) -> bool:
    """Whether it was taken behind the newest forget: an older one without the key is no newer."""
    newest = deployment.forgets()[-1].control_id
    effects = deployment.positions(newest)
    places = ((Partition(shard.topic, shard.partition), shard) for shard in view.shards)
    return all(p in effects and shard.next_offset >= effects[p] for p, shard in places)


def owed_by(vault: Vault, agent: str) -> Owed:
    """What of an agent's snapshots still holds a key that was forgotten. Raises StateError."""
    held = [v for v in vault.catalogue.snapshots(agent) if _holds_forgotten(vault, v)]
    return Owed(list(_ids(held, kept=False)), list(_ids(held, kept=True)))


def _ids(views: Iterable[SnapshotView], *, kept: bool) -> Iterator[str]:
    for view in views:
        if (view.kind == "named" or view.pinned) == kept:
            yield view.snapshot_id


def _holds_forgotten(vault: Vault, view: SnapshotView) -> bool:
    return any(map(vault.holds_forgotten, vault.catalogue.shards(view.snapshot_id).values()))
