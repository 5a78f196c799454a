"""The calls that compare snapshots, and carry them in and out as files, for both clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from headrace.clock import new_id
from headrace.errors import RequestError
from headrace.serving import calls, decode_snapshots, snapshot_pb2
from headrace.serving.caller import AsyncCaller, Caller
from headrace.views import SnapshotDiff, SnapshotView

PIECE_BYTES = 256 << 10
"""Of an archive, in one message."""
Progress = Callable[[int, int], None]
"""Is told how many bytes have come or gone, and how many there are."""


class ArchiveCalls(Caller):
    """Snapshots compared, and carried elsewhere."""

    def diff_snapshots(self, earlier: str, later: str | None = None) -> SnapshotDiff:
        """What differs from one snapshot to another; without that, to the state as it is now."""
        request = calls.asked(snapshot_pb2.DiffSnapshotsRequest, earlier=earlier, later=later or "")
        response = self._control(self._snapshot.DiffSnapshots, request)
        return decode_snapshots.diff(response.diff)

    def export_snapshot(
        self, snapshot_id: str, path: Path, progress: Progress | None = None
    ) -> str:
        """Write a snapshot to `path`; its digest, which whoever imports it must be told.

        The file appears, durable, when all has come; one that is there is replaced.
        """
        request = calls.asked(snapshot_pb2.ExportSnapshotRequest, snapshot_id=snapshot_id)
        with Draft(path, progress) as draft:
            for response in self._watch(self._snapshot.ExportSnapshot, request):
                draft.take(response)
            return draft.done(self.target)

    def import_snapshot(
        self, path: Path, digest: str, progress: Progress | None = None
    ) -> SnapshotView:
        """Bring the archive at `path`, if it is the one that `digest` is of."""
        with Upload(path, digest, progress) as upload:
            response = self._sent(self._snapshot.ImportSnapshot, iter(upload))
            return decode_snapshots.snapshot(response.snapshot)


class AsyncArchiveCalls(AsyncCaller):
    """The same, awaited. What is read and written of files is done in threads."""

    async def diff_snapshots(self, earlier: str, later: str | None = None) -> SnapshotDiff:
        """What differs from one snapshot to another; without that, to the state as it is now."""
        request = calls.asked(snapshot_pb2.DiffSnapshotsRequest, earlier=earlier, later=later or "")
        response = await self._control(self._snapshot.DiffSnapshots, request)
        return decode_snapshots.diff(response.diff)

    async def export_snapshot(
        self, snapshot_id: str, path: Path, progress: Progress | None = None
    ) -> str:
        """Write a snapshot to `path`; its digest, which whoever imports it must be told.

        The file appears, durable, when all has come; one that is there is replaced.
        """
        request = calls.asked(snapshot_pb2.ExportSnapshotRequest, snapshot_id=snapshot_id)
        with Draft(path, progress) as draft:
            async for response in self._watch(self._snapshot.ExportSnapshot, request, None):
                await asyncio.to_thread(draft.take, response)
            return await asyncio.to_thread(draft.done, self.target)

    async def import_snapshot(
        self, path: Path, digest: str, progress: Progress | None = None
    ) -> SnapshotView:
        """Bring the archive at `path`, if it is the one that `digest` is of."""
        with Upload(path, digest, progress) as upload:
            response = await self._sent(self._snapshot.ImportSnapshot, upload.drawn)
            return decode_snapshots.snapshot(response.snapshot)


class Draft:
    """A file that is there when all of it has come. Order of calls: `take` for each response, then
    `done`; within `with`, which leaves nothing of what was not done.

    Raises RequestError if the disk does not let us.
    """

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{new_id()}")
        self._progress = progress
        self._came = 0
        self._head = snapshot_pb2.ArchiveHead()
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        try:
            self._file = self._draft.open("xb")
        except OSError as error:
            raise _no_file(self._path, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # it writes what a write that failed has left, and fails again
            self._file.close()
        self._draft.unlink(missing_ok=True)

    def take(self, response: snapshot_pb2.ExportSnapshotResponse) -> None:
        """The next part: the head, or a piece."""
        if response.WhichOneof("part") == "head":
            self._head = response.head
            return
        try:
            self._file.write(response.piece)
        except OSError as error:
            raise _no_file(self._path, error) from None
        self._came += len(response.piece)
        if self._progress is not None:
            self._progress(self._came, self._head.size_bytes)

    def done(self, target: str) -> str:
        """Put it in its place, durable; its digest."""
        if not self._head.digest or self._came != self._head.size_bytes:
            text = f"{self._came} of {self._head.size_bytes} bytes came from {target}: ask again"
            raise RequestError("internal", text)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._draft.rename(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)  # else the name may not outlast a power cut
            finally:
                os.close(directory)
        except OSError as error:
            raise _no_file(self._path, error) from None
        return self._head.digest


class Upload:
    """The messages of an import, for gRPC to pull, from its own thread or task.

    gRPC would log and hide what goes wrong while it pulls. So the error is kept, the stream ends
    early, and the end of `with` raises it in place of what the worker then says.
    """

    def __init__(self, path: Path, digest: str, progress: Progress | None) -> None:
        self._path = path
        self._digest = digest
        self._progress = progress
        self._error: RequestError | None = None
        self._file: IO[bytes]
        self._size = 0

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("rb")
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise _no_file(self._path, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._error is not None:
            raise self._error from error

    def __iter__(self) -> Iterator[snapshot_pb2.ImportSnapshotRequest]:
        self._file.seek(0)  # a call may be made again
        yield snapshot_pb2.ImportSnapshotRequest(digest=self._digest)
        sent = 0
        while piece := self._read():
            yield snapshot_pb2.ImportSnapshotRequest(piece=piece)
            sent += len(piece)
            if self._progress is not None:
                self._progress(sent, self._size)

    async def drawn(self) -> AsyncIterator[snapshot_pb2.ImportSnapshotRequest]:
        """The same for asyncio."""
        messages = iter(self)
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            yield message

    def _read(self) -> bytes:
        try:
            return self._file.read(PIECE_BYTES)
        except (OSError, ValueError) as error:  # ValueError: closed, as the call has ended
            if isinstance(error, OSError):
                self._error = _no_file(self._path, error)
            return b""


def _no_file(path: Path, error: OSError) -> RequestError:
    words = f"{path} cannot be used: {error.strerror}; name another file, or mend that"
    return RequestError("invalid_request", words)
