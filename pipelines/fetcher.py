"""The snapshots that this worker can reach: fetched, verified, and without forgotten keys."""

from __future__ import annotations

import asyncio
import copy
import logging
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from headrace.clock import Clock, SystemClock
from headrace.errors import (
    ConflictError,
    CorruptStateError,
    ForeignStateError,
    GoneStateError,
    OtherBuildError,
    RequestError,
    StateError,
)
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Catalogue
from headrace.state.checkpoints import Checkpoints, link_or_copy
from headrace.state.cut import Cut
from headrace.state.directory import StateDirectory
from headrace.state.erasing import erase
from headrace.state.manifest import Manifest, ShardRef, Versions
from headrace.state.owner import Owner
from headrace.state.repository import Repository
from headrace.state.restoring import Sources, manifest_of, restore
from headrace.state.store import StoreOptions
from headrace.state.sums import Sums
from headrace.views import Partition

log = logging.getLogger(__name__)

ERASING_BYTES = 8 << 20
"""Memory for the blocks of drafts from which keys are erased."""


class CatalogueTopic(Protocol):
    """What the vault asks of the catalogue; see `pipelines.cataloguelog.CatalogueLog`."""

    @property
    def catalogue(self) -> Catalogue: ...

    async def append(self, key: bytes, value: bytes | None) -> None: ...


