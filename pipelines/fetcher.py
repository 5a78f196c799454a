"""The snapshots that this worker can reach: fetched, verified, and without forgotten keys."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, Self

from headrace.clock import Clock, SystemClock
from headrace.errors import (
    ConflictError,
    CorruptStateError,
    ForeignStateError,
    GoneStateError,
    NotFoundError,
    OtherBuildError,
    RequestError,
    StateError,
)
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.pipelines.uses import Uses
from headrace.state.catalogue import Catalogue, Vouched
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

CATALOGUE_WAIT_S = 1.0
"""How long the catalogue may take to tell that a manifest which is missing was removed."""
CATALOGUE_LOOK_S = 0.02
ERASING_BYTES = 8 << 20
"""Memory for the blocks of drafts from which keys are erased."""


Taken = Vouched | Cut | Manifest
"""A shard in a snapshot: as the catalogue, a checkpoint or the repository tells of it."""


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
        self.uses = Uses()
        self._stores = StoreOptions(cache_bytes=ERASING_BYTES, buffer_bytes=ERASING_BYTES)
        self._clock = clock or SystemClock()
        self._checkpoints = Checkpoints(directory.checkpoints)
        self._sources = Sources(self._checkpoints, repository)
        self._sums = Sums()
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
        # What the catalogue says now goes with the manifest that is named now: when its files have
        # come, another may stand in its place, or none.
        vouched = self._vouched(snapshot_id, partition, digest)
        if vouched is None and self.catalogue.was_removed(snapshot_id):
            raise CorruptStateError(f"snapshot {snapshot_id!r} has been removed")
        ref = vouched.ref if vouched else ShardRef(snapshot_id, *partition, digest)
        probing = self.probing
        async with self._draft() as draft:
            found = await in_a_thread(
                lambda: restore(ref, self._sources, draft, probing.versions, probing.accepts)
            )
            await self._cleanse(draft, vouched or found.manifest)
            return draft

    def holds_forgotten(self, shard: Taken) -> bool:
        """Whether a shard in a snapshot holds keys that were forgotten since. Raises StateError."""
        return bool(self._to_forget(shard))

    def afar(self) -> Self:
        """One that fetches from the repository alone, whatever this disk has. It takes nothing."""
        vault = copy.copy(self)
        vault._sources = Sources(None, self._repository)
        return vault

    @asynccontextmanager
    async def _draft(self) -> AsyncIterator[Path]:
        """Where files come in. Nothing is left there if they do not come in whole."""
        draft = self._directory.draft()
        try:
            yield draft
        except BaseException:
            await remove_drafts(draft)
            raise

    async def _cleanse(self, draft: Path, shard: Taken) -> None:
        """Raises StateError."""
        owed = self._to_forget(shard)
        if owed or is_imported(shard):
            newest = self._forgotten_of(shard).newest
            await in_a_thread(lambda: erase(draft, owed.has_row, newest, self._stores))

    def _to_forget(self, shard: Taken) -> Forgotten:
        """What it has yet to forget. Raises StateError."""
        known_in = _epoch_here(shard)
        if isinstance(shard, Vouched):
            known_in = max(known_in, shard.forgotten_life)
        return self._forgotten_of(shard).owed(epoch=known_in, known=shard.forgotten)

    def _forgotten_of(self, shard: Taken) -> Forgotten:
        where = Partition(shard.topic, shard.partition)
        return self.forgotten(shard.agent, where, _epoch_here(shard))

    def _vouched(self, snapshot_id: str, partition: Partition, digest: str) -> Vouched | None:
        """What the catalogue says of the manifest of that digest, or of the one that was written in
        its place without a key.
        """
        there = self.catalogue.shards(snapshot_id).get(partition)
        if there is None or digest not in (there.digest, *there.replaces):
            return None
        return there

    def was_removed(self, partition: Partition, snapshot_id: str, digest: str) -> bool:
        """Whether the one of that digest was, as far as that is remembered: another one may have
        its name since.
        """
        there = self.catalogue
        once = there.removed_since(snapshot_id, 0) or there.free_from(snapshot_id, 0) > 0
        return once and self._vouched(snapshot_id, partition, digest) is None

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
                if not self.was_removed(partition, snapshot_id, base.digest):
                    raise
                raise GoneStateError(
                    f"snapshot {snapshot_id!r} has been removed, and what followed was made from "
                    "it. If no worker has that state any more, delete the agent and deploy it "
                    "again, which learns what the log still holds"
                ) from error
        place = (base.epoch, base.next_offset)
        vouched = self.catalogue.shards(snapshot_id).get(partition)
        if vouched is not None and (vouched.epoch, vouched.next_offset) == place:
            return await self.fetch(partition, snapshot_id, vouched.digest)
        here = self._sources.checkpoints
        cut = here.cut(snapshot_id, *partition) if here else None
        path = here.find(snapshot_id, *partition) if here else None
        if cut is None or path is None or (cut.epoch, cut.next_offset) != place:
            gone = self.catalogue.was_removed(snapshot_id)
            where = (
                "neither on this disk nor published: " if here else "not published: not yet, or "
            )
            raise (GoneStateError if gone else StateError)(
                f"snapshot {snapshot_id!r} is {where}it was lost with the worker that took it, or "
                "it has been removed. Take another one"
            )
        async with self._draft() as draft:
            await in_a_thread(lambda: link_or_copy(path, draft))
            await self._cleanse(draft, cut)
            return draft

    async def copy(self, shard: Shard) -> Path:
        """A shard as it stands, in a draft of its own; not a snapshot. Raises StateError."""
        async with self._draft() as draft:
            wanted = True

            async def work(shard: Shard) -> bool:
                settled = wanted and await shard.settle()
                if settled:
                    await asyncio.to_thread(shard.store.checkpoint, draft)
                    if not wanted:
                        await remove_drafts(draft)
                return settled

            try:
                done = await shard.between_events(work)
            except asyncio.CancelledError:
                wanted = False  # the work goes on without the caller
                raise
            if not done:
                raise StateError(f"the shard of {shard.origin.agent!r} is being closed: ask again")
            return draft

    async def check(self, partition: Partition, snapshot_id: str, digest: str) -> None:
        """Raises RequestError `snapshot_damaged` if the manifest is not the one vouched for,
        NotFoundError `snapshot_expired` if the snapshot has been removed since, and ConflictError
        `other_build` if another build wrote the state, which does not go on here as there.
        """
        vouched = self._vouched(snapshot_id, partition, digest)
        ref = vouched.ref if vouched else ShardRef(snapshot_id, *partition, digest)
        try:
            manifest = await asyncio.to_thread(manifest_of, ref, self._sources)
            if manifest.versions != self.probing.versions:
                draft = await self.fetch(partition, snapshot_id, digest)
                await remove_drafts(draft)
        except OtherBuildError as error:
            raise ConflictError("other_build", str(error), snapshot=snapshot_id) from error
        except CorruptStateError as error:
            raise await self.told(error, snapshot_id) from error

    async def told(self, error: CorruptStateError, snapshot_id: str) -> RequestError:
        """What a caller is told of it: somebody may just have removed the snapshot."""
        clock = asyncio.get_running_loop().time
        until = clock() + CATALOGUE_WAIT_S
        while not self.catalogue.was_removed(snapshot_id):
            if clock() > until:
                return RequestError("snapshot_damaged", str(error), snapshot=snapshot_id)
            await asyncio.sleep(CATALOGUE_LOOK_S)
        text = f"snapshot {snapshot_id!r} has been removed"
        return NotFoundError("snapshot_expired", text, snapshot=snapshot_id)

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


def is_imported(shard: Taken) -> bool:
    """Whether it was taken in another log."""
    return isinstance(shard, Vouched) and shard.imported


def _epoch_here(shard: Taken) -> int:
    """The shard's epoch in this control log, or one below; an import's own says nothing here."""
    return 0 if is_imported(shard) else shard.epoch
