"""The snapshots of this worker's shards: taken on the disk, published, fetched again.

A snapshot of a shard is a checkpoint on this disk first. It is published in the background: files
into the repository, then the manifest, then the digest of that into the catalogue. What a crash
cuts short goes on after the next start, because a checkpoint knows what it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from headrace.errors import (
    ConflictError,
    CorruptStateError,
    StateError,
)
from headrace.logs import fields
from headrace.pipelines.fetcher import Fetcher
from headrace.pipelines.shard import Shard
from headrace.state.archive import Exported, Import, export
from headrace.state.catalogue import Pin, Vouched, encode
from headrace.state.collecting import collect
from headrace.state.cut import Cut, Kind
from headrace.state.manifest import Manifest, ShardRef
from headrace.state.publishing import publish
from headrace.state.restoring import manifest_of
from headrace.state.store import ShardStore
from headrace.state.tar import Readable
from headrace.state.tombstones import Secret
from headrace.views import Partition

log = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 3
"""Snapshots of an agent of which the files stay on this disk, besides its newest undo snapshot."""
PUBLISH_AGAIN_S = 5.0
"""After this a snapshot that could not be published is tried again."""


class Vault(Fetcher):
    """Order of calls: `take` and `fetch` at any time; `publish` is a task that runs for ever."""

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
            versions=self.probing.versions,
            forgotten=meta.forgotten,
            created_ms=self.now_ms(),
        )
        path = await asyncio.to_thread(self._checkpoints.take, shard.store, cut)
        self._owed.append(cut)
        self._woken.set()
        return path

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
        as a whole is not vouched for anew. Raises ConflictError `snapshot_exists` if another one of
        that id has come meanwhile, StateError, and what reading the archive raises.
        """
        await self._claim()
        found = await asyncio.to_thread(coming.files, self._repository)
        there = self.catalogue.shards(found.index.snapshot_id)
        coming_in = {vouched.digest for vouched in found.vouched()}
        if not {shard.digest for shard in there.values()} <= coming_in:
            taken = found.index.snapshot_id
            raise ConflictError(
                "snapshot_exists", f"there is another snapshot {taken!r} meanwhile", snapshot=taken
            )
        if len(there) < len(found.manifests):
            for vouched in found.vouched():
                await self._topic.append(vouched.key, encode(vouched))

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

    async def rewrite(self, vouched: Vouched) -> None:
        """Put one without the keys that were forgotten since in the place of a shard's state in a
        snapshot, under the same id. What vouched for the former one is gone, and so is that.

        Its probes are new, because those name keys. Raises StateError.
        """
        draft = await self.fetch(vouched.shard, vouched.snapshot_id, vouched.digest)
        try:
            manifest = await asyncio.to_thread(manifest_of, vouched.ref, self._sources)
            done = await asyncio.to_thread(self._republished, vouched.kind, manifest, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        replaces = (*vouched.replaces, vouched.digest)
        done = structs.replace(done, imported=vouched.imported, replaces=replaces)
        await self._topic.append(done.key, encode(done))
        await asyncio.to_thread(self._repository.withdraw, done.ref)
        log.info("snapshot.rewritten", extra=fields(snapshot=vouched.snapshot_id))

    def _republished(self, kind: Kind, manifest: Manifest, draft: Path) -> Vouched:
        names = set(Cut.__struct_fields__) - {"kind", "probes", "forgotten", "versions"}
        same = {name: getattr(manifest, name) for name in names}
        copy = self._directory.draft()
        try:
            store = ShardStore.open(draft, create=False, options=self._stores, compact=False)
            try:
                meta = store.meta
                assert meta is not None, "it was a shard's"
                store.checkpoint(copy)
            finally:
                store.close()
            # What it has forgotten, it says itself: a key may be forgotten while this is written.
            # If another build wrote it, it goes on here as there, or it had not been fetched.
            own = self.probing.versions
            cut = Cut(kind=kind, forgotten=meta.forgotten, versions=own, **same)
            if self.probing.lacks(cut):
                probes = self.probing.made(cut, copy, self._directory.draft())
                cut = structs.replace(cut, probes=probes)
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
        imported = isinstance(shard, Vouched) and shard.imported
        forgotten = self.forgotten(shard.agent, shard.shard, 0 if imported else shard.epoch)
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
                cut = next(filter(self._may_be_next, self._owed))
                place = self._owed.index(cut)
                try:
                    cut = self._owed[place] = await self._probed(cut)
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

    async def _probed(self, cut: Cut) -> Cut:
        """The cut with its probes, made now: while it was taken its shard waited."""
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        if path is None or not self.probing.lacks(cut):
            return cut
        probes = await asyncio.to_thread(self.probing.made, cut, path, self._directory.draft())
        return await asyncio.to_thread(self._checkpoints.probed, cut, probes)

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
