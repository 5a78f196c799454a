"""Who publishes what a rollback has withdrawn, and when, where there is more than one worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Coroutine
from typing import Any, cast

import msgspec
import pytest

from headrace.errors import UnavailableError
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.precedence import PATIENCE_S
from headrace.pipelines.reader import LogSpan
from headrace.pipelines.shard import Shard
from headrace.pipelines.streams import Streams
from headrace.pipelines.topics import Topics
from headrace.pipelines.withdrawing import Withdrawing
from headrace.views import Partition
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_past import Lived
from tests.pipelines.test_rollback_laws import KEYS, History, Two, lived
from tests.simulation.broker import WITHDRAWN, SimLogs, SimTopics
from tests.simulation.loop import Process
from tests.simulation.sink import SimSink

HISTORY = History(3, KEYS[:1] * 60, 0, 0)


class Host:
    """A worker that reads these topics, and holds these partitions of them."""

    def __init__(self, place: Lived, reads: Collection[str] = (), *held: Partition) -> None:
        self.topics = cast(Topics, SimTopics(place.broker))
        self.streams = cast(Streams, Reading(reads, held))

    def over(self) -> bool:
        return False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)


class Reading:
    def __init__(self, topics: Collection[str], held: Collection[Partition]) -> None:
        self.topics = topics
        self._held = held

    def assigned(self, topic: str) -> set[Partition]:
        return {partition for partition in self._held if partition.topic == topic}


class Logs(SimLogs):
    """The broker does not answer so many questions."""

    away = 0

    async def span(self, partition: Partition) -> LogSpan:
        if self.away:
            self.away -= 1
            raise UnavailableError("broker_away", "it does not answer")
        return await super().span(partition)


class Other:
    """Another worker than the place, over the same logs: it has no shard."""

    leaving = False

    def __init__(self, place: Lived, sink: SimSink | None = None) -> None:
        sink = sink or SimSink(place.broker, Process("v"), random.Random(2))
        logs = Logs(place.broker)
        self.site = msgspec.structs.replace(place.shards.site, worker="v", sink=sink, logs=logs)

    def find(self, agent: str, partition: Partition) -> Shard | None:
        return None

    def is_leaving(self, deployment: control.Deployment, partition: Partition) -> bool:
        return self.leaving


def looking(place: Lived, host: Host, sink: SimSink | None = None) -> Withdrawing:
    """The other worker; it sends through its own sink unless one is given."""
    place.broker.partitions |= {WHERE.topic: 1, "decided": 1}
    return Withdrawing(WITHDRAWN.topic, place.controls, Other(place, sink), host)


def told(place: Lived) -> list[tuple[str, str]]:
    """The fate, and the decision or the rollback, of each record; a repeated one once."""
    records = [msgspec.json.decode(row.value or b"") for row in place.broker.logs[WITHDRAWN].rows()]
    names = ((one["fate"], one.get("decision", one["control_id"])) for one in records)
    return list(dict.fromkeys(names))


def withdrawn(begin: int, end: int, epoch: int = 1) -> list[tuple[str, str]]:
    return [("withdrawn", f"a/{epoch}/events/0/{offset}") for offset in range(begin, end)]


async def held_up(place: Lived) -> control.Deployment:
    """An agent that goes back by twenty events, and is deleted, while they are not acknowledged."""
    await place.feed(10)
    base = await place.cut("a", "good")
    place.sink.released.clear()
    await place.feed(30)
    deployment = place.controls.registry.get("a")
    place.command(place.back("a", base))
    await place.until(lambda: deployment.effect("r1", WHERE) is not None)
    place.command(control.Delete(id="x", agent="a"))
    await place.until(lambda: deployment.deleted)
    return deployment


@pytest.mark.parametrize("reads", [(), (WHERE.topic,)])
def test_a_delete_that_has_not_counted_yet_is_waited_for(reads: tuple[str, ...]) -> None:
    """By a worker that never held the partition, and has read of the delete: the other one's
    decisions are not in their topic yet.
    """

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        deployment = await held_up(place)
        await looking(place, Host(place, reads)).look()
        early = told(place)
        place.sink.released.set()
        assert early == []
        await place.until(lambda: deployment.ended_in(WHERE))
        await looking(place, Host(place)).look()
        assert told(place) == [*withdrawn(10, 30), ("complete", "r1")]

    lived(HISTORY, work, Lived)


@pytest.mark.parametrize("topic_is_there", [True, False])
def test_who_gets_the_partition_of_a_gone_agent_tells_of_it(*, topic_is_there: bool) -> None:
    """Whose delete nobody else makes count; and if the topic is gone, it counts nowhere."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await held_up(place)
        host = Host(place, (WHERE.topic,), WHERE) if topic_is_there else Host(place)
        other = looking(place, host)
        if not topic_is_there:
            del place.broker.partitions[WHERE.topic]
        await other.look()
        place.sink.released.set()
        assert told(place) == [("complete", "r1")]  # nothing else has come

    lived(HISTORY, work, Lived)


