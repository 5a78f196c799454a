"""Archives of a small real backend: bytes kept in a dict, by their SHA-256."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from hashlib import sha256

import msgspec

from headrace.errors import RequestError
from headrace.views import RowChange, RowCount, SnapshotDiff, SnapshotView
from tests.serving.history import Kept

SIZE = 1_000_000


class Whole(msgspec.Struct, frozen=True):
    """Implements `ports.Archive`."""

    digest: str
    size_bytes: int
    pieces: AsyncGenerator[bytes, None]


class Carried:
    """Implements `ports.Archives`. `cut`: an export ends with an error after so many bytes."""

    def __init__(self, check: Callable[..., None], kept: Kept) -> None:
        self.cut: int | None = None
        self.more = 0  # bytes that an archive has besides
        self.given: list[int] = []  # sizes of the pieces that were drawn
        self.ended = asyncio.Event()  # an export has come to its end
        self._check = check
        self._kept = kept

    async def diff(self, earlier: str, later: str | None) -> SnapshotDiff:
        first = self._kept.get(earlier)
        if later is not None:
            self._kept.get(later)
        return SnapshotDiff(
            agent=first.agent,
            earlier=earlier,
            later=later or "",
            partitions=first.partitions,
            counts=(RowCount(kind="key", added=3, removed=1, changed=1_200),),
            first=(RowChange(kind="key", name="4711", partition=1, how="changed"),),
            note="of 1 of 2 partitions: others hold the rest",
        )

    async def export(self, snapshot_id: str) -> Whole:
        content = content_of(self._kept.get(snapshot_id)) + bytes(self.more)
        return Whole(sha256(content).hexdigest(), len(content), self._pieces(content))

    async def import_(self, digest: str, pieces: AsyncIterator[bytes]) -> SnapshotView:
        self._check()
        content = b""
        async for piece in pieces:
            content += piece
            if digest == "0" * 64:
                break  # it says at once what is wrong, as the index comes first
        if sha256(content).hexdigest() != digest:
            raise RequestError("snapshot_damaged", "it is another archive, or it was altered")
        snapshot_id = content.partition(b"\n")[0].decode()
        if snapshot_id in self._kept.views:
            return self._kept.views[snapshot_id]
        agent, _, name = snapshot_id.partition(".")
        view = msgspec.structs.replace(self._kept.take(agent, name, "named"), imported=True)
        self._kept.views[snapshot_id] = view
        return view

    async def _pieces(self, content: bytes) -> AsyncGenerator[bytes, None]:
        try:
            for start in range(0, len(content), 400_000):
                if self.cut is not None and start >= self.cut:
                    raise RequestError("snapshot_damaged", "a file does not match its SHA-256")
                piece = content[start : start + 400_000]
                self.given.append(len(piece))
                yield piece
        finally:
            self.ended.set()


def content_of(view: SnapshotView) -> bytes:
    """The archive of a snapshot."""
    return view.snapshot_id.encode() + b"\n" + bytes(SIZE)
