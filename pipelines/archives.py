"""Snapshots carried in and out, and compared, as people ask for it.

What comes in is read as it comes: its index is compared with the digest before anything is decoded,
and what cannot be taken is refused there, before the rest has come.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from headrace.errors import (
    ConflictError,
    CorruptStateError,
    OverloadError,
    RequestError,
    UnavailableError,
)
from headrace.pipelines.bases import check_complete
from headrace.pipelines.snapshot_commands import SnapshotCommands, check_room
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.pipelines.worker import Worker
from headrace.state.archive import Index
from headrace.state.cut import is_own
from headrace.state.differences import Count, Differences, compare
from headrace.state.store import ShardStore
from headrace.views import Partition, RowChange, RowCount, SnapshotDiff, SnapshotView

TRANSFERS_MAX = 2
"""Exports and imports of one worker at a time. An import holds a thread as long as it takes."""
TRANSFERS_RETRY_S = 10.0
ROWS_NAMED = 20
"""Rows that a comparison names, over all partitions; all others are counted."""
KINDS = {b"k/": "key", b"u/": "user", b"i/": "item", b"s/": "shard"}


class Outgoing(msgspec.Struct, frozen=True):
    """Implements `ports.Archive`."""

    digest: str
    size_bytes: int
    pieces: AsyncGenerator[bytes, None]


class Archives:
    """Implements `ports.Archives`."""

    def __init__(self, worker: Worker, snapshots: SnapshotCommands) -> None:
        self._worker = worker
        self._snapshots = snapshots
        self._transfers = 0

    async def diff(self, earlier: str, later: str | None) -> SnapshotDiff:
        """What differs from one snapshot to another, or to the shards that this worker holds.

        Raises NotFoundError, ConflictError (`snapshot_incomplete`, `spec_mismatch`), RequestError
        `snapshot_damaged`, OverloadError, UnavailableError `not_ready`, StateError.
        """
        first = self._whole(earlier)
        second = None if later is None else self._whole(later)
        if second is not None and (why := _incomparable(first, second)):
            raise ConflictError("spec_mismatch", why, snapshot=earlier)
        digest = self._worker.controls.registry.get(first.agent).deploy.digest if not second else ""
        with self._place():
            found = {
                partition: await self._compared(first.agent, partition, earlier, later)
                for partition in self._worker.vault.catalogue.shards(earlier)
                if second or self._worker.shards.find(first.agent, partition)
            }
        notes = []
        if len(found) < first.partitions:
            notes.append(f"of {len(found)} of {first.partitions} partitions: others hold the rest")
        if first.spec_digest != (second.spec_digest if second else digest):
            notes.append("the two are of different specs")
        return SnapshotDiff(
            agent=first.agent,
            earlier=earlier,
            later=later or "",
            partitions=len(found),
            counts=tuple(_counts([one.counts for one in found.values()])),
            first=tuple(_named(found))[:ROWS_NAMED],
            note="; ".join(notes),
        )

    async def export(self, snapshot_id: str) -> Outgoing:
        """A complete snapshot as an archive. Raises as `diff` does."""
        view = self._whole(snapshot_id)
        refs = [one.ref for one in self._worker.vault.catalogue.shards(snapshot_id).values()]
        self._check_place()
        async with self._damage_told(snapshot_id):
            exported = await self._worker.vault.exported(refs, self._spec_of(view))
        pieces = self._drawn(snapshot_id, exported.pieces)
        return Outgoing(exported.digest, exported.size_bytes, pieces)

    async def import_(self, digest: str, pieces: AsyncIterator[bytes]) -> SnapshotView:
        """Bring an archive in, and vouch for it as a user's snapshot.

        Raises RequestError: `snapshot_damaged` for bytes that the digest does not vouch for,
        `invalid_request` for a snapshot that a service took by itself; ConflictError
        `snapshot_exists`, OverloadError, StateError, and what `pieces` raises.
        """
        self._worker.check_ready()
        with self._place():
            return await self._imported(digest, pieces)

    async def _imported(self, digest: str, pieces: AsyncIterator[bytes]) -> SnapshotView:
        incoming = _Incoming(pieces)
        snapshot_id = ""
        try:
            coming = self._worker.vault.coming(incoming, "the archive", digest)
            index = await asyncio.to_thread(coming.index)
            if index.snapshot_id in self._snapshots.coming:
                raise _exists(index, "another import brings it just now")
            self._check_new(index)
            snapshot_id = index.snapshot_id
            self._snapshots.coming.add(snapshot_id)
            await self._worker.vault.bring(coming, self._check_new)
        except CorruptStateError as error:
            raise RequestError("snapshot_damaged", str(error)) from error
        finally:
            incoming.close()
            self._snapshots.coming.discard(snapshot_id)
        return self._snapshots.get(index.snapshot_id)

    # -- what can be ---------------------------------------------------------------------------

    def _whole(self, snapshot_id: str) -> SnapshotView:
        """Raises NotFoundError, ConflictError."""
        view = self._snapshots.get(snapshot_id)
        check_complete(view)
        return view

    def _check_new(self, index: Index) -> None:
        """Raises RequestError `invalid_request` if the id is one that the service gives itself,
        ConflictError `snapshot_exists` if it is another one's, OverloadError.
        """
        if is_own(index.snapshot_id):
            raise RequestError(
                "invalid_request",
                f"{index.snapshot_id!r} is an id that the service gives itself, and may give to "
                "another one here: a snapshot that is to be carried elsewhere needs a name "
                "(`headrace snapshot create AGENT NAME`)",
                snapshot=index.snapshot_id,
            )
        self._snapshots.check_not_going(index.snapshot_id)
        self._snapshots.check_not_asked_for(index.snapshot_id)
        there = self._worker.vault.catalogue.shards(index.snapshot_id)
        if not there:
            check_room(self._worker.vault.catalogue, index.agent)
        if not {vouched.digest for vouched in there.values()} <= set(index.manifests):
            raise _exists(index, "remove it first, if it is not needed any more")

    @contextmanager
    def _place(self) -> Iterator[None]:
        self._check_place()
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    def _check_place(self) -> None:
        if self._transfers >= TRANSFERS_MAX:
            text = f"{TRANSFERS_MAX} exports, imports and diffs are under way; try again later"
            raise OverloadError("overloaded", text, retry_s=TRANSFERS_RETRY_S)

    def _spec_of(self, view: SnapshotView) -> str:
        """The spec of a snapshot as JSON, as far as the control log still tells it; else ""."""
        deployment = self._worker.controls.registry.last(view.agent)
        brought = deployment.brought(view.spec_digest) if deployment else None
        return msgspec.json.encode(brought.spec, order="sorted").decode() if brought else ""

    # -- the work ------------------------------------------------------------------------------

    async def _drawn(
        self, snapshot_id: str, pieces: Iterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """The pieces, each drawn in a thread when it is asked for: no thread waits for a client.

        It has its place from the first piece on, as what is never begun is never ended. If it is
        given up while one is drawn, the generator ends with that thread's last reference.
        """
        with self._place():
            async with self._damage_told(snapshot_id):
                while piece := await asyncio.to_thread(_next, pieces):
                    yield piece

    async def _compared(
        self, agent: str, partition: Partition, earlier: str, later: str | None
    ) -> Differences:
        """It goes on if a snapshot is removed that has been fetched already."""
        drafts = [await self._fetched(partition, earlier)]
        try:
            if later is not None:
                drafts.append(await self._fetched(partition, later))
            else:
                shard = self._worker.shards.find(agent, partition)
                if shard is None:
                    raise UnavailableError("not_ready", "a shard is being closed: ask again")
                drafts.append(await self._worker.vault.copy(shard))
            return await in_a_thread(lambda: _compare(*drafts))
        finally:
            await remove_drafts(*drafts)

    async def _fetched(self, partition: Partition, snapshot_id: str) -> Path:
        vault = self._worker.vault
        vouched = vault.catalogue.shards(snapshot_id).get(partition)
        if vouched is None:
            self._whole(snapshot_id)  # says why: it was there
            raise UnavailableError("not_ready", "a snapshot is being made anew: ask again")
        async with self._damage_told(snapshot_id):
            return await vault.fetch(partition, snapshot_id, vouched.digest)

    @asynccontextmanager
    async def _damage_told(self, snapshot_id: str) -> AsyncIterator[None]:
        """Bytes that nobody vouches for are the caller's answer, with a code of their own."""
        try:
            yield
        except CorruptStateError as error:
            raise await self._worker.vault.told(error, snapshot_id) from error


