"""A worker's decisions on their way: appended, sent, in the log, acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import msgspec

from headrace.views import Partition
from tests.fold.oracle import Origin
from tests.simulation.broker import SimBroker
from tests.simulation.loop import Process

Record = tuple[bytes | None, bytes]


class _Batch:
    def __init__(self, to: Partition, records: list[Record]) -> None:
        self.to = to
        self.records = records
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SimSink:
    """`pipelines.shard.Sink`. Batches of a partition reach the log in the order of sending.

    When its process dies, the first of the batches on their way may reach the log or not.
    """

    def __init__(self, broker: SimBroker, process: Process, chance: random.Random) -> None:
        self._broker = broker
        self.process = process
        self._chance = chance
        self._open: dict[Partition, list[Record]] = {}
        self._ways: dict[Partition, deque[_Batch]] = {}
        process.held.callback(self._died)

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        self._open.setdefault(to, []).append((key, value))

    async def flow(self) -> None:
        if self._chance.random() < 0.05:
            await self._broker.away(0.02)

    async def send(self) -> None:
        for to, records in self._open.items():
            way = self._ways.setdefault(to, deque())
            way.append(_Batch(to, records))
            if len(way) == 1:
                self.process.start(self._deliver(to, way))
        self._open = {}
        await self.flow()

    def waits(self) -> set[Partition]:
        return {to for to, way in self._ways.items() if way}

    async def drain(self) -> None:
        await self.send()
        waiting = [batch.acknowledged for way in self._ways.values() for batch in way]
        await asyncio.gather(*waiting)

    def unacknowledged(self, origin: Origin, cause: str = "") -> list[int]:
        """Offsets of the shard's records that were appended here and not acknowledged; with
        `cause`: of those.
        """
        records = [record for batch in self._open.values() for record in batch]
        records += [r for way in self._ways.values() for batch in way for r in batch.records]
        found = []
        for _, value in records:
            told = msgspec.json.decode(value)
            if "fate" in told or cause not in ("", told.get("cause")):
                continue
            place = told["position"]
            shard = (told["agent"], told["epoch"], place["topic"], place["partition"])
            if shard == (origin.agent, origin.epoch, origin.topic, origin.partition):
                found.append(place["offset"])
        return found

    async def _deliver(self, to: Partition, way: deque[_Batch]) -> None:
        while way:
            await self._broker.away(0.03)
            self._write(way[0])
            if self._chance.random() < 0.05:  # a retry of the producer whose answer was lost
                self._write(way[0])
                self._broker.counts["batches sent twice"] += 1
            await self._broker.away(0.03)
            way[0].acknowledged.set_result(None)
            way.popleft()

    def _write(self, batch: _Batch) -> None:
        for key, value in batch.records:
            self._broker.logs[batch.to].append(key, value)

    def _died(self) -> None:
        """What was on the wire arrives by chance, also when nobody waits for it any more."""
        for way in self._ways.values():
            for batch in list(way)[: self._chance.randrange(len(way) + 1)]:
                self._broker.counts["batches landed after a crash"] += 1
                self._write(batch)
