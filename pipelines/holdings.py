"""What this worker holds: the shards that it has opened, and the agents that it has given up.

An agent is given up as a whole: where one of its shards cannot be used, the others are closed too,
it is told as `failed` with the reason, and the other agents go on. What is not to be trusted is not
opened again by a rebalance; only an agent that found no room on the disk, or its repository away,
is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from headrace.errors import (
    AwayStateError,
    DiskFullError,
    OtherBuildError,
    StateError,
    UnavailableError,
)
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.presence import patiently
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards, log_unusable
from headrace.pipelines.topics import Topics
from headrace.views import Partition

log = logging.getLogger(__name__)

Drop = Callable[[Shard, StateError], Awaitable[None]]
"""`Holdings.drop`, for whoever finds that a shard cannot be used any more."""

PASSING = (DiskFullError, AwayStateError)
"""What waiting may cure: no room on the disk, a repository that cannot be reached."""
RETRY_S = 5.0
"""After this an agent that was given up for what may pass is tried again."""


class Host(Protocol):
    """The worker, as far as its holdings need it."""

    def over(self) -> bool: ...  # it is going down: nothing is opened any more

    def spawn(self, work: Coroutine[Any, Any, None]) -> Awaitable[None]: ...  # the stop waits

    async def follow_source(self, deployment: control.Deployment) -> None: ...

    async def tell_waiting(self) -> None: ...  # those who wait for a command look again


class Holdings:
    """Opens shards and gives agents up. Whoever opens or deletes holds `opening`, so that an agent
    is not deleted while a shard of it is being opened.
    """

    def __init__(
        self,
        shards: Shards,
        registry: control.Registry,
        topics: Topics,
        host: Host,
    ) -> None:
        self.opening = asyncio.Lock()
        self.broken: dict[str, StateError] = {}  # live agents that cannot run, and why
        self._shards = shards
        self._registry = registry
        self._topics = topics
        self._host = host
        shards.in_background = self.in_background

    async def all_open(self) -> None:
        """Return when no shard is being opened: a new source topic makes all of them open anew."""
        async with self.opening:
            return

    async def open(self, deployment: control.Deployment, partition: Partition) -> Shard | None:
        """The shard, opened if need be; None if the agent is gone or has been given up.

        The caller holds `opening`.
        """
        newest = self._registry.last(deployment.agent)
        if deployment.deleted or newest is not deployment or self._host.over():
            return None
        if deployment.agent in self.broken:
            return None
        shard = self._shards.find(deployment.agent, partition)
        if shard is not None:
            return shard
        try:
            await patiently(
                lambda: self._topics.match(partition, deployment.deploy.emit_topic), self._host.over
            )
            shard = await patiently(
                lambda: self._shards.open(deployment, partition), self._host.over
            )
        except StateError as error:
            await self._give_up(deployment, error)
            return None
        except UnavailableError:
            if self._host.over():  # the broker is waited for until the stop
                return None
            raise
        if deployment.agent in self.broken:  # one of its other shards failed meanwhile
            await self.close([shard], flush=True)
            return None
        self._host.spawn(self._flush(shard))
        return shard

    async def open_all(self, partitions: Collection[Partition]) -> list[Shard]:
        """The shards of all live agents of these partitions. The caller holds `opening`."""
        opened = await asyncio.gather(
            *(
                self.open(deployment, partition)
                for deployment in self._registry.live()
                for partition in sorted(partitions)
                if partition.topic == deployment.source_topic
            ),
            return_exceptions=True,  # none is still being opened when `opening` ends
        )
        for outcome in opened:
            if isinstance(outcome, BaseException):
                raise outcome
        return [shard for shard in opened if isinstance(shard, Shard)]

    def in_background(self, shard: Shard, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside a shard that takes long; the stop waits for it."""
        self._host.spawn(self._beside(shard, work))

    async def _beside(self, shard: Shard, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StateError as error:
            await self.drop(shard, error)
        except UnavailableError:
            if not (self._host.over() or shard.leaving):
                raise

    async def drop(self, shard: Shard, error: StateError) -> None:
        """Close a shard whose state cannot be used any more, and give up its agent.

        It is finished also if the caller is cancelled meanwhile: a flush may be under way.
        """
        await asyncio.shield(self._host.spawn(self._drop(shard, error)))

    async def _drop(self, shard: Shard, error: StateError) -> None:
        if self._shards.find(shard.origin.agent, shard.partition) is not shard:
            log_unusable(shard, error)  # closed meanwhile, and perhaps opened anew
            return
        with contextlib.suppress(StateError):  # it is closed all the same
            await self._shards.close(shard, flush=False)
        await self._give_up_of(shard, error)

    async def close(self, shards: Collection[Shard], *, flush: bool) -> None:
        """Close all of them, also when one fails. A disk that fails is its agent's own trouble, and
        that is given up; of other failures, which are the broker's, the first is raised.
        """
        failures: list[Exception] = []
        for shard in shards:
            try:
                await self._shards.close(shard, flush=flush)
            except StateError as error:
                await self._give_up_of(shard, error)
            except (KafkaError, UnavailableError) as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def forgiven(self, agent: str) -> bool:
        """Take an agent up again whose state was another build's, as it begins anew; False: it has
        not failed of that.
        """
        refused = isinstance(self.broken.get(agent), OtherBuildError)
        if refused:
            del self.broken[agent]
        return refused

    async def _flush(self, shard: Shard) -> None:
        try:
            await shard.flush_by_timer()
        except StateError as error:
            await self.drop(shard, error)

    async def _give_up(self, deployment: control.Deployment, error: StateError) -> None:
        log.error("agent.broken", extra=fields(agent=deployment.agent, error=str(error)))
        known = self.broken.get(deployment.agent)
        # Several shards may fail: what may pass is what the agent is tried again after, so it hides
        # no other reason.
        if known is None or not isinstance(error, PASSING):
            # Without its traceback, which would keep all that the shard held in memory.
            self.broken[deployment.agent] = error.with_traceback(None)
        await self._host.tell_waiting()
        await self.close(self._shards.of_agent(deployment.agent), flush=True)
        if known is None and isinstance(error, PASSING):
            asyncio.get_running_loop().call_later(RETRY_S, self._try_again, deployment)

    def _try_again(self, deployment: control.Deployment) -> None:
        """Unless it has begun another life, or broken in another way."""
        live = self._registry.last(deployment.agent) is deployment and not deployment.deleted
        may_have_passed = isinstance(self.broken.get(deployment.agent), PASSING)
        if live and may_have_passed and not self._host.over():
            del self.broken[deployment.agent]
            self._host.spawn(self._host.follow_source(deployment))

    async def _give_up_of(self, shard: Shard, error: StateError) -> None:
        """Give up the shard's agent, unless that has begun another life since."""
        deployment = self._registry.last(shard.origin.agent)
        if deployment is not None and deployment.life == shard.life:
            await self._give_up(deployment, error)
