"""Budgets of a worker that deploys and events can reach."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import OverloadError
from headrace.pipelines import submission
from headrace.state.options import StoreOptions
from tests.service.conftest import Start, make_topic
from tests.service.test_service import events, fold, learned, spec


async def test_agents_beyond_the_budget_of_open_files_are_refused(start: Start) -> None:
    """What the budget cannot hold is refused before it is in the log, with a time to retry; who is
    there stays, and room that becomes free is used.
    """
    each = StoreOptions().descriptors()
    async with start(descriptors_max=2 * each) as (service, client):
        await make_topic(service.broker, "t-room")
        await client.deploy(spec("first", "t-room"))
        await client.deploy(spec("second", "t-room"))
        with pytest.raises(OverloadError, match=f"2 shards have {2 * each} of {2 * each}") as full:
            await client.deploy(spec("third", "t-room"))
        assert (full.value.code, full.value.retry_s) == ("no_room", 60.0)
        assert not (await client.deploy(spec("first", "t-room"))).changed
        assert [view.name for view in await client.agents()] == ["first", "second"]
        await client.delete("second")
        assert (await client.deploy(spec("third", "t-room"))).changed


async def test_two_deploys_at_once_do_not_share_the_last_room(start: Start) -> None:
    """Room is held for shards that are being opened: of two deploys into room for one, one is."""
    each = StoreOptions().descriptors()
    async with start(descriptors_max=2 * each) as (service, client):
        await make_topic(service.broker, "t-last")
        await client.deploy(spec("first", "t-last"))
        outcomes = await asyncio.gather(
            *(client.deploy(spec(name, "t-last")) for name in ("second", "third")),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadError)]
        assert [error.code for error in refused] == ["no_room"]
        assert len(await client.agents()) == 2
        assert len(service.worker.shards.all()) == 2


async def test_commands_wait_in_a_bounded_queue(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too many commands wait to be applied, the next one is not appended."""
    async with start() as (_, client):
        await client.deploy(spec("queued", "t-queued"))
        monkeypatch.setattr(submission, "WAITING_MAX", 0)
        with pytest.raises(OverloadError, match="waiting to be applied") as full:
            await client.pause("queued")
        assert (full.value.code, full.value.retry_s) == ("overloaded", 5.0)
        monkeypatch.undo()
        assert (await client.pause("queued")).changed


async def test_models_beyond_the_budget_of_memory_cool_down(start: Start) -> None:
    """Live models are held to the budget while events come; every key is what it would be."""
    sent = [
        event._replace(key=b"k%d" % n, value=event.value.replace(event.key, b"k%d" % n))
        for n, event in enumerate(events("t-memory", range(2_000)))
    ]
    text = spec("memory", "t-memory")
    async with start(models_bytes_max=4 << 20) as (service, client):
        await make_topic(service.broker, "t-memory")
        await client.deploy(text)
        for begin in range(0, len(sent), 500):
            await service.events.send_all(sent[begin : begin + 500])
            await learned(client, "memory", begin + 500)
        (shard,) = service.worker.shards.all()
        async with asyncio.timeout(20):  # the last chunk is learned a little before it is cooled
            while shard.learner.hot_bytes > 4 << 20:
                await client.ready()
        assert shard.learner.keys_hot < 1_000
        folded = fold(text, sent, "memory", "t-memory")
        await shard.flush()
        assert dict(shard._store.scan(b"k/")) == dict(folded.scan(b"k/"))
