"""A look at the logs while one of their topics is away: the others are seen all the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from headrace.errors import StateError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import load_spec
from headrace.pipelines import clients
from headrace.pipelines.applied import applied
from headrace.pipelines.logwatch import ANSWER_S, GONE_PAUSE_S, ClusterId, LogWatch
from headrace.pipelines.reader import KafkaLogs, LogSpan
from headrace.pipelines.shard import Shard
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.ports import Record
from headrace.views import Partition
from tests.pipelines.small_shard import (
    DECISIONS,
    QUARANTINE,
    SPEC,
    Event,
    Sink,
    Store,
    chunk,
    event,
)
from tests.simulation.loop import VirtualLoop

REQUEST_S = 40.0  # how long a client waits for a topic that is away
AWAY = "away"
KEPT = [event(n) for n in range(30)]
ANOTHER = [event(n, key="b") for n in range(30)]


class Logs(KafkaLogs):
    """Logs in this process, of one partition each; those of the topic `away` are silent."""

    def __init__(self, held: Mapping[str, list[Event]]) -> None:
        super().__init__("nowhere")
        self.held = held
        self.asked: list[str] = []  # for the span of which topic

    async def span(self, partition: Partition) -> LogSpan:
        self.asked.append(partition.topic)
        if partition.topic == AWAY:
            await asyncio.sleep(REQUEST_S)
        return LogSpan(0, len(self.held[partition.topic]))

    async def record_at(self, partition: Partition, offset: int) -> Record | None:
        return self.held[partition.topic][offset]


class Consumer:
    """Of aiokafka's, what a watch uses, over these logs."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._at: dict[TopicPartition, int] = {}

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        assert not self._at, "somebody else reads through it"
        self._at = dict.fromkeys(partitions, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._at[tp] = offset

    def unsubscribe(self) -> None:
        self._at = {}

    async def getmany(
        self, *tps: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Event]]:
        for tp in tps:
            if tp.topic != AWAY:
                offset = self._at[tp]
                return {tp: self._logs.held[tp.topic][offset : offset + max_records]}
        await asyncio.sleep(timeout_ms / 1000)
        return {}


class Watched:
    """A watch over these logs, and what it has given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **held: list[Event]) -> None:
        self.logs = Logs({AWAY: KEPT, **held})
        self.dropped: list[str] = []
        monkeypatch.setattr(clients, "log_reader", lambda *_, **__: Consumer(self.logs))
        self.watch = LogWatch("nowhere", self.logs, list, self._drop, ClusterId("c", self._id))

    async def _drop(self, shard: Shard, _: StateError) -> None:
        self.dropped.append(shard.origin.agent)

    async def _id(self) -> str:
        return "c"


def opened(agent: str, topic: str, anchor: Event | None = None) -> Shard:
    """A shard that has learned nothing; `anchor`: the record before the one it begins with."""
    store, spec = Store(sink := Sink()), load_spec(SPEC)
    learner = Learner(spec, Origin(agent, 1, 1, topic, 0), store)
    begins = anchor.offset + 1 if anchor else 0
    at = ShardStart(begins, 0, "c", spec.digest, anchor=applied(anchor))
    return Shard(learner, store, Outlets(sink, DECISIONS, QUARANTINE), at)


async def learned(agent: str, topic: str, *counts: int) -> Shard:
    """A shard that was given the records of a log, up to each of these counts in turn; the log has
    been seen to hold the first one, or, if there are several counts, the last below the first.
    """
    shard = opened(agent, topic)
    for count in counts:
        await shard.process(chunk(*KEPT[:count]))
        if len(counts) > 1 and count == counts[0]:
            shard.anchor = shard.applied
    return shard


def lived(work: Callable[[], Awaitable[None]]) -> None:
    """Do this in virtual time."""

    async def whole() -> None:
        await work()

    loop: Any = VirtualLoop(random.Random(7))
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(whole())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def took(look: Awaitable[None]) -> float:
    """In virtual seconds."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await look
    return clock() - began


def test_a_topic_that_is_away_is_asked_once_in_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for as long as a client would wait: the look has others to see, and sees them."""

    async def work() -> None:
        watched = Watched(monkeypatch, kept=KEPT, another=ANOTHER)
        away = [await learned(f"away-{n}", AWAY, 10 + n) for n in range(5)]
        kept, another = await learned("kept", "kept", 10), await learned("former", "another", 10)
        assert await took(watched.watch.look([*away, kept, another])) < 3 * ANSWER_S
        assert (watched.logs.asked.count(AWAY), watched.dropped) == (1, ["former"])
        assert kept.anchor == kept.applied
        assert [shard.anchor == shard.applied for shard in away] == [False] * 5

    lived(work)


def test_anchors_of_a_topic_that_is_away_are_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each agent's is at another place of its log, and those of one log are read in turn."""

    async def work() -> None:
        watched = Watched(monkeypatch, kept=KEPT)
        away = [await learned(f"away-{n}", AWAY, 10 + n, 20) for n in range(5)]
        kept = [await learned(f"kept-{n}", "kept", 10 + n, 20) for n in range(5)]
        anchors = {shard: shard.anchor for shard in (*away, *kept) if shard.anchor}
        there: dict[Shard, bool] = {}

        async def read() -> None:
            there.update(await watched.watch._there(anchors))

        assert await took(read()) < 2 * ANSWER_S
        assert there == dict.fromkeys(kept, True)

    lived(work)


def test_to_look_closely_waits_for_no_other_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream does not go on before: it waits for what concerns its own log."""

    async def work() -> None:
        watched = Watched(monkeypatch, another=ANOTHER)
        looks = [
            asyncio.create_task(watched.watch.look([await learned("away", AWAY, 10)]))
            for _ in range(2)
        ]
        await asyncio.sleep(ANSWER_S / 2)
        former = await learned("former", "another", 10)
        assert await took(watched.watch.look_closely([former])) < 2 * GONE_PAUSE_S
        assert watched.dropped == ["former"]
        assert not any(look.done() for look in looks)
        await asyncio.gather(*looks)

    lived(work)


def test_who_has_learned_nothing_is_looked_at_by_what_it_began_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log made anew would be read from the middle on."""

    async def work() -> None:
        watched = Watched(monkeypatch, kept=KEPT, another=ANOTHER)
        kept, another = opened("kept", "kept", KEPT[9]), opened("former", "another", KEPT[9])
        for _ in range(2):
            await watched.watch.look([kept, another])
            assert kept.anchor == applied(KEPT[9])
        assert watched.dropped == ["former", "former"]

    lived(work)