def test_what_this_worker_has_decided_itself_is_waited_for() -> None:
    """Of a shard that it gave up: its delete counts without it."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await held_up(place)
        other = looking(place, Host(place, (WHERE.topic,), WHERE), place.sink)
        look = asyncio.ensure_future(other.look())
        await asyncio.sleep(1.0)
        place.sink.released.set()
        await look
        assert told(place) == [*withdrawn(10, 30), ("complete", "r1")]

    lived(HISTORY, work, Lived)


async def two_lives(place: Lived) -> None:
    """An agent goes back, is deleted, deployed anew, and goes back again; nobody tells of it."""
    await place.feed(10)
    base = await place.cut("a", "good")
    await place.feed(20)
    await place.roll_back("a", base)
    deployment = place.controls.registry.get("a")
    place.command(control.Delete(id="x", agent="a"))
    await place.until(lambda: place.shards.find("a", WHERE) is None)
    first = deployment.commands[0].command
    assert isinstance(first, control.Deploy)
    place.command(msgspec.structs.replace(first, id="anew"))
    await place.until(lambda: place.controls.registry.last("a") is not deployment)
    shard = await place.shards.open(place.controls.registry.get("a"), WHERE)
    await shard.process(Chunk("events", 0, place.rows[:10], 10))
    base = await place.cut("a", "better")
    await shard.process(Chunk("events", 10, place.rows[10:20], 20))
    await place.roll_back("a", base)


def test_a_new_life_waits_until_the_former_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one partition rollbacks are told in the order of their epochs, also when one fails."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        await two_lives(place)
        monkeypatch.setattr(Other, "find", lambda _, *shard: place.shards.find(*shard))
        holder = looking(place, Host(place, (WHERE.topic,), WHERE))
        monkeypatch.setattr(Logs, "away", 1)
        await holder.look()
        assert told(place) == []
        await holder.look()
        assert told(place) == [
            *withdrawn(10, 20), ("complete", "r1"), *withdrawn(10, 20, epoch=3), ("complete", "r3"),
        ]  # fmt: skip

    lived(HISTORY, work, Lived)


def test_a_shard_that_is_being_closed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an agent that is deleted: it may yet decide on what it had begun to learn."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        deployment = await held_up(place)
        place.sink.released.set()
        await place.until(lambda: deployment.ended_in(WHERE))
        monkeypatch.setattr(Other, "leaving", True)
        holder = looking(place, Host(place))
        await holder.look()
        assert told(place) == []
        monkeypatch.setattr(Other, "leaving", False)
        await holder.look()
        assert told(place) == [*withdrawn(10, 30), ("complete", "r1")]

    lived(HISTORY, work, Lived)


def test_a_state_that_is_replaced_goes_before_what_is_told() -> None:
    """No topic of decisions is read meanwhile; then all is told."""

    async def work(place: Two) -> None:
        assert isinstance(place, Lived)
        deployment = await held_up(place)
        place.sink.released.set()
        await place.until(lambda: deployment.ended_in(WHERE))
        with place.shards.site.precedence.held():
            looking_on = asyncio.ensure_future(looking(place, Host(place)).look())
            await asyncio.sleep(PATIENCE_S / 2)
            early = told(place)
        await looking_on
        assert early == []
        assert told(place) == [*withdrawn(10, 30), ("complete", "r1")]

    lived(HISTORY, work, Lived)
