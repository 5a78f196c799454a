"""The catalogue of snapshots as a topic: which manifests there are, and what vouches for them."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord

from headrace.pipelines.ownlog import OwnLog
from headrace.state.catalogue import Catalogue

GREETING = b"hello"
"""The key under which every worker says that it has started; the topic keeps the last one."""


class CatalogueLog:
    """Appends to the catalogue and keeps `catalogue` at what the log says.

    Order of calls: as of `OwnLog`.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.catalogue = Catalogue()
        self._log = OwnLog(bootstrap, topic, self._take, called="the catalogue of snapshots")
        self.failed = self._log.failed
        self.give_up = self._log.give_up
        self.wait_for = self._log.wait_for

    async def start(self) -> None:
        try:
            await self._log.start(GREETING, b"{}")
        except BaseException:
            await self._log.stop()
            raise

    async def stop(self) -> None:
        """Follow it no more."""
        await self._log.stop()

    async def append(self, key: bytes, value: bytes | None) -> None:
        """Append a record, None to take away what is there, and wait until it has come back.

        Raises what `OwnLog.append` raises.
        """
        await self._log.append(key, value)

    def _take(self, record: ConsumerRecord) -> None:
        self.catalogue.apply(record.key, record.value, record.offset)
