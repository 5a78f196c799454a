"""The memory of all live models of a worker, and what happens when there are too many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from headrace.errors import StateError
from headrace.logs import fields
from headrace.pipelines.holdings import Drop
from headrace.pipelines.shard import Shard

log = logging.getLogger(__name__)

COOLED_AT_ONCE = 200
"""Keys that are let go of between two turns of the event loop: about a millisecond."""

ROOM = 0.9
"""To which part of the budget the models are brought down, so that it is not done at each chunk."""


class MemoryBudget:
    """Keeps the live models of all shards below `bytes_max` by letting go of the longest unused.

    They are on disk and are read again when their keys come, so nothing changes but the time that
    this takes. Call `keep` after each chunk: who learns waits for it, which is what slows intake.
    What changed since the last flush cannot go; then the shard is flushed first. One whose flush
    fails is given to `drop`.
    """

    def __init__(self, bytes_max: int, drop: Drop) -> None:
        self._bytes_max = bytes_max
        self._drop = drop
        self._cooling = asyncio.Lock()
        self.cooled = 0  # keys that had to go, since the start

    async def keep(self, shards: Sequence[Shard]) -> None:
        """Return when the models of these shards fit."""
        if used(shards) <= self._bytes_max:
            return
        async with self._cooling:
            target = int(self._bytes_max * ROOM)
            for flushed in (False, True):
                # The largest first: a small agent is not cooled because a large one has grown.
                for shard in sorted(shards, key=lambda s: s.learner.hot_bytes, reverse=True):
                    if used(shards) <= target:
                        return
                    if flushed:
                        try:
                            await shard.flush()
                        except StateError as error:  # its disk fails; the others go on
                            await self._drop(shard, error)
                            continue
                    await self._cool(shard, shards, target)
            if used(shards) > target:
                log.warning("memory.full", extra=fields(bytes=used(shards), of=self._bytes_max))

    async def _cool(self, shard: Shard, shards: Sequence[Shard], target: int) -> None:
        share = target // max(len(shards), 1)
        while used(shards) > target and shard.learner.hot_bytes > share:
            gone = shard.learner.cool(COOLED_AT_ONCE)
            self.cooled += gone
            if not gone:
                return
            await asyncio.sleep(0)


def used(shards: Sequence[Shard]) -> int:
    """About how many bytes the live models of these shards take."""
    return sum(shard.learner.hot_bytes for shard in shards)
