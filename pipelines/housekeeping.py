"""Removing what nobody needs any more: old automatic snapshots, local checkpoints, loose files.

One worker does it for an agent, the one that holds its first partition, and one for the repository:
the one that holds the first partition of the first agent that runs. No worker knows of all agents
that have failed at others, and there may be no agent at all: so what has to be done in time is done
by any worker now and then. Two at once do no harm: see `Repository.collect`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection
from collections.abc import Set as AbstractSet
from typing import Protocol

from headrace.errors import AwayStateError, StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.vault import Vault
from headrace.state.cut import agent_of
from headrace.state.retention import expired
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Between two looks at what may go."""
COLLECT_EVERY = 60
"""Looks between two searches for files that no manifest names; each reads all manifests."""
ANYBODY_EVERY = 6 * COLLECT_EVERY
"""Looks between two such searches of a worker that is not the one to do it, for all it knows."""


class Holder(Protocol):
    """Which shards this worker holds; see `pipelines.shards.Shards`."""

    def find(self, agent: str, partition: Partition) -> object | None: ...


class Housekeeping:
    """Order of calls: `run` is a task that runs for ever."""

    def __init__(
        self,
        vault: Vault,
        registry: control.Registry,
        holder: Holder,
        broken: Collection[str] = (),
    ) -> None:
        """`broken`: the agents that have failed here, whatever they are by then."""
        self._vault = vault
        self._registry = registry
        self._holder = holder
        self._broken = broken
        self._looks = 0  # since the last collection

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what is due at this look. What fails is tried again at the next one, and keeps nothing
        else from being done, unless the repository is away: so it is for all that is due.
        """
        self._looks += 1
        mine = keeps_house(self._holder, self._registry, self._broken)
        due = self._looks >= (COLLECT_EVERY if mine else ANYBODY_EVERY)
        if await _tried(self.thin_out()) and due and await _tried(self._vault.collect()):
            self._looks = 0

    async def thin_out(self) -> None:
        """Remove what has become old. Raises AwayStateError."""
        await _tried(self._vault.thin_checkpoints())
        held = [d.agent for d in self._registry.live() if holds_first(self._holder, d)]
        for agent in held:
            await asyncio.sleep(0)  # a turn for the events: there may be a thousand agents
            views = self._vault.catalogue.snapshots(agent)
            in_use = in_use_by(self._registry, self._vault, agent)
            for snapshot_id in expired(views, self._vault.now_ms(), in_use):
                if not is_kept(snapshot_id, self._registry, self._vault):
                    await self._remove(snapshot_id)

    async def _remove(self, snapshot_id: str) -> None:
        try:
            await self._vault.remove(snapshot_id, *known_of(snapshot_id, self._registry))
        except AwayStateError:
            raise
        except StateError as error:
            _tell(error)


async def _tried(work: Awaitable[None]) -> bool:
    """Whether it was done."""
    try:
        await work
    except StateError as error:
        _tell(error)
        return False
    return True


def _tell(error: StateError) -> None:
    log.warning("snapshots.not_thinned", extra=fields(error=str(error)))


def keeps_house(holder: Holder, registry: control.Registry, broken: Collection[str]) -> bool:
    """Whether this worker is the one for the repository, for all it knows: it holds the first
    partition of the first agent of which that has been opened somewhere and that has not failed
    here. If there is none, each is.
    """
    for deployment in registry.live():
        begun = deployment.positions(deployment.commands[0].control_id)
        if deployment.agent not in broken and _first(deployment) in begun:
            return holds_first(holder, deployment)
    return True


def holds_first(holder: Holder, deployment: control.Deployment) -> bool:
    """Whether the agent's first partition is held there: one worker keeps house for it."""
    return holder.find(deployment.agent, _first(deployment)) is not None


def _first(deployment: control.Deployment) -> Partition:
    return Partition(deployment.source_topic, 0)


def known_of(snapshot_id: str, registry: control.Registry) -> tuple[int, int]:
    """The epoch of the snapshot's agent, and up to where the control log is known; see
    `Vault.remove`.
    """
    last = registry.last(agent_of(snapshot_id))
    return 0 if last is None else last.epoch, registry.next_offset


def is_kept(snapshot_id: str, registry: control.Registry, vault: Vault) -> bool:
    """Whether it must stay by now. To be asked right before each removal: those before it take
    their time, and meanwhile somebody may pin it, who is told that it is, or go back to it.
    """
    agent = agent_of(snapshot_id)
    return vault.catalogue.pinned(snapshot_id) or snapshot_id in in_use_by(registry, vault, agent)


def in_use_by(
    registry: control.Registry, vault: Vault, agent: str | None = None
) -> AbstractSet[str]:
    """Snapshots that a rollback or a migration went back to and that a restore would need again: no
    complete one of what came of it is there yet. `agent`: of that one alone, and quickly.
    """
    found: set[str] = set()
    for deployment in registry.live() if agent is None else _live(registry, agent):
        bases = [(a.epoch, _base(a)) for a in deployment.replacements()]
        if any(base for _, base in bases):
            covered = _covered(vault, deployment.agent)
            found.update(base for epoch, base in bases if base and epoch > covered)
    return found


def _live(registry: control.Registry, agent: str) -> list[control.Deployment]:
    last = registry.last(agent)
    return [] if last is None or last.deleted else [last]


def _base(accepted: control.Accepted) -> str:
    command = accepted.command
    assert isinstance(command, control.Rollback | control.Migrate)
    return command.snapshot_id


def _covered(vault: Vault, agent: str) -> int:
    """The newest epoch of which a complete snapshot of the agent's own is there."""
    views = vault.catalogue.snapshots(agent)
    return max((view.epoch for view in views if view.complete and not view.imported), default=0)