class _Incoming:
    """Bytes that an async iterator brings, for a thread to read; see `state.tar.Readable`.

    Nothing is asked of the iterator before the thread wants it, so no more than one piece waits.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._asked: concurrent.futures.Future[bytes] | None = None
        self._closed = threading.Event()

    def read(self, count: int, /) -> bytes:
        """Raises what the iterator raises, and UnavailableError `stopping` once it is closed."""
        while len(self._held) < count:
            piece = self._piece()
            if not piece:
                break
            self._held += piece
        found = bytes(self._held[:count])
        del self._held[:count]
        return found

    def close(self) -> None:
        """Let a thread that waits go."""
        self._closed.set()
        if self._asked is not None:
            self._asked.cancel()

    def _piece(self) -> bytes:
        # What was closed is not asked again: it would look like the end of the bytes.
        if not self._closed.is_set():
            self._asked = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            if self._closed.is_set():  # meanwhile
                self._asked.cancel()
            with suppress(concurrent.futures.CancelledError):
                return self._asked.result()
        raise UnavailableError("stopping", "nobody waits for this import")

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""


def _incomparable(first: SnapshotView, second: SnapshotView) -> str:
    """Why the two have no rows in common; empty: they may have."""
    both = f"{first.snapshot_id!r} and {second.snapshot_id!r}"
    if first.agent != second.agent:
        return f"{both} are of different agents: {first.agent!r} and {second.agent!r}"
    if first.partitions != second.partitions:
        return f"{both} are of {first.partitions} and of {second.partitions} partitions"
    return ""


def _exists(index: Index, what: str) -> ConflictError:
    text = f"there is another snapshot {index.snapshot_id!r}: {what}"
    return ConflictError("snapshot_exists", text, snapshot=index.snapshot_id)


def _next(pieces: Iterator[bytes]) -> bytes:
    """The next piece that has any bytes; b"" if there is none."""
    return next((piece for piece in pieces if piece), b"")


def _compare(old: Path, new: Path) -> Differences:
    with (
        ShardStore.open(old, create=False, compact=False) as earlier,
        ShardStore.open(new, create=False, compact=False) as later,
    ):
        return compare(earlier, later, ROWS_NAMED)


def _counts(found: list[dict[str, Count]]) -> Iterator[RowCount]:
    for prefix, kind in KINDS.items():
        counts = [one.get(prefix.decode(), Count()) for one in found]
        count = RowCount(
            kind=kind,
            added=sum(one.added for one in counts),
            removed=sum(one.removed for one in counts),
            changed=sum(one.changed for one in counts),
        )
        if count.added + count.removed + count.changed:
            yield count


def _named(found: dict[Partition, Differences]) -> Iterator[RowChange]:
    for partition, differences in found.items():
        for one in differences.first:
            yield RowChange(
                kind=KINDS.get(one.row[:2], "shard"),
                name=one.row[2:].decode("utf-8", "replace"),
                partition=partition.partition,
                how=one.how,
            )
