"""SHA-256 of the files of a shard, and those of its tables remembered.

RocksDB never alters a table: it writes it once, links it, and unlinks it. So a table whose inode,
size and time of change are known has the bytes that were hashed. That holds for what this process
has hashed itself, and only in memory: nothing on the disk can claim it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from headrace.errors import CorruptStateError, StateError
from headrace.state.disk import TABLE
from headrace.state.localshelf import PIECE_BYTES
from headrace.state.manifest import FileEntry

SUMS_KEPT = 100_000
"""Tables whose sums are remembered; beyond that the oldest is forgotten, and hashed again."""


class _Stamp(NamedTuple):
    device: int
    inode: int
    size: int
    mtime_ns: int


class Sums:
    """Remembers what tables were hashed to. It may be used by several threads at once.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> table = Path(temporary.name) / "000012.sst"
    >>> table.write_bytes(b"weights")
    7
    >>> sums = Sums()
    >>> sums.known(table) is None
    True
    >>> sums.remember(table, sum_file(table))
    >>> link = Path(temporary.name) / "000013.sst"
    >>> link.hardlink_to(table)
    >>> sums.known(link).sha256[:8], sums.known(link).name
    ('9a129038', '000013.sst')
    >>> temporary.cleanup()
    """

    def __init__(self) -> None:
        self._known: dict[_Stamp, str] = {}
        self._lock = Lock()

    def known(self, path: Path) -> FileEntry | None:
        """The entry of the table at `path`, if this object has it; None for any other file.

        Raises StateError if the file cannot be looked at.
        """
        stamp = _stamp(path)
        sha256 = self._known.get(stamp)
        if sha256 is None:
            return None
        return FileEntry(name=path.name, sha256=sha256, size=stamp.size)

    def remember(self, path: Path, entry: FileEntry) -> None:
        """Note that the table at `path` was hashed to `entry`; any other file is passed over."""
        if path.suffix != TABLE:
            return
        stamp = _stamp(path)
        assert stamp.size == entry.size
        with self._lock:
            self._known[stamp] = entry.sha256
            if len(self._known) > SUMS_KEPT:
                del self._known[next(iter(self._known))]


def sum_file(path: Path) -> FileEntry:
    """Name, SHA-256 and size of the file at `path`. Raises StateError if it cannot be read."""
    hasher = hashlib.sha256()
    size = 0
    for piece in pieces(path):
        hasher.update(piece)
        size += len(piece)
    return FileEntry(name=path.name, sha256=hasher.hexdigest(), size=size)


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of the file at `path`, a MiB at a time. Raises StateError if it cannot be read."""
    with _explained(path), path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def unaltered(path: Path, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of `path`, hashed again on their way, so that what is kept is what was hashed."""
    hasher = hashlib.sha256()
    size = 0
    for piece in pieces(path):
        hasher.update(piece)
        size += len(piece)
        if size <= entry.size:
            yield piece
    if (hasher.hexdigest(), size) != (entry.sha256, entry.size):
        raise CorruptStateError(
            f"{path} changed while it was read for a snapshot: look at that disk, and who writes"
            f" there, then make the snapshot again"
        )


def _stamp(path: Path) -> _Stamp:
    with _explained(path):
        status = path.stat()
    return _Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{path} cannot be read for a snapshot: {error.strerror}. Look at that disk"
        ) from error
