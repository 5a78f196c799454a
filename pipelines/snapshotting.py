"""When snapshots are taken: by name where a command counts, and by themselves every so often."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from headrace.errors import StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at whether an automatic snapshot is due."""


class NamedSnapshot:
    """One command `snapshot` in one shard; its `work` is done under the shard's turn."""

    def __init__(self, vault: Vault, accepted: control.Accepted) -> None:
        assert isinstance(accepted.command, control.Snapshot)
        self._vault = vault
        self._accepted = accepted
        self._command = accepted.command

    async def work(self, shard: Shard) -> bool:
        """Take the shard as it is here; False: it is being closed. Raises StateError."""
        snapshot_id, partitions = self._command.snapshot_id, self._command.partitions
        asked = self._accepted.offset
        if self._vault.has(snapshot_id, shard, asked):
            return True  # it was, and what lies behind it is learned again
        if self._vault.catalogue.is_over(snapshot_id, self._accepted.epoch, asked):
            return True  # it was removed since, and the shard has come here again
        if not await shard.settle():
            return False
        await self._vault.make_way(snapshot_id, shard, asked)
        await self._vault.take(shard, snapshot_id, "named", partitions, asked)
        return True


class AutomaticSnapshots:
    """Takes all shards of an agent every `snapshot_s` seconds if one of them has moved on.

    Every worker reckons the same slots from its clock, so that shards which different workers hold
    meet in one snapshot. Order of calls: `run` is a task that runs for ever.
    """

    def __init__(
        self,
        vault: Vault,
        shards: Callable[[], Iterable[Shard]],
        partitions: Callable[[str], int],
    ) -> None:
        self._vault = vault
        self._shards = shards
        self._partitions = partitions
        self._slots: dict[tuple[str, int], int] = {}  # of an agent's life: the newest looked at
        self._taken: dict[tuple[str, Partition], tuple[int, int, int]] = {}  # see `_stand`

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take what is due now."""
        now_ms = self._vault.now_ms()
        agents: dict[tuple[str, int], list[Shard]] = {}
        for shard in self._shards():
            agents.setdefault((shard.origin.agent, shard.life), []).append(shard)
        self._slots = {agent: slot for agent, slot in self._slots.items() if agent in agents}
        for agent, shards in agents.items():
            every_ms = shards[0].learner.spec.state.snapshot_s * 1000
            slot = now_ms // every_ms
            if self._slots.setdefault(agent, slot) != slot:  # also where a clock was set back
                self._slots[agent] = slot
                await self._take(shards, slot * every_ms)

    async def _take(self, shards: list[Shard], at_ms: int) -> None:
        if all(self._taken.get(_of(s)) == _stand(s) for s in shards):
            return
        for shard in shards:
            try:
                await shard.between_events(functools.partial(self._take_one, at_ms))
            except StateError as error:  # the disk; flushes will say so too
                log.warning(
                    "snapshot.not_taken",
                    extra=fields(agent=shard.origin.agent, error=str(error)),
                )

    async def _take_one(self, at_ms: int, shard: Shard) -> bool:
        if shard.waits_for or not await shard.settle():
            return False
        partitions = self._partitions(shard.origin.topic)
        snapshot_id = automatic_id(shard.origin.agent, shard.origin.epoch, at_ms)
        if self._vault.has_any(snapshot_id, shard.partition):
            return True  # of another position: the clock was set back, or the worker began again
        await self._vault.take(shard, snapshot_id, "automatic", partitions)
        self._taken[_of(shard)] = _stand(shard)
        return True


def automatic_id(agent: str, epoch: int, at_ms: int) -> str:
    """The automatic snapshot of a slot.

    >>> automatic_id("fraud", 2, 1_764_000_000_000)
    'fraud.auto-2-20251124-160000'
    """
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{agent}.auto-{epoch}-{at:%Y%m%d-%H%M%S}"


def _of(shard: Shard) -> tuple[str, Partition]:
    return shard.origin.agent, shard.partition


def _stand(shard: Shard) -> tuple[int, int, int]:
    """Epoch, position, and the newest forget: with another one its state is another."""
    return shard.origin.epoch, shard.next_offset, shard.forgotten.newest
