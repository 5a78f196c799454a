"""Removing what nobody needs any more: old automatic snapshots, local checkpoints, loose files.

One worker does it for an agent, the one that holds its first partition, and one for the repository:
the one that holds the first partition of the first agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set as AbstractSet
from typing import Protocol

from headrace.errors import StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.vault import Vault
from headrace.state.retention import expired
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Between two looks at what may go."""
COLLECT_EVERY = 60
"""Looks between two searches for files that no manifest names; each reads all manifests."""


class Holder(Protocol):
    """Which shards this worker holds; see `pipelines.shards.Shards`."""

    def find(self, agent: str, partition: Partition) -> object | None: ...


class Housekeeping:
    """Order of calls: `run` is a task that runs for ever."""

    def __init__(self, vault: Vault, registry: control.Registry, holder: Holder) -> None:
        self._vault = vault
        self._registry = registry
        self._holder = holder

    async def run(self) -> None:
        """Look again and again; what fails is tried again at the next look."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            looks += 1
            try:
                await self.thin_out()
                if looks % COLLECT_EVERY == 0 and self._is_first():
                    await self._vault.collect()
            except StateError as error:
                log.warning("snapshots.not_thinned", extra=fields(error=str(error)))

    async def thin_out(self) -> None:
        """Remove the snapshots that have become old."""
        held = [d.agent for d in self._registry.live() if holds_first(self._holder, d)]
        in_use = in_use_by(self._registry, self._vault)
        for agent in held:
            views = self._vault.catalogue.snapshots(agent)
            for snapshot_id in expired(views, self._vault.now_ms(), in_use):
                await self._vault.remove(snapshot_id)
        await self._vault.thin_checkpoints()

    def _is_first(self) -> bool:
        first = next(self._registry.live(), None)
        return first is not None and holds_first(self._holder, first)


def holds_first(holder: Holder, deployment: control.Deployment) -> bool:
    """Whether the agent's first partition is held there: one worker keeps house for it."""
    partition = Partition(deployment.source_topic, 0)
    return holder.find(deployment.agent, partition) is not None


def in_use_by(registry: control.Registry, vault: Vault) -> AbstractSet[str]:
    """Snapshots that a rollback or a migration went back to and that a restore would need again: no
    complete one of what came of it is there yet.
    """
    found = set()
    for deployment in registry.live():
        covered = max(
            (
                s.epoch
                for s in vault.catalogue.snapshots(deployment.agent)
                if s.complete and not s.imported
            ),
            default=0,
        )
        for accepted in deployment.replacements():
            command = accepted.command
            assert isinstance(command, control.Rollback | control.Migrate)
            if accepted.epoch > covered and command.snapshot_id:
                found.add(command.snapshot_id)
    return found
