"""Publishing which decisions a rollback has withdrawn, and which it has taken back into force.

It happens behind everything else, by the worker that holds the partition, one rollback of a
partition after the other. What is owed follows from the control log, and what belongs to it from
the topic of decisions; so after a crash, or a takeover, all of it is done again, byte for byte the
same, until the control log says that it is done:

1. the state that the rollback brought is durable, and so all decisions below it are in their topic;
2. their ids are published, a piece at a time, each acknowledged before the next one is read;
3. a record behind them says that they are complete, and is acknowledged;
4. the control log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from headrace.errors import StateError, UnavailableError
from headrace.logs import fields
from headrace.models.decisions import Boundary
from headrace.pipelines import control
from headrace.pipelines.decisionlog import DecisionLog
from headrace.pipelines.fates import Complete, Fated, encode
from headrace.pipelines.reader import LogSpan
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Commands, Site
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import Topics
from headrace.pipelines.validity import Validity, Withdrawal
from headrace.views import Partition, Position

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at whether something is owed."""


class Holder(Protocol):
    """Which shards this worker holds; see `pipelines.shards.Shards`."""

    @property
    def site(self) -> Site: ...

    def find(self, agent: str, partition: Partition) -> Shard | None: ...

    def is_leaving(self, deployment: control.Deployment, partition: Partition) -> bool: ...


class Host(Protocol):
    """The worker, as far as this needs it."""

    topics: Topics
    streams: Streams

    def over(self) -> bool: ...  # it is going down

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...  # the stop waits


