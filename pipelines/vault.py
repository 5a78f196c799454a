"""The snapshots of this worker's shards: taken on the disk, published, fetched again.

A snapshot of a shard is a checkpoint on this disk first. It is published in the background: files
into the repository, then the manifest, then the digest of that into the catalogue. What a crash
cuts short goes on after the next start, because a checkpoint knows what it is.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from headrace.clock import Clock, SystemClock
from headrace.errors import (
    ConflictError,
    CorruptStateError,
    OtherBuildError,
    RequestError,
    StateError,
)
from headrace.logs import fields
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Catalogue, Pin, Vouched, encode
from headrace.state.checkpoints import Checkpoints
from headrace.state.collecting import collect
from headrace.state.cut import Cut, Kind
from headrace.state.directory import StateDirectory
from headrace.state.erasing import erase
from headrace.state.manifest import Manifest, ShardRef, Versions
from headrace.state.publishing import publish
from headrace.state.repository import Repository
from headrace.state.restoring import Sources, manifest_of, restore
from headrace.state.store import ShardStore, StoreOptions
from headrace.state.sums import Sums
from headrace.state.tombstones import Secret
from headrace.views import Partition

log = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 3
"""Snapshots of an agent of which the files stay on this disk, besides its newest undo snapshot."""
ERASING_BYTES = 8 << 20
"""Memory for the blocks of drafts from which keys are erased."""
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
        self.forgotten: Callable[[str, Partition, int], Forgotten]  # set by `Shards`
        self._directory = directory
        self._repository = repository
        self._topic = topic
        self._stores = StoreOptions(cache_bytes=ERASING_BYTES, buffer_bytes=ERASING_BYTES)
        self.probing = Probing(versions)
        self._clock = clock or SystemClock()
        self._checkpoints = Checkpoints(directory.checkpoints)
        self._sources = Sources(self._checkpoints, repository)
        self._sums = Sums()
        self._owed: deque[Cut] = deque(self._checkpoints.owed())
        self._woken = asyncio.Event()

    @property
    def catalogue(self) -> Catalogue:
        """What there is, as far as it has been read."""
        return self._topic.catalogue

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000)

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
            versions=self.probing.versions,
            forgotten=meta.forgotten,
            created_ms=self.now_ms(),
        )
        path = await asyncio.to_thread(self._checkpoints.take, shard.store, cut)
        self._owed.append(cut)
        self._woken.set()
        return path

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

    async def _cleanse(self, draft: Path, manifest: Manifest) -> None:
        """Raises StateError; then nothing is left at the draft."""
        where = Partition(manifest.topic, manifest.partition)
        try:
            forgotten = self.forgotten(manifest.agent, where, manifest.epoch)
            if forgotten.newest > manifest.forgotten:
                gone = forgotten.since(manifest.forgotten).has_row
                await asyncio.to_thread(erase, draft, gone, forgotten.newest, self._stores)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def _ref(self, snapshot_id: str, partition: Partition, digest: str) -> ShardRef:
        """The manifest of that digest, or the one that was written in its place without a key."""
        there = self.catalogue.shards(snapshot_id).get(partition)
        if there is not None and there.forgotten >= 0:
            digest = there.digest
        return ShardRef(snapshot_id, *partition, digest)

    def afar(self) -> Vault:
        """One that fetches from the repository alone, whatever this disk has. It takes nothing."""
        vault = copy.copy(self)
        vault._sources = Sources(None, self._repository)
        return vault

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

    async def note(self, secret: Secret) -> None:
        """Have the catalogue keep a secret that keys are to be forgotten by."""
        await self._topic.append(secret.key, encode(secret))

    async def pin(self, snapshot_id: str, *, pinned: bool) -> None:
        """Keep a snapshot whatever its age, or no longer."""
        pin = Pin(snapshot_id=snapshot_id)
        await self._topic.append(pin.key, encode(pin) if pinned else None)

    async def remove(self, snapshot_id: str) -> None:
        """Take a snapshot away: first what vouches for it, then its manifests. Its files go by and
        by. Raises StateError.
        """
        for vouched in list(self.catalogue.shards(snapshot_id).values()):
            await self._topic.append(vouched.key, None)
        if self.catalogue.pinned(snapshot_id):
            await self.pin(snapshot_id, pinned=False)
        await asyncio.to_thread(self._checkpoints.drop, snapshot_id)
        await asyncio.to_thread(self._repository.remove, snapshot_id)
        log.info("snapshot.removed", extra=fields(snapshot=snapshot_id))

    async def collect(self) -> None:
        """Remove files that no manifest needs any more. Raises StateError."""
        refs = self.catalogue.refs()
        done = await asyncio.to_thread(collect, refs, self._repository)
        log.info("snapshots.collected", extra=fields(deleted_bytes=done.deleted_bytes))

    async def rewrite(self, vouched: Vouched) -> None:
        """Put one without the keys that were forgotten since in the place of a shard's state in a
        snapshot, under the same id. What vouched for the former one is gone, and so is that.

        It has no probes, because those name keys: another build refuses it. Raises StateError.
        """
        draft = await self.fetch(vouched.shard, vouched.snapshot_id, vouched.digest)
        try:
            manifest = await asyncio.to_thread(manifest_of, vouched.ref, self._sources)
            newest = self.forgotten(vouched.agent, vouched.shard, vouched.epoch).newest
            done = await asyncio.to_thread(self._republished, vouched.kind, manifest, draft, newest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        await self._topic.append(done.key, encode(done))
        await asyncio.to_thread(self._repository.withdraw, done.ref)
        log.info("snapshot.rewritten", extra=fields(snapshot=vouched.snapshot_id))

    def _republished(self, kind: Kind, manifest: Manifest, draft: Path, forgotten: int) -> Vouched:
        names = set(Cut.__struct_fields__) - {"kind", "probes", "forgotten"}
        same = {name: getattr(manifest, name) for name in names}
        cut = Cut(kind=kind, forgotten=forgotten, **same)
        copy = self._directory.draft()
        try:
            store = ShardStore.open(draft, create=False, options=self._stores, compact=False)
            try:
                store.checkpoint(copy)
            finally:
                store.close()
            return publish(cut, copy, self._repository, self._sums).vouched(cut)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    async def forget_checkpoints(self, *, fresh: Callable[[str], bool]) -> list[str]:
        """Drop the checkpoints on this disk that hold forgotten keys; those that stay, because
        they are to be published first, or as no `fresh` snapshot of their agent is there yet.
        """
        owed = {cut.snapshot_id for cut in self._checkpoints.owed() if cut.kind == "named"}
        holding = {
            cut.snapshot_id: cut.agent for cut in self._checkpoints.cuts() if self.is_held(cut)
        }
        stay = [s for s, agent in holding.items() if s in owed or not fresh(agent)]
        for snapshot_id in holding.keys() - set(stay):
            await asyncio.to_thread(self._checkpoints.drop, snapshot_id)
        return stay

    def is_held(self, shard: Vouched | Cut) -> bool:
        """Whether a shard in a snapshot holds keys that were forgotten since. Raises StateError."""
        forgotten = self.forgotten(shard.agent, shard.shard, shard.epoch)
        return forgotten.newest > shard.forgotten

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
                cut = self._owed[0]
                try:
                    cut = self._owed[0] = await self._probed(cut)
                    await self._publish(cut)
                except StateError as error:
                    log.warning(
                        "snapshot.not_published",
                        extra=fields(snapshot=cut.snapshot_id, error=str(error)),
                    )
                    self._owed.rotate(-1)
                    await asyncio.sleep(PUBLISH_AGAIN_S)
                else:
                    self._owed.remove(cut)
            self._woken.clear()
            if not self._owed:
                await self._woken.wait()

    async def _probed(self, cut: Cut) -> Cut:
        """The cut with its probes, made now: while it was taken its shard waited."""
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        if path is None or not self.probing.lacks(cut):
            return cut
        probes = await asyncio.to_thread(self.probing.made, cut, path, self._directory.draft())
        return await asyncio.to_thread(self._checkpoints.probed, cut, probes)

    async def _publish(self, cut: Cut) -> None:
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        if path is None:
            return  # dropped meanwhile
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
