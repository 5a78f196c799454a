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
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from msgspec import structs

from headrace.errors import ConflictError
from headrace.logs import fields
from headrace.pipelines.fetcher import CATALOGUE_WAIT_S, is_imported
from headrace.pipelines.publisher import Publisher
from headrace.pipelines.shard import Shard
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.state.archive import Exported, Import, Index, export
from headrace.state.catalogue import Pin, Removed, Vouched, encode
from headrace.state.checkpoints import is_that
from headrace.state.collecting import collect, needed_by
from headrace.state.cut import Cut, Kind, is_automatic
from headrace.state.manifest import Manifest, ShardRef
from headrace.state.publishing import publish
from headrace.state.repository import GRACE_MS
from headrace.state.restoring import manifest_of
from headrace.state.store import ShardStore
from headrace.state.tar import Readable
from headrace.state.tombstones import Secret
from headrace.views import Partition

log = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 3
"""Snapshots of an agent of which the files stay on this disk, besides its newest undo snapshot."""
OWED_KEPT = 10
"""Automatic snapshots of an agent that wait on this disk until the repository is back: the newest.
Undo and named ones wait whatever their number."""

REPLACED_KEPT = 256
"""Digests of former manifests of a shard in a snapshot, the newest: by them a rollback finds it
that was commanded before it was written anew. A record of the catalogue is bounded."""