class Withdrawing:
    """Order of calls: `run` is a task that runs for ever."""

    def __init__(self, topic: str, controls: Commands, holder: Holder, host: Host) -> None:
        self._to = Partition(topic, 0)
        self._controls = controls
        self._holder = holder
        self._host = host
        self._site = holder.site

    async def run(self) -> None:
        """Look again and again; what fails is tried again at the next look.

        A look that a stop ends is waited for by that: it may have a connection to close.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            looking = self._host.spawn(self.look())
            try:
                await asyncio.shield(looking)
            except asyncio.CancelledError:
                looking.cancel()
                raise

    async def look(self) -> None:
        """Publish what is owed for the partitions that this worker holds."""
        waits: set[tuple[str, Partition]] = set()  # a later rollback comes behind an earlier one
        for deployment in self._controls.registry.owing():
            for (_, partition), accepted in list(deployment.owed.items()):
                place = (deployment.agent, partition)
                if place in waits or not self._may_publish(deployment, accepted, partition):
                    waits.add(place)
                    continue
                try:
                    await self._publish(deployment, accepted, partition)
                except UnavailableError as error:
                    if error.code != "broker_away":  # of which `presence` tells
                        raise
                    waits.add(place)
                except StateError as error:
                    waits.add(place)
                    what = fields(control_id=accepted.control_id, error=str(error))
                    log.warning("withdrawn.not_published", extra=what)

    def _may_publish(
        self, deployment: control.Deployment, accepted: control.Accepted, partition: Partition
    ) -> bool:
        """Whether all that was decided before the rollback is in its topic, and this worker is the
        one to publish.
        """
        if self._host.over() or (accepted.control_id, partition) not in deployment.owed:
            return False
        shard = self._holder.find(deployment.agent, partition)
        if shard is not None and shard.life == deployment.life:
            return not shard.leaving and shard.origin.epoch >= accepted.epoch
        if not deployment.deleted or self._holder.is_leaving(deployment, partition):
            return False
        return self._speaks_for_gone(deployment, partition)

    def _speaks_for_gone(self, deployment: control.Deployment, partition: Partition) -> bool:
        """Of an agent that is gone: who holds the partition, and so nobody else; or any if nobody
        reads it. But the delete that was read here may not have counted there yet: it does behind
        all decisions.
        """
        streams, topic = self._host.streams, partition.topic
        if partition in streams.assigned(topic):
            return True
        if self._host.topics.known_partition_count(topic) <= partition.partition:
            return True  # it was deleted before its agent, whose delete counts nowhere in it
        return topic not in streams.topics and deployment.ended_in(partition)

    async def _publish(
        self, deployment: control.Deployment, accepted: control.Accepted, partition: Partition
    ) -> None:
        validity = Validity(deployment, partition)
        withdrawal = await asyncio.to_thread(Withdrawal, validity, accepted.epoch)
        counts = Counter[str]()
        if deployment.deleted:  # a shard that was given up did not wait for what it had decided
            await asyncio.shield(self._host.spawn(self._sent([])))
        async with aclosing(self._fated(deployment, accepted, partition, withdrawal)) as there:
            async for piece in there:
                if not self._may_publish(deployment, accepted, partition):
                    return
                counts.update(one.fate for one in piece)
                records = [(one.decision.encode(), encode(one)) for one in piece]
                await self._acknowledged(records)
        if not self._may_publish(deployment, accepted, partition):
            return
        name = f"{accepted.control_id}/{partition.topic}/{partition.partition}"
        command = accepted.command
        assert isinstance(command, control.Rollback)
        complete = Complete(
            agent=accepted.agent,
            epoch=accepted.epoch,
            control_id=accepted.control_id,
            position=Position(*partition, withdrawal.validity.begin(accepted.epoch)),
            partitions=command.partitions,
            withdrawn=counts["withdrawn"],
            reinstated=counts["reinstated"],
        )
        await self._acknowledged([(name.encode(), encode(complete))])
        await self._controls.append(
            control.Withdrawn(
                id=f"{name}/withdrawn",
                control_id=accepted.control_id,
                agent=accepted.agent,
                life=accepted.life,
                topic=partition.topic,
                partition=partition.partition,
                withdrawn=complete.withdrawn,
                reinstated=complete.reinstated,
                worker=self._site.worker,
            )
        )
        log.info("withdrawn.published", extra=fields(control_id=accepted.control_id, **counts))

    async def _fated(
        self,
        deployment: control.Deployment,
        accepted: control.Accepted,
        partition: Partition,
        withdrawal: Withdrawal,
    ) -> AsyncGenerator[list[Fated], None]:
        """The decisions whose fate the rollback has changed, each once, in pieces."""
        where = Partition(deployment.deploy.emit_topic, partition.partition)
        concerned, rank = withdrawal.concerned, withdrawal.validity.rank
        if concerned is None or await self._gone(where):
            return  # nothing, or nothing any more
        span = await self._site.logs.span(where)
        decisions = DecisionLog(self._site.logs, where, self._site.precedence)
        begin = await decisions.begins(span, concerned.begin, rank)
        newest = -1
        async with aclosing(decisions.pieces(LogSpan(begin, span.end))) as there:
            async for piece in there:
                found: list[Fated] = []
                for record, _ in piece:
                    at = rank(record)
                    if withdrawal.is_behind(record, at):
                        yield found
                        return
                    if at is None or at <= newest or isinstance(record, Boundary):
                        continue
                    newest = at
                    if (fate := withdrawal.fate(record)) is not None:
                        found.append(
                            Fated(
                                fate=fate,
                                decision=record.id,
                                agent=accepted.agent,
                                epoch=accepted.epoch,
                                control_id=accepted.control_id,
                            )
                        )
                yield found

    async def _gone(self, where: Partition) -> bool:
        return await self._host.topics.partition_count(where.topic) <= where.partition

    async def _acknowledged(self, records: list[tuple[bytes, bytes]]) -> None:
        """Append records, and wait until Kafka has them: events never wait for more than these.

        It is finished also if the caller is cancelled meanwhile: a batch may be on its way.
        """
        if records:
            await asyncio.shield(self._host.spawn(self._sent(records)))

    async def _sent(self, records: list[tuple[bytes, bytes]]) -> None:
        sink = self._site.sink
        for key, value in records:
            sink.append(self._to, key, value)
        await sink.drain()
