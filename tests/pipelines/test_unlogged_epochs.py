"""A state of an epoch of which the log does not say where it began: nobody goes on from it."""

from __future__ import annotations

import asyncio

import pytest

from tests.pipelines.small_place import WHERE
from tests.pipelines.test_forgetting import HISTORY
from tests.pipelines.test_rollback_laws import Two, lived


@pytest.mark.parametrize("published", [False, True])
def test_a_state_whose_effect_is_not_in_the_log_is_made_again(*, published: bool) -> None:
    """The end of the control log was lost, say. Whether it lies on this disk or was restored: the
    rollback counts where the log says now, on the state from before it.
    """

    async def work(place: Two) -> None:
        await place.feed(6)
        snapshot_id = await place.snapshot("a")
        chosen = await place.digests("a")
        await place.feed(12)
        await place.roll_back("a", snapshot_id)
        shard = place.shard("a")
        async with shard._turn:
            pass  # it is done now
        if published:
            await shard.flush()
            await place.vault.take(shard, "a.auto-2", "automatic", 1)
            await place.until(lambda: bool(place.vault.catalogue.shards("a.auto-2")))
        await place.shards.close(shard, flush=True)
        if published:
            place.directory.drop_agent("a", through=2)
        del place.deployment.effects["r1"][WHERE]
        shard = await place.shards.open(place.deployment, WHERE)
        for number in range(0, 12, 4):
            await shard.process(place.chunk())
            await asyncio.sleep(number)
        assert shard.origin.epoch == 2
        assert place.deployment.effect("r1", WHERE) == 12
        assert await place.digests("a") == chosen

    lived(HISTORY, work)
