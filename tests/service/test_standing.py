"""What is said of an agent that does not learn here, or not yet."""

from __future__ import annotations

import asyncio

from tests.service.conftest import Start
from tests.service.test_full_disk import noted
from tests.service.test_service import events, learned, spec


async def test_an_agent_whose_partitions_others_hold_says_so(start: Start) -> None:
    """Of two workers and one partition, one holds it; the other is not about to start."""
    async with start() as (_, one), start(state="another") as (_, other):
        await one.deploy(spec("shared-out", "t-shared-out"))
        async with asyncio.timeout(30):
            while True:
                views = [await client.agent("shared-out") for client in (one, other)]
                if sorted(view.state for view in views) == ["elsewhere", "running"]:
                    break
                await asyncio.sleep(0.1)
    (idle,) = [view for view in views if view.state == "elsewhere"]
    assert "hold all partitions of 't-shared-out'" in idle.note


async def test_events_that_wait_for_their_labels_are_told(start: Start) -> None:
    """Nothing is learned before the log's own time has gone on far enough."""
    async with start() as (service, client):
        label = {"later": "$.temp", "after": "1h"}
        await client.deploy(spec("patient", "t-patient", label=label))
        await service.events.send_all(events("t-patient", range(9)))
        await noted(client, "patient", "^9 events wait for a label: one 3600 s or more after them")
        await client.deploy(spec("prompt", "t-patient"))
        assert (await learned(client, "prompt", 9)).note == ""
