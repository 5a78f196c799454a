"""Files of a shard, checked one by one, in a directory that appears when all of them are right."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from headrace.clock import new_id
from headrace.errors import CorruptStateError, StateError
from headrace.state.disk import explained, make_directory, sync_directory
from headrace.state.localshelf import write_synced
from headrace.state.manifest import FileEntry


def fetch_files(
    entries: Sequence[FileEntry], directory: Path, blob: Callable[[str], Iterator[bytes]]
) -> None:
    """Make `directory`, which must not exist, from what `blob` yields for each SHA-256.

    Steps: write and sync each file in a draft beside it, compare size and sum; sync the draft;
    rename it; sync the directory above. `blob` raises FileNotFoundError for what is missing.
    Raises CorruptStateError, DiskFullError, StateError; then no draft is left, except by a crash:
    those start with ".fetching-".
    """
    if directory.exists():
        raise StateError(f"cannot restore files into {directory}: it exists")
    if len({entry.name for entry in entries}) < len(entries):
        raise CorruptStateError(
            f"two files for {directory} have one name: restore another snapshot"
        )
    draft = directory.parent / f".fetching-{new_id()}"
    with explained(directory):
        make_directory(directory.parent)
        draft.mkdir(mode=0o700)
        try:
            for entry in entries:
                write_synced(draft / entry.name, verified(entry, blob))
            sync_directory(draft)
            draft.rename(directory)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_directory(directory.parent)


def verified(entry: FileEntry, blob: Callable[[str], Iterator[bytes]]) -> Iterator[bytes]:
    """The bytes of `entry`; it raises at their end if they are others, at once if too many.

    Raises CorruptStateError, and what `blob` raises but for FileNotFoundError.
    """
    hasher = hashlib.sha256()
    size = 0
    try:
        for piece in blob(entry.sha256):
            size += len(piece)
            if size > entry.size:
                raise _refused(entry, f"it has more than its {entry.size} bytes")
            hasher.update(piece)
            yield piece
    except FileNotFoundError:
        raise _refused(entry, "it is missing in the repository") from None
    if size < entry.size:
        raise _refused(entry, f"it has {size} of its {entry.size} bytes")
    if hasher.hexdigest() != entry.sha256:
        raise _refused(entry, "its bytes do not match its SHA-256")


def _refused(entry: FileEntry, what: str) -> CorruptStateError:
    return CorruptStateError(
        f"snapshot file {entry.name} (blob {entry.sha256}): {what}."
        f" Restore another snapshot, or let the shard be learned anew from its log"
    )
