"""How Python is set while a service runs."""

from __future__ import annotations

import gc

from headrace.models.keyed import Keyed
from tests.service.conftest import Start
from tests.service.test_service import events, learned, spec


async def test_the_collector_walks_through_no_table_of_keys(start: Start) -> None:
    """A shard's tables grow with its keys; a collection that saw them would stop the loop."""
    async with start() as (service, client):
        await client.deploy(spec("kept", "kept"))
        await service.events.send_all(events("kept", range(9)))
        await learned(client, "kept", 9)
        (shard,) = service.worker.shards.of_agent("kept")
        engine = shard.learner._engine
        assert isinstance(engine, Keyed)
        seen = {id(each) for each in gc.get_objects()}
        for table in (engine.slots._hot, engine.slots._dirty, engine.slots._read):
            assert id(table) not in seen
