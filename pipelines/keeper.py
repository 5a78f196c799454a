"""Writing a shard's state to its store, and waiting for a disk that has no room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from headrace.errors import DiskFullError
from headrace.logs import fields
from headrace.models.decisions import Origin
from headrace.pipelines.threads import in_a_thread
from headrace.state.store import ShardMeta, Store

log = logging.getLogger(__name__)


class Keeper:
    """Writes, and says whether it is durable. Order of calls: `has_room` before each `write`.

    A write for which there was no room has changed nothing. `waits_for` says so until `has_room`
    has made the store writable again; two lines of the log tell of it, `shard.no_room` and
    `shard.has_room`. What else a disk may do is a StateError.
    """

    def __init__(self, store: Store, origin: Origin) -> None:
        self.waits_for = ""  # why the last write did not succeed; empty: it did
        self.recovered = 0  # how often the store was; its scans end with it
        self._store = store
        self._origin = origin
        self._since = 0.0

    async def write(self, rows: Sequence[tuple[bytes, bytes | None]], meta: ShardMeta) -> bool:
        """Whether rows and meta are durable; False: there was no room. Raises StateError."""
        try:
            # In a thread: an fsync takes milliseconds, and answers must not wait for the disk.
            await in_a_thread(lambda: self._store.write(rows, meta))
        except DiskFullError as error:
            self._wait(error)
            return False
        return True

    async def erase(
        self,
        rows: Sequence[tuple[bytes, bytes | None]],
        deleted: Sequence[bytes],
        meta: ShardMeta,
    ) -> bool:
        """As `write`; and no file has a byte of the rows `deleted` any more."""
        if not await self.write(rows, meta):
            return False
        try:
            await in_a_thread(lambda: self._store.compact(deleted))
            self._store.recover()  # not in a thread, as below
        except DiskFullError as error:
            self._wait(error)
            return False
        self.recovered += 1
        return True

    def has_room(self) -> bool:
        """Whether the store can be written, after a write for which there was no room."""
        if not self.waits_for:
            return True
        try:
            # Not in a thread: nobody may read while the database is opened anew.
            self._store.recover()
        except DiskFullError as error:
            self.waits_for = str(error)
            return False
        self.recovered += 1
        self.waits_for = ""
        seconds = round(asyncio.get_running_loop().time() - self._since, 1)
        log.warning("shard.has_room", extra=self._fields(seconds=seconds))
        return True

    def _wait(self, error: DiskFullError) -> None:
        self.waits_for = str(error)
        self._since = asyncio.get_running_loop().time()
        log.warning("shard.no_room", extra=self._fields(error=str(error)))

    def _fields(self, **more: object) -> dict[str, object]:
        at = self._origin
        return fields(agent=at.agent, topic=at.topic, partition=at.partition, **more)
