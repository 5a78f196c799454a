"""States of the past, asked of a worker when everything is over: each is the fold up to it."""

from __future__ import annotations

import random

from headrace.errors import RequestError
from headrace.pipelines.past.making import Maker
from headrace.views import Partition
from tests.fold import compare
from tests.fold.control import lives
from tests.simulation.broker import SimBroker
from tests.simulation.controls import CONTROL
from tests.simulation.plan import Plan
from tests.simulation.verdict import folded_upto
from tests.simulation.worker import SimWorker

ASKED = 2
"""Offsets of each shard, drawn at random."""

GONE = {
    "log_too_short": "states of the past that the log does not reach",
    "snapshot_expired": "states of the past that were made from a removed snapshot",
}


class Past:
    """Of the last worker of a world. Order of calls: `contradictions`, once."""

    def __init__(self, plan: Plan, broker: SimBroker, worker: SimWorker) -> None:
        self._plan = plan
        self._broker = broker
        self._worker = worker
        self._maker = Maker(worker.shards.site, worker.vault)
        told = [row.value for row in broker.logs[CONTROL].rows() if row.value is not None]
        self._lives = {life.agent: life for life in lives(told)}  # of each agent the last one

    async def contradictions(self) -> list[str]:
        """Sentences; none if every state that can be made again is the one that it was."""
        chance = random.Random(self._plan.seed + 3)
        found = []
        for shard in self._worker.shards.all():
            agent, place = shard.origin.agent, shard.partition
            began = self._lives[agent].start((place.topic, place.partition))
            for _ in range(ASKED):
                offset = chance.randint(began, shard.next_offset)
                told = await self._differences(agent, place, offset)
                found += [f"{agent}, {place}, as of offset {offset}: {text}" for text in told]
        return found

    async def _differences(self, agent: str, place: Partition, offset: int) -> list[str]:
        counts = self._broker.counts
        deployment = self._worker.controls.registry.get(agent)
        try:
            timeline = self._maker.timeline(deployment, place)
            derivation = await self._maker.nearest(timeline, offset)
        except RequestError as error:
            if error.code not in GONE:
                raise
            counts[GONE[error.code]] += 1
            return []
        try:
            await derivation.shard.flush()
            counts["states of the past"] += 1
            life, versions = self._lives[agent], self._plan.versions(agent)
            where = (place.topic, place.partition)
            folded = folded_upto(self._broker, versions, life, where, offset)
            return compare.rows(folded, derivation.shard.store)
        finally:
            await derivation.end()
