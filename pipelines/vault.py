"""The snapshots of this worker's shards: taken on the disk, published, fetched again.

A snapshot of a shard is a checkpoint on this disk first. It is published in the background: files
into the repository, then the manifest, then the digest of that into the catalogue. What a crash
cuts short goes on after the next start, because a checkpoint knows what it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from headrace.clock import Clock, SystemClock
from headrace.errors import CorruptStateError, ForeignStateError, RequestError, StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from headrace.state.archive import Exported, Import, export
from headrace.state.catalogue import Catalogue, Pin, encode
from headrace.state.checkpoints import Checkpoints, link_or_copy
from headrace.state.collecting import collect
from headrace.state.cut import Cut, Kind
from headrace.state.directory import StateDirectory
from headrace.state.manifest import ShardRef, Versions
from headrace.state.publishing import publish
from headrace.state.repository import Owner, Repository
from headrace.state.restoring import Sources, manifest_of, restore
from headrace.state.sums import Sums
from headrace.state.tar import Readable
from headrace.views import Partition

log = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 3
"""Snapshots of an agent of which the files stay on this disk, besides its newest undo snapshot."""
PUBLISH_AGAIN_S = 5.0
"""After this a snapshot that could not be published is tried again."""


class CatalogueTopic(Protocol):
    """What the vault asks of the catalogue; see `pipelines.cataloguelog.CatalogueLog`."""

    @property
    def catalogue(self) -> Catalogue: ...

    async def append(self, key: bytes, value: bytes | None) -> None: ...


class Vault:
    """Order of calls: `take` and `fetch` at any time; `publish` is a task that runs for ever."""

    def __init__(
        self,
        directory: StateDirectory,
        repository: Repository,
        topic: CatalogueTopic,
        versions: Versions,
        clock: Clock | None = None,
    ) -> None:
        self.refusals = 0  # snapshots that were not as the catalogue says
        self._directory = directory
        self._repository = repository
        self._topic = topic
        self._versions = versions
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

    def owed(self) -> tuple[int, float]:
        """How many shards are taken and not published yet, and for how many seconds the oldest."""
        taken_ms = [cut.created_ms for cut in self._owed]
        return len(taken_ms), max(0, self.now_ms() - min(taken_ms)) / 1000 if taken_ms else 0.0

    def has(self, snapshot_id: str, partition: Partition) -> bool:
        """Whether that shard has been taken into that snapshot."""
        if self._checkpoints.find(snapshot_id, *partition) is not None:
            return True
        return partition in self.catalogue.shards(snapshot_id)

    async def take(self, shard: Shard, snapshot_id: str, kind: Kind, partitions: int) -> Path:
        """Take a shard that has settled, under its turn. It is published by and by.

        Returns where the checkpoint lies. Raises StateError.
        """
        found = self._checkpoints.find(snapshot_id, *shard.partition)
        if found is not None:
            return found
        meta, origin = shard.store.meta, shard.origin
        assert meta is not None, "it has settled"
        cut = Cut(
            kind=kind,
            snapshot_id=snapshot_id,
            agent=origin.agent,
            epoch=origin.epoch,
            spec_version=origin.spec_version,
            spec_digest=meta.spec_digest,
            topic=origin.topic,
            partition=origin.partition,
            partitions=partitions,
            next_offset=meta.next_offset,
            applied=meta.applied,
            cluster_id=meta.cluster_id,
            control_offset=meta.control_offset,
            versions=self._versions,
            created_ms=self.now_ms(),
        )
        path = await asyncio.to_thread(self._checkpoints.take, shard.store, cut)
        self._owed.append(cut)
        self._woken.set()
        return path

    async def fetch(self, partition: Partition, snapshot_id: str, digest: str) -> Path:
        """The files of a shard in a snapshot, verified, in a draft of their own.

        Raises CorruptStateError, ForeignStateError, StateError.
        """
        draft = self._directory.draft()
        ref = ShardRef(snapshot_id, *partition, digest)
        await asyncio.to_thread(restore, ref, self._sources, draft, self._versions)
        return draft

    async def base(self, partition: Partition, snapshot_id: str, base: control.Base) -> Path:
        """The files that a rollback goes back to, in a draft of their own: as `fetch`.

        An undo snapshot may be on this disk only, as this process or one before it took it. Who
        takes a rollback's place in the log again takes it again; who begins behind it finds it
        published, because what is of a later epoch is published after it.
        """
        if base.digest:
            return await self.fetch(partition, snapshot_id, base.digest)
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
        return draft

    async def exported(self, refs: Sequence[ShardRef], spec: str) -> Exported:
        """The snapshot whose shards those are, as an archive; its bytes are drawn in threads.

        Raises StateError.
        """
        draft = self._directory.draft
        return await asyncio.to_thread(export, refs, spec, self._repository, draft)

    def coming(self, file: Readable, called: str, expected: str) -> Import:
        """An archive on its way in; `bring` goes on with it when its index has been read."""
        return Import(file, called, expected, self._directory.draft)

    async def bring(self, coming: Import) -> None:
        """Bring an archive into the repository, then vouch for what it holds. What is there already
        as a whole is not vouched for anew. Raises StateError, and what reading the archive raises.
        """
        await self._claim()
        found = await asyncio.to_thread(coming.files, self._repository)
        there = self.catalogue.shards(found.index.snapshot_id)
        if len(there) < len(found.manifests):
            for vouched in found.vouched():
                await self._topic.append(vouched.key, encode(vouched))

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
        """Raises RequestError `snapshot_damaged` if the manifest is not the one vouched for."""
        ref = ShardRef(snapshot_id, *partition, digest)
        try:
            await asyncio.to_thread(manifest_of, ref, self._sources)
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

    async def pin(self, snapshot_id: str, *, pinned: bool) -> None:
        """Keep a snapshot whatever its age, or no longer."""
        pin = Pin(snapshot_id=snapshot_id)
        await self._topic.append(pin.key, encode(pin) if pinned else None)

    async def remove(self, snapshot_id: str) -> None:
        """Take a snapshot away: first what vouches for it, then its manifests. Its files go by and
        by. Raises StateError.
        """
        await self._claim()
        for vouched in list(self.catalogue.shards(snapshot_id).values()):
            await self._topic.append(vouched.key, None)
        if self.catalogue.pinned(snapshot_id):
            await self.pin(snapshot_id, pinned=False)
        await asyncio.to_thread(self._checkpoints.drop, snapshot_id)
        await asyncio.to_thread(self._repository.remove, snapshot_id)
        log.info("snapshot.removed", extra=fields(snapshot=snapshot_id))

    async def collect(self) -> None:
        """Remove files that no manifest needs any more. Raises StateError."""
        await self._claim()
        refs = self.catalogue.refs()
        done = await asyncio.to_thread(collect, refs, self._repository)
        log.info("snapshots.collected", extra=fields(deleted_bytes=done.deleted_bytes))

    async def thin_checkpoints(self) -> None:
        """Drop what lies on this disk and is published: the newest stay, to go back to quickly."""
        cuts = self._checkpoints.cuts()[::-1]  # newest first
        keep = {cut.snapshot_id for cut in self._checkpoints.owed()}
        for agent in {cut.agent for cut in cuts}:
            mine = [cut for cut in cuts if cut.agent == agent]
            undo = [cut for cut in mine if cut.kind == "undo"]
            newest = list(dict.fromkeys(cut.snapshot_id for cut in mine))[:CHECKPOINTS_KEPT]
            keep.update(newest, (cut.snapshot_id for cut in undo[:1]))
        for snapshot_id in {cut.snapshot_id for cut in cuts} - keep:
            await asyncio.to_thread(self._checkpoints.drop, snapshot_id)

    async def publish(self) -> None:
        """Publish what was taken, for ever, one after the other."""
        while True:
            while self._owed:
                cut = next(filter(self._may_be_next, self._owed))
                try:
                    await self._publish(cut)
                except StateError as error:
                    log.warning(
                        "snapshot.not_published",
                        extra=fields(snapshot=cut.snapshot_id, error=str(error)),
                    )
                    self._owed.remove(cut)
                    if not isinstance(error, CorruptStateError):  # else it never will be
                        self._owed.append(cut)
                    await asyncio.sleep(PUBLISH_AGAIN_S)
                else:
                    self._owed.remove(cut)
            self._woken.clear()
            if not self._owed:
                await self._woken.wait()

    def _may_be_next(self, cut: Cut) -> bool:
        """Whether no undo snapshot of the shard's former epochs has to come first; see `base`."""
        return not any(
            undo.kind == "undo"
            and (undo.agent, undo.shard) == (cut.agent, cut.shard)
            and undo.epoch < cut.epoch
            for undo in self._owed
        )

    async def _publish(self, cut: Cut) -> None:
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        if path is None:
            return  # dropped meanwhile
        await self._claim()
        done = await asyncio.to_thread(publish, cut, path, self._repository, self._sums)
        vouched = done.vouched(cut)
        await self._topic.append(vouched.key, encode(vouched))
        await asyncio.to_thread(self._checkpoints.published, cut, done.digest, done.files)
        log.info(
            "snapshot.published",
            extra=fields(
                snapshot=cut.snapshot_id,
                topic=cut.topic,
                partition=cut.partition,
                next_offset=cut.next_offset,
                new_bytes=done.new_bytes,
            ),
        )


def undo_id(agent: str, control_id: str) -> str:
    """The snapshot in which a rollback keeps what it replaces."""
    return f"{agent}.undo-{hashlib.sha256(control_id.encode()).hexdigest()[:12]}"
