"""Topics of decisions that somebody deletes while they are written to.

A producer waits for a topic that is not there as it waits for a broker, and every flush of every
agent with it. Where the broker makes topics by itself nobody notices; elsewhere this makes them
again, as a start would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines.control import Registry
from headrace.pipelines.topics import Topics
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at which topics there are: one question to the broker."""


async def keep(topics: Topics, registry: Registry, waits: Callable[[], set[Partition]]) -> None:
    """Look again and again whether all that is written to is there, for ever.

    Only at what `waits` to be acknowledged, at this look and the one before: the broker's answer
    names every topic of the cluster. Who owns the topic does not matter: what was decided by an
    agent that is deleted since goes out, or nobody's decisions do.
    """
    before: set[Partition] = set()
    while True:
        await asyncio.sleep(LOOK_S)
        waiting = waits()
        before, still = waiting, waiting & before
        if not still:
            continue
        try:
            await look(topics, registry, still)
        except UnavailableError as error:
            log.debug("outlets.not_seen", extra=fields(error=repr(error)))
        except StateError as error:
            log.warning("outlet.unusable", extra=fields(error=str(error)))


async def look(topics: Topics, registry: Registry, waiting: Iterable[Partition]) -> None:
    """Make those topics again that are gone. Raises UnavailableError, StateError."""
    highest: dict[str, int] = {}
    for topic, partition in waiting:
        highest[topic] = max(partition, highest.get(topic, 0))
    for topic in sorted(highest):
        if not await topics.partition_count(topic):
            source = _source_of(registry, topic)
            partitions = topics.known_partition_count(source) or highest[topic] + 1
            log.warning("outlet.gone", extra=fields(topic=topic, partitions=partitions))
            await topics.ensure(topic, partitions=partitions, ours=False)


def _source_of(registry: Registry, emit_topic: str) -> str:
    """Whose partitions a topic of decisions has; empty for one of another kind."""
    for deployment in (*registry.live(), *registry.deleted()):
        if deployment.deploy.emit_topic == emit_topic:
            return deployment.source_topic
    return ""