class Vault(Publisher):
    """Order of calls: `take` and `fetch` at any time; `publish` is a task that runs for ever."""

    def has(self, snapshot_id: str, shard: Shard, asked: int) -> bool:
        """Whether that shard has been taken into that snapshot as it stands, or is published in it;
        what was taken under that id elsewhere, in an earlier life or for another command is another
        snapshot. `asked` as in `Cut`.
        """
        cut = self._checkpoints.cut(snapshot_id, *shard.partition)
        if cut is not None and self._counts(cut, shard, asked):
            return True
        vouched = self.catalogue.shards(snapshot_id).get(shard.partition)
        if vouched is None or vouched.imported:
            return vouched is not None
        return vouched.epoch >= shard.life and vouched.asked in (-1, asked)

    def has_any(self, snapshot_id: str, partition: Partition) -> bool:
        """Whether a shard of that partition was taken into that snapshot, wherever it stood."""
        here = self._checkpoints.cut(snapshot_id, *partition) is not None
        return here or partition in self.catalogue.shards(snapshot_id)

    def _counts(self, cut: Cut, shard: Shard, asked: int) -> bool:
        """Whether it is of this place and life, also if a rollback counted here right after it, and
        of a snapshot that was not removed since: this worker may be told so behind a command that
        asks for another one of that name.
        """
        if cut.asked not in (-1, asked):
            return False
        here = cut.epoch >= shard.life and cut.next_offset == shard.next_offset
        published = shard.partition in self.catalogue.shards(cut.snapshot_id)
        owed = any(is_that(cut, each) for each in self._owed)
        return here and not self._refusal(cut) and (published or owed)

    async def make_way(self, snapshot_id: str, shard: Shard, asked: int) -> None:
        """Drop what was taken of that shard under that id elsewhere, or for another command: before
        it is taken anew. `asked` as in `Cut`.

        Raises StateError.
        """
        cut = self._checkpoints.cut(snapshot_id, *shard.partition)
        if cut is not None and not self._counts(cut, shard, asked):
            await asyncio.to_thread(self._checkpoints.drop, cut)

    async def take(
        self, shard: Shard, snapshot_id: str, kind: Kind, partitions: int, asked: int = -1
    ) -> Path:
        """Take a shard that has settled, under its turn. It is published by and by. `asked` as in
        `Cut`.

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
            asked=asked,
            created_ms=self.now_ms(),
        )
        try:
            # Whoever cancels it may close the store; and what it has left by then is owed.
            return await in_a_thread(lambda: self._checkpoints.take(shard.store, cut))
        finally:
            if self._lies_here(cut) is not None:
                self._owe(cut)

    async def exported(self, refs: Sequence[ShardRef], spec: str) -> Exported:
        """The snapshot whose shards those are, as an archive; its bytes are drawn in threads.

        Raises StateError.
        """
        draft = self._directory.draft
        return await asyncio.to_thread(export, refs, spec, self._repository, draft)

    def coming(self, file: Readable, called: str, expected: str) -> Import:
        """An archive on its way in; `bring` goes on with it when its index has been read."""
        return Import(file, called, expected, self._directory.draft)

    async def bring(self, coming: Import, check: Callable[[Index], None]) -> None:
        """Bring an archive into the repository, then vouch for what it holds. What is there already
        as a whole is not vouched for anew. Raises what `check` raises, which is asked again at the
        last moment, ConflictError `snapshot_exists` if another worker removes it just then,
        StateError, and what reading the archive raises.
        """
        await self._claim()
        found = await asyncio.to_thread(coming.files, self._repository)
        check(found.index)
        there = self.catalogue.shards(found.index.snapshot_id)
        if len(there) < len(found.manifests):
            for vouched in found.vouched():
                await self._topic.append(vouched.key, encode(vouched))
        await self._check_brought(found.index)

    async def _check_brought(self, index: Index) -> None:
        """A removal that is still at work may have meant a former one, of which the manifests were
        the same bytes: then nothing vouches for it any more. Raises ConflictError, StateError.
        """
        vouched = [
            self._vouched(index.snapshot_id, Partition(*ref[1:3]), ref.digest) for ref in index.refs
        ]
        there = [each for each in vouched if each is not None]
        missing = [each for each in there if await self._is_missing(each)]
        if len(there) == len(vouched) and not any(map(self.catalogue.stands, missing)):
            return
        for each in there:
            await self._take_back(each)
        text = f"a snapshot {index.snapshot_id!r} is being removed: try again in a moment"
        raise ConflictError("snapshot_exists", text, snapshot=index.snapshot_id)

    async def note(self, secret: Secret) -> None:
        """Have the catalogue keep a secret that keys are to be forgotten by."""
        await self._topic.append(secret.key, encode(secret))

    async def pin(self, snapshot_id: str, *, pinned: bool) -> None:
        """Keep a snapshot whatever its age, or no longer."""
        pin = Pin(snapshot_id=snapshot_id)
        await self._topic.append(pin.key, encode(pin) if pinned else None)

    async def remove(self, snapshot_id: str, epoch: int, control_offset: int) -> None:
        """Take a snapshot away: first what vouches for it, then its manifests. Its files go by and
        by, and what is left if it is cut short goes with them. Raises StateError, also if a command
        that begins from it is on its way here.

        As soon as nothing vouches for it, its name may be given again, anywhere: so what goes is
        what was there before, and what was asked for before. The rest is another snapshot's.

        `epoch`, `control_offset`: the agent's, and up to where this worker knows the control log. A
        snapshot that a command had asked for there is over: no shard is taken into it any more, nor
        published, anywhere.
        """
        with self.uses.removing(snapshot_id):
            # What it is that was asked to go: whatever is waited for, the name may be free then.
            cuts = self._checkpoints.of(snapshot_id)
            former = {ref.digest for ref in self.catalogue.refs() if ref.snapshot_id == snapshot_id}
            removed = self._removed(snapshot_id, epoch, control_offset)
            await self._claim()
            # Before the records that free the name: so is the pin taken back.
            await self._tell_removed(removed)
            if self.catalogue.pinned(snapshot_id):
                await self.pin(snapshot_id, pinned=False)
            gone = await self._withdraw(snapshot_id, former)
            await asyncio.to_thread(self._checkpoints.drop, *cuts)
            await asyncio.to_thread(self._repository.remove, snapshot_id, gone)
            await self._tell_removed(removed)  # when it is back, all before it has been read
            for vouched in list(self.catalogue.shards(snapshot_id).values()):
                # Another worker did: to the removed one, or with a manifest that went with it.
                if self._is_over(vouched) or await self._is_missing(vouched):
                    await self._take_back(vouched)
        log.info("snapshot.removed", extra=fields(snapshot=snapshot_id))

    def _removed(self, snapshot_id: str, epoch: int, control_offset: int) -> Removed:
        """What is to be said of it. This worker may not have read yet in the control log what asked
        for it; what is of an earlier epoch may be of another control log.
        """
        taken: list[Cut | Vouched] = list(self._checkpoints.of(snapshot_id))
        taken.extend(self.catalogue.shards(snapshot_id).values())
        own = [each for each in taken if each.epoch >= epoch and not is_imported(each)]
        return Removed(
            snapshot_id=snapshot_id,
            epoch=max([epoch, *(each.epoch for each in own)]),
            control_offset=max([control_offset, *(1 + each.asked for each in own)]),
        )

    async def _tell_removed(self, removed: Removed) -> None:
        """For good, if a command may have asked for it. Who removes it elsewhere may know more, or
        less: what says most stands in the end.
        """
        if is_automatic(removed.snapshot_id):
            return
        said = self.catalogue.furthest(removed)
        await self._topic.append(said.key, encode(said))
        if (most := self.catalogue.furthest(said)) != said:
            await self._topic.append(most.key, encode(most))

    async def _withdraw(self, snapshot_id: str, former: AbstractSet[str]) -> set[str]:
        """Take back what vouches for a snapshot, of which the manifests had these digests, and what
        others have put in the place of that meanwhile. Who does so later finds it gone before.

        Returns the digests of all manifests that nothing vouches for any more.
        """
        left, gone = set(former), set[str]()

        def is_of_it(vouched: Vouched) -> bool:
            rewritten = not former.isdisjoint(vouched.replaces)
            return vouched.digest in left or rewritten or self._is_over(vouched)

        while here := next(filter(is_of_it, self.catalogue.shards(snapshot_id).values()), None):
            await self._take_back(here)
            left.discard(here.digest)
            gone |= {here.digest, *here.replaces}
        return gone - {vouched.digest for vouched in self.catalogue.shards(snapshot_id).values()}

    async def collect(self, older_than_ms: int = GRACE_MS) -> None:
        """Remove files that no manifest needs any more, and manifests that removals and rewrites
        which were cut short have left, after two such times. Raises StateError.
        """
        await self._claim()
        needed = await asyncio.to_thread(needed_by, self.catalogue.refs(), self._repository)
        if needed.unread:
            # A removal or a rewrite takes the manifest after its record in the catalogue, which
            # this worker may read a little later.
            await asyncio.sleep(CATALOGUE_WAIT_S)
            needed = needed.among(self.catalogue.refs())
        done = await asyncio.to_thread(collect, needed, self._repository, older_than_ms)
        log.info("snapshots.collected", extra=fields(deleted_bytes=done.deleted_bytes))

    async def rewrite(self, vouched: Vouched) -> None:
        """Put one without the keys that were forgotten since in the place of a shard's state in a
        snapshot, under the same id. What vouched for the former one is gone, and so is that. One
        that is removed meanwhile stays so: what was written goes with a collection.

        Of two workers that do it at once the one counts whose record is the last, also if it has
        forgotten less: then the next look finds that, and it is written anew again. The other's
        manifest, for which nothing vouches any more, goes with a collection.

        Its probes are new, because those name keys. Raises StateError.
        """
        await self._claim()
        left = threading.Event()
        draft = await self.fetch(vouched.shard, vouched.snapshot_id, vouched.digest)
        try:
            manifest = await asyncio.to_thread(manifest_of, vouched.ref, self._sources)
            # It is at work on the draft, which is removed when this ends, however that may be.
            done = await in_a_thread(
                lambda: self._republished(vouched.kind, manifest, draft, left.is_set), left.set
            )
        finally:
            await remove_drafts(draft)
        replaces = (*vouched.replaces, vouched.digest)[-REPLACED_KEPT:]
        first_life = self._forgotten_of(vouched).first_life
        same = {"imported": vouched.imported, "asked": vouched.asked}
        done = structs.replace(done, replaces=replaces, forgotten_life=first_life, **same)
        there = self.catalogue.shards(vouched.snapshot_id).get(vouched.shard)
        if there != vouched or self.uses.is_going(vouched.snapshot_id):
            return
        known = self.catalogue.next_offset
        await self._topic.append(done.key, encode(done))
        removed = self._is_over(done) or self.catalogue.removed_since(done.snapshot_id, known)
        if removed or await self._is_missing(done):
            await self._take_back(done)
            return
        await asyncio.to_thread(self._repository.withdraw, done.ref, [vouched.digest])
        log.info("snapshot.rewritten", extra=fields(snapshot=vouched.snapshot_id))

    def _republished(
        self, kind: Kind, manifest: Manifest, draft: Path, called_off: Callable[[], bool]
    ) -> Vouched:
        names = set(Cut.__struct_fields__) - {"kind", "probes", "forgotten", "versions", "asked"}
        same = {name: getattr(manifest, name) for name in names}
        copy = self._directory.draft()
        try:
            with ShardStore.open(draft, create=False, options=self._stores, compact=False) as store:
                meta = store.meta
                assert meta is not None, "it was a shard's"
                store.checkpoint(copy)
            # What it has forgotten, it says itself: a key may be forgotten while this is written.
            # If another build wrote it, it goes on here as there, or it had not been fetched.
            own = self.probing.versions
            cut = Cut(kind=kind, forgotten=meta.forgotten, versions=own, **same)
            if self.probing.lacks(cut):
                probes = self.probing.made(cut, copy, self._directory.draft())
                cut = structs.replace(cut, probes=probes)
            return publish(cut, copy, self._repository, self._sums, called_off).vouched(cut)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    async def forget_checkpoints(self, *, fresh: Callable[[str], bool]) -> list[str]:
        """Drop the checkpoints on this disk that hold forgotten keys, but for those that are to be
        published first, or of whose agent no `fresh` snapshot is there yet: the ids of these.
        """
        owed = {cut.snapshot_id for cut in self._checkpoints.owed() if cut.kind == "named"}
        cuts = self._checkpoints.cuts()
        holding = {cut.snapshot_id: cut.agent for cut in cuts if self.holds_forgotten(cut)}
        stay = [s for s, agent in holding.items() if s in owed or not fresh(agent)]
        gone = holding.keys() - set(stay)
        await asyncio.to_thread(self._checkpoints.drop, *(c for c in cuts if c.snapshot_id in gone))
        return stay

    async def thin_checkpoints(self) -> None:
        """Drop what lies on this disk and is published: the newest stay, to go back to quickly."""
        cuts = self._checkpoints.cuts()[::-1]  # newest first
        owed = self._checkpoints.owed()[::-1]
        keep = {cut.snapshot_id for cut in owed if cut.kind != "automatic"}
        for agent in {cut.agent for cut in cuts}:
            mine = [cut for cut in cuts if cut.agent == agent]
            undo = [cut for cut in mine if cut.kind == "undo"]
            newest = list(dict.fromkeys(cut.snapshot_id for cut in mine))[:CHECKPOINTS_KEPT]
            waiting = [c.snapshot_id for c in owed if c.agent == agent and c.kind == "automatic"]
            keep.update(newest, (cut.snapshot_id for cut in undo[:1]))
            keep.update(list(dict.fromkeys(waiting))[:OWED_KEPT])
        old = [cut for cut in cuts if cut.snapshot_id not in keep]
        await asyncio.to_thread(self._checkpoints.drop, *old)


def undo_id(agent: str, control_id: str) -> str:
    """The snapshot in which a rollback keeps what it replaces."""
    return f"{agent}.undo-{hashlib.sha256(control_id.encode()).hexdigest()[:12]}"