class Fetcher:
    """Order of calls: `claim` before anything is put there, all others at any time."""

    def __init__(
        self,
        directory: StateDirectory,
        repository: Repository,
        topic: CatalogueTopic,
        versions: Versions,
        clock: Clock | None = None,
    ) -> None:
        self.refusals = 0  # snapshots that were not as the catalogue says
        self.forgotten: Callable[[str, Partition, int], Forgotten]  # set by `Shards`
        self._directory = directory
        self._repository = repository
        self._topic = topic
        self.probing = Probing(versions)
        self._stores = StoreOptions(cache_bytes=ERASING_BYTES, buffer_bytes=ERASING_BYTES)
        self._clock = clock or SystemClock()
        self._checkpoints = Checkpoints(directory.checkpoints)
        self._sources = Sources(self._checkpoints, repository)
        self._sums = Sums()
        self._owed: deque[Cut] = deque(self._checkpoints.owed())
        self._woken = asyncio.Event()
        self._owner: Owner | None = None
        self._claimed = True  # there is nobody to claim it for

    async def claim(self, owner: Owner) -> None:
        """Make the repository this app's. Raises ForeignStateError if it is another's; if it cannot
        be reached that is done before anything is put there or removed.
        """
        self._owner, self._claimed = owner, False
        try:
            await self._claim()
        except ForeignStateError:
            raise
        except StateError as error:
            log.warning("snapshots.away", extra=fields(error=str(error)))

    async def _claim(self) -> None:
        if not self._claimed:
            assert self._owner is not None
            await asyncio.to_thread(self._repository.claim, self._owner)
            self._claimed = True

    @property
    def catalogue(self) -> Catalogue:
        """What there is, as far as it has been read."""
        return self._topic.catalogue

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    async def fetch(self, partition: Partition, snapshot_id: str, digest: str) -> Path:
        """The files of a shard in a snapshot, verified, in a draft of their own, without the keys
        that were forgotten since.

        Raises OtherBuildError (another build wrote it, and its probes do not reproduce),
        CorruptStateError, ForeignStateError, StateError.
        """
        draft = self._directory.draft()
        ref = self._ref(snapshot_id, partition, digest)
        probing = self.probing
        found = await asyncio.to_thread(
            restore, ref, self._sources, draft, probing.versions, probing.accepts
        )
        await self._cleanse(draft, found.manifest)
        return draft

    def afar(self) -> Self:
        """One that fetches from the repository alone, whatever this disk has. It takes nothing."""
        vault = copy.copy(self)
        vault._sources = Sources(None, self._repository)
        return vault

    async def _cleanse(self, draft: Path, manifest: Manifest | Cut) -> None:
        """Raises StateError; then nothing is left at the draft."""
        where = Partition(manifest.topic, manifest.partition)
        epoch, known = manifest.epoch, manifest.forgotten
        there = self.catalogue.shards(manifest.snapshot_id).get(where)
        imported = there is not None and there.imported
        if there is not None and imported:  # what its manifest says is of another control log
            epoch, known = 0, there.forgotten
        try:
            forgotten = self.forgotten(manifest.agent, where, epoch)
            if forgotten.newest > known or imported:
                gone = forgotten.since(known).has_row
                await asyncio.to_thread(erase, draft, gone, forgotten.newest, self._stores)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def _ref(self, snapshot_id: str, partition: Partition, digest: str) -> ShardRef:
        """The manifest of that digest, or the one that was written in its place without a key."""
        there = self.catalogue.shards(snapshot_id).get(partition)
        if there is not None and digest in there.replaces:
            digest = there.digest
        return ShardRef(snapshot_id, *partition, digest)

    async def base(self, partition: Partition, snapshot_id: str, base: control.Base) -> Path:
        """The files that a rollback goes back to, in a draft of their own: as `fetch`.

        An undo snapshot may be on this disk only, as this process or one before it took it. Who
        takes a rollback's place in the log again takes it again; who begins behind it finds it
        published, because what is of a later epoch is published after it.

        Raises what `fetch` raises, and GoneStateError if the snapshot has been removed since.
        """
        if base.digest:
            try:
                return await self.fetch(partition, snapshot_id, base.digest)
            except CorruptStateError as error:
                if not self.catalogue.was_removed(snapshot_id):
                    raise
                raise GoneStateError(
                    f"snapshot {snapshot_id!r} has been removed, and what followed was made from it"
                ) from error
        place = (base.epoch, base.next_offset)
        vouched = self.catalogue.shards(snapshot_id).get(partition)
        if vouched is not None and (vouched.epoch, vouched.next_offset) == place:
            return await self.fetch(partition, snapshot_id, vouched.digest)
        cut = self._checkpoints.cut(snapshot_id, *partition)
        path = self._checkpoints.find(snapshot_id, *partition)
        if cut is None or path is None or (cut.epoch, cut.next_offset) != place:
            raise StateError(
                f"snapshot {snapshot_id!r} is neither on this disk nor published: it was lost with "
                "the worker that took it, or it has been removed. Take another one"
            )
        draft = self._directory.draft()
        await asyncio.to_thread(link_or_copy, path, draft)
        await self._cleanse(draft, cut)
        return draft

    async def copy(self, shard: Shard) -> Path:
        """A shard as it stands, in a draft of its own; not a snapshot. Raises StateError."""
        draft = self._directory.draft()

        async def work(shard: Shard) -> bool:
            settled = await shard.settle()
            if settled:
                await asyncio.to_thread(shard.store.checkpoint, draft)
            return settled

        if not await shard.between_events(work):
            raise StateError(f"the shard of {shard.origin.agent!r} is being closed: ask again")
        return draft

    async def check(self, partition: Partition, snapshot_id: str, digest: str) -> None:
        """Raises RequestError `snapshot_damaged` if the manifest is not the one vouched for, and
        ConflictError `other_build` if another build wrote the state, which does not go on here as
        there.
        """
        ref = self._ref(snapshot_id, partition, digest)
        try:
            manifest = await asyncio.to_thread(manifest_of, ref, self._sources)
            if manifest.versions != self.probing.versions:
                draft = await self.fetch(partition, snapshot_id, digest)
                await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        except OtherBuildError as error:
            raise ConflictError("other_build", str(error), snapshot=snapshot_id) from error
        except CorruptStateError as error:
            raise RequestError("snapshot_damaged", str(error), snapshot=snapshot_id) from error

    def refused(self, snapshot_id: str, partition: Partition, error: StateError) -> None:
        """Tell of a snapshot that cannot be used; an older one is going to be."""
        self.refusals += 1
        log.error(
            "snapshot.refused",
            extra=fields(
                snapshot=snapshot_id,
                topic=partition.topic,
                partition=partition.partition,
                error=str(error),
            ),
        )
