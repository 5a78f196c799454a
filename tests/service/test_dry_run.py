"""A dry run says what a deploy would say, and leaves nothing behind."""

from __future__ import annotations

import msgspec
import pytest

from headrace.errors import HeadraceError, RequestError
from headrace.pipelines.broker import Broker, ClusterBroker
from tests.service.conftest import Start
from tests.service.test_service import events, spec


async def test_a_dry_run_counts_and_shows_examples(start: Start) -> None:
    """It says how many recent records would be accepted and why not the others; none is learned."""
    async with start() as (service, client):
        await client.deploy(spec("real", "t-dry"))
        await service.events.send_all(events("t-dry", range(8)))
        await service.events.send("t-dry", b"ada", b'{"id":"ada","temp":1}')
        result = await client.dry_run(spec("trial", "t-dry"))
        assert (result.read, result.accepted) == (9, 8)
        assert [(r.code, r.count, r.examples[0].offset) for r in result.refused] == [
            ("missing", 1, 8)
        ]
        assert [a.name for a in await client.agents()] == ["real"]


async def test_a_dry_run_refuses_what_a_deploy_refuses(start: Start) -> None:
    """With the same words: a name that is taken, decisions too, a key or topic that cannot be."""
    async with start() as (service, client):
        await client.deploy(spec("tried", "t-tried"))
        await service.events.send_all(events("t-tried", range(8)))
        keyed = msgspec.json.decode(spec("two", "t-tried"))
        keyed["source"]["key"] = "$.temp"
        for text, code in (
            (spec("tried", "t-tried-else"), "agent_exists"),
            (spec("two", "t-tried", emit={"topic": "decisions.t-tried.tried"}), "emit_topic_taken"),
            (spec("two", "decisions.t-tried.tried", emit={"topic": "t-tried"}), "emit_loop"),
            (msgspec.json.encode(keyed), None),
            (spec("two", "t-tried", emit={"topic": "t-tried-wide"}), None),
        ):
            if b"t-tried-wide" in text:
                await service.worker.topics.ensure("t-tried-wide", partitions=2, ours=False)
            with pytest.raises(HeadraceError) as deployed:
                await client.deploy(text)
            with pytest.raises(HeadraceError) as tried:
                await client.dry_run(text)
            assert (type(tried.value), str(tried.value)) == (
                type(deployed.value),
                str(deployed.value),
            )
            assert getattr(tried.value, "code", None) == code
        assert await service.worker.topics.partition_count("t-tried-else") == 0
        assert [a.name for a in await client.agents()] == ["tried"]


async def test_a_topic_of_others_is_not_made(start: Start, broker: Broker) -> None:
    """On a cluster that somebody else runs it has to be there: for a deploy, and to try one."""
    cluster = ClusterBroker(broker.bootstrap)
    cluster.can_transactions = broker.can_transactions
    cluster.durable = broker.durable
    async with start(on=cluster) as (_, client):
        for ask in (client.deploy, client.dry_run):
            with pytest.raises(RequestError, match="'t-absent' does not exist: create") as refused:
                await ask(spec("early", "t-absent"))
            assert refused.value.code == "topic_missing"
