"""The catalogue of snapshots as a worker sees it; the verbs of `pipelines.cataloguelog`."""

from __future__ import annotations

import asyncio

from headrace.state.catalogue import Catalogue
from tests.simulation.broker import CATALOGUE, SimBroker
from tests.simulation.loop import Process


class SimCatalogueLog:
    """Appends, and follows."""

    def __init__(self, broker: SimBroker, process: Process) -> None:
        self.catalogue = Catalogue()
        self._broker = broker
        self._process = process
        self._log = broker.logs[CATALOGUE]
        self._next_offset = 0
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._broker.away(0.01)
        self._read()
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    async def append(self, key: bytes, value: bytes | None) -> None:
        await self._broker.away(0.02)
        self._log.append(key, value)
        await self._broker.away(0.02)
        self._read()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self._read()

    def _read(self) -> None:
        for row in self._log.rows(self._next_offset):
            self.catalogue.apply(row.key, row.value, row.offset)
        self._next_offset = self._log.end
