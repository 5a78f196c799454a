"""Taking forgotten keys out of shards that lie on this disk while somebody else holds them.

A rebalance closes a shard and leaves its files where they are, for the day on which it comes back.
What its agent is told to forget meanwhile counts elsewhere; here nobody would open it to do so.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path

from headrace.errors import LockedStateError, StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.forgetting import honour
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.shards import Shards
from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.vault import Vault
from headrace.state.options import StoreOptions
from headrace.state.store import ShardStore
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at what lies here."""


class Leftovers:
    """Order of calls: `run` is a task that runs for ever. `opening` is held by whoever opens shards
    or deletes agents; see `pipelines.holdings`.
    """

    def __init__(
        self, shards: Shards, vault: Vault, registry: control.Registry, opening: asyncio.Lock
    ) -> None:
        self._shards = shards
        self._vault = vault
        self._registry = registry
        self._opening = opening
        self._done: dict[Path, int] = {}  # the newest forget that is known to be done there

    async def run(self) -> None:
        """Look again and again; what fails is tried again at the next look."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Do what can be done now."""
        for deployment in list(self._registry.live()):
            told = [deployment.positions(forget.control_id) for forget in deployment.forgets()]
            for partition in sorted({partition for positions in told for partition in positions}):
                async with self._opening:
                    if self._shards.find(deployment.agent, partition) is None:
                        await self._cleanse(deployment, partition)

    async def _cleanse(self, deployment: control.Deployment, partition: Partition) -> None:
        agent, site = deployment.agent, self._shards.site
        try:
            forgotten = self._vault.forgotten(agent, partition, deployment.epoch)
            for epoch in site.directory.epochs(agent, *partition):
                path = site.shard_path(agent, epoch, partition)
                if self._done.get(path, -1) < forgotten.newest:
                    await in_a_thread(functools.partial(_cleansed, path, forgotten, site.stores))
                    self._done[path] = forgotten.newest
        except LockedStateError:
            pass  # it is being closed
        except StateError as error:
            log.warning("forget.not_erased", extra=fields(agent=agent, error=str(error)))


def _cleansed(path: Path, forgotten: Forgotten, options: StoreOptions) -> None:
    with ShardStore.open(path, create=False, options=options, compact=False) as store:
        honour(store, forgotten)
