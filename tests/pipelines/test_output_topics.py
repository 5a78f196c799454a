"""Topics that are written to are made again when somebody has deleted them."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import StateError
from headrace.pipelines import control, output_topics
from headrace.pipelines.topics import Topics
from headrace.views import Partition


async def test_a_topic_that_is_gone_is_made_again_while_something_waits_for_it(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many partitions as its source has, also if its agent was deleted since; nobody asks
    while nothing waits. What has no source gets what is written to.
    """
    await topics.ensure("outlet-source", partitions=2, ours=False)
    registry = control.Registry()
    spec = {"source": {"topic": "outlet-source"}}
    deploy = control.Deploy(id="d", agent="a", spec=spec, digest="1", emit_topic="outlet-gone")
    registry.apply(deploy, 0)
    registry.apply(control.Delete(id="x", agent="a"), 1)
    monkeypatch.setattr(output_topics, "LOOK_S", 0.02)
    waiting: set[Partition] = set()
    keeping = asyncio.ensure_future(output_topics.keep(topics, registry, lambda: waiting))
    try:
        await asyncio.sleep(0.2)
        assert not await topics.partition_count("outlet-gone")
        waiting = {Partition("outlet-gone", 0), Partition("outlet-quarantine", 0)}
        async with asyncio.timeout(10):
            while not topics.known_partition_count("outlet-quarantine"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        keeping.cancel()
    assert await topics.partition_count("outlet-gone") == 2
    assert topics.known_partition_count("outlet-quarantine") == 1


async def test_a_partition_that_its_source_gained_has_no_outlet(topics: Topics) -> None:
    """Also when nobody has asked yet how many the source has now."""
    await topics.ensure("outlet-grown", partitions=1, ours=False)
    await topics.match(Partition("outlet-grown", 0), "outlet-narrow")
    assert topics.known_partition_count("outlet-narrow") == 1
    await topics.match(Partition("outlet-grown", 0), "outlet-narrow")
    with pytest.raises(StateError, match="has 1 partitions and must have 2"):
        await topics.match(Partition("outlet-grown", 1), "outlet-narrow")
