"""Topics of decisions that somebody deletes while they are written to.

A producer waits for a topic that is not there as it waits for a broker, and every flush of every
agent with it. Where the broker makes topics by itself nobody notices; elsewhere this makes them
again, as a start would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines.control import Registry
from headrace.pipelines.topics import Topics

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at which topics there are: one question to the broker."""


async def keep(
    topics: Topics, registry: Registry, quarantine_topic: str, waits: Callable[[], bool]
) -> None:
    """Look again and again whether all that is written to is there, for ever.

    Only when something `waits` to be acknowledged, at this look and the one before: the answer
    names every topic of the cluster.
    """
    before = False
    while True:
        await asyncio.sleep(LOOK_S)
        before, again = waits(), before
        if not (before and again):
            continue
        try:
            await look(topics, registry, quarantine_topic)
        except (StateError, UnavailableError) as error:
            log.debug("outlets_not_seen error=%r", error)


async def look(topics: Topics, registry: Registry, quarantine_topic: str) -> None:
    """Make those topics again that are gone. Raises UnavailableError, StateError."""
    there = await topics.partition_count(quarantine_topic)
    wanted = {quarantine_topic: 1} if not there else {}
    for deployment in registry.live():
        partitions = topics.known_partition_count(deployment.source_topic)
        if partitions and not topics.known_partition_count(deployment.deploy.emit_topic):
            wanted[deployment.deploy.emit_topic] = partitions
    for topic, partitions in wanted.items():
        log.warning("outlet.gone", extra=fields(topic=topic, partitions=partitions))
        await topics.ensure(topic, partitions=partitions, ours=False)
