"""While a service runs, its logs are looked at: what was learned must still be in them."""

from __future__ import annotations

import asyncio

from headrace.state.store import AppliedRecord
from headrace.views import Partition
from tests.service.conftest import Start
from tests.service.test_service import events, learned, spec

NOT_THERE = AppliedRecord(offset=4, timestamp=1, sha256="of another log")


async def test_a_log_that_does_not_hold_what_was_learned_is_given_up(start: Start) -> None:
    """As when a topic was made anew and is longer by now, and nobody noticed: the agent that
    learned from the former one stops, and one that learned from this one goes on.
    """
    async with start() as (service, client):
        await client.deploy(spec("former", "t-watched"))
        await client.deploy(spec("present", "t-watched"))
        await service.events.send_all(events("t-watched", range(10)))
        await learned(client, "former", 10)
        await learned(client, "present", 10)
        worker = service.worker
        shard = worker.shards.find("former", Partition("t-watched", 0))
        assert shard is not None
        shard.anchor = NOT_THERE
        await worker.logwatch.look(worker.shards.all())
        view = await client.agent("former")
        assert view.state == "failed"
        assert "the topic was made anew. Delete the agent and deploy it again" in view.note
        await service.events.send_all(events("t-watched", range(10, 20)))
        await learned(client, "present", 20)
        assert not service.failed.done()


async def test_anchors_move_on_with_what_the_log_was_seen_to_hold(start: Start) -> None:
    """A look that finds all anchors makes what was applied before it the next one."""
    async with start() as (service, client):
        await client.deploy(spec("moving", "t-moving"))
        shard = service.worker.shards.find("moving", Partition("t-moving", 0))
        assert shard is not None
        look = service.worker.logwatch.look
        for count in (10, 20):
            await service.events.send_all(events("t-moving", range(count - 10, count)))
            await learned(client, "moving", count)
            await look([shard])
            assert shard.anchor == shard.applied
            assert shard.anchor is not None
            assert shard.anchor.offset == count - 1


async def test_a_look_comes_by_itself(start: Start) -> None:
    """Nobody has to ask: an outage hurries it, and else it comes every few seconds."""
    async with start() as (service, client):
        await client.deploy(spec("lone", "t-lone"))
        await service.events.send_all(events("t-lone", range(10)))
        await learned(client, "lone", 10)
        shard = service.worker.shards.find("lone", Partition("t-lone", 0))
        assert shard is not None
        shard.anchor = NOT_THERE
        service.worker.logwatch.hurry()
        async with asyncio.timeout(5):
            while (await client.agent("lone")).state != "failed":  # noqa: ASYNC110 - as a user sees
                await asyncio.sleep(0.02)
