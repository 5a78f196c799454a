"""Files and directories that are still there after a power cut.

A file is durable once its data is synced *and* the directory that names it is synced, in that
order: data fsync, rename, directory fsync. Any other order can leave a name without its content,
or content without a name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import BadDiskError, DiskFullError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PROBE = "room"
TABLE = ".sst"
"""How the name of a table of RocksDB ends, which is never altered once it is whole."""


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`: after a crash there is the old content or all of the new one.

    One writer per path (the caller holds the state directory's lock). Raises OSError.
    """
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make `path` and what is missing above it; each new name is synced into its parent."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Make all files in and below `directory` durable, then their names, from the bottom up.

    Tables that have another name as well are durable already, and only this name is synced: RocksDB
    syncs a table before its manifest names it, only such a table is ever linked, and a link has the
    same inode, which nobody writes to any more. An fsync of one that is clean is not free: it waits
    for the journal of the file system, and a shard of a million keys has some twenty of them.
    """
    for path, _, files in os.walk(directory, topdown=False, onerror=_raise):
        for name in files:
            descriptor = os.open(Path(path, name), os.O_RDONLY)
            try:
                linked = name.endswith(TABLE) and os.fstat(descriptor).st_nlink > 1
                if not linked:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(path))


def _raise(error: OSError) -> None:
    raise error


def check_room(directory: Path, needed: int) -> None:
    """Raises DiskFullError unless so many bytes can be written into `directory`.

    They are reserved and given back: what is free may still not be ours, where there are quotas.
    """
    probe = directory / _PROBE
    with explained(directory):
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, needed)
        finally:
            os.close(descriptor)
            probe.unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the system says against writing at `path` into a StateError that says what to do.

    >>> with explained(Path("/proc")):  # doctest: +ELLIPSIS
    ...     Path("/proc/state").mkdir()
    Traceback (most recent call last):
    headrace.errors.BadDiskError: /proc cannot be written: No such file or directory...
    """
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
        if error.errno in _NO_ROOM:
            raise DiskFullError(f"{path}: {error.strerror}{where}. {MAKE_ROOM}") from error
        raise BadDiskError(
            f"{path} cannot be written: {error.strerror}{where}. "
            "Mend that, or name another --state-dir"
        ) from error


MAKE_ROOM = "Make room on that disk"
