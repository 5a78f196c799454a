"""Deleting the rows of keys that have been idle too long: nobody can see the difference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from headrace.models.learner import Learner
from headrace.models.slots import KEY_ROW
from headrace.pipelines.keeper import Keeper
from headrace.state.store import Store

SWEEPS_PER_TTL = 8
"""Idle rows are looked for whenever log time has advanced by this part of `idle_ttl`."""

SWEEP_ROWS = 500
"""Rows looked at in one go; the shard's turn is given up in between."""


def is_due(learner: Learner, swept_at: int) -> bool:
    """Whether log time has gone on enough since it was `swept_at`."""
    ttl = learner.spec.state.idle_ttl_ms
    return ttl is not None and learner.log_time - swept_at >= ttl // SWEEPS_PER_TTL


class Sweep:
    """One walk over all rows. Call `step` under the shard's turn until it says False."""

    def __init__(self, learner: Learner, store: Store, keeper: Keeper) -> None:
        self._learner = learner
        self._store = store
        self.keeper = keeper
        self._names: Iterator[bytes] = (name for name, _ in store.scan(KEY_ROW))
        self._recovered = keeper.recovered

    async def step(self) -> bool:
        """Look at some more rows; whether there may be others. Raises StateError."""
        keeper, store = self.keeper, self._store
        # With the database its walks have ended; the next one begins anew.
        if keeper.waits_for or keeper.recovered != self._recovered:
            return False
        part = list(itertools.islice(self._names, SWEEP_ROWS))
        if not part:
            return False
        meta = store.meta
        assert meta is not None, "there are rows, so there is a position"
        # The walk sees the rows as they were when it began; what counts is what they are now,
        # because a key may have come back meanwhile.
        rows = ((name, row) for name in part if (row := store.get(name)) is not None)
        idle = self._learner.sweep(rows)
        if idle:
            await keeper.write([(name, None) for name in idle], meta)
        return True
