"""What RocksDB raises, as errors that say what to do."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

from headrace.errors import (
    BadDiskError,
    CorruptStateError,
    DiskFullError,
    LockedStateError,
    StateError,
)
from headrace.state.disk import MAKE_ROOM


class Explained:
    """Turns what rocksdict raises into a StateError that says what to do.

    rocksdict raises bare `Exception`, and only that: so its exact class is matched, and no other
    error is swallowed.
    """

    def __init__(self, path: Path, row: bytes | None = None) -> None:
        self._path = path
        self._row = row

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not Exception:
            return
        text = str(error)
        if "lock hold by current process" in text or "While lock file" in text:
            raise LockedStateError(
                f"shard {self._path} is open elsewhere: stop the worker that holds it ({text})"
            ) from error
        if any(words in text for words in _FULL) and not _SYNCING.search(text):
            raise DiskFullError(f"shard {self._path}: {text}. {MAKE_ROOM}") from error
        if "IO error" in text:
            raise BadDiskError(f"shard {self._path}: {text}. {_DISTRUST}") from error
        if "Corruption" in text or "Invalid argument" in text:
            raise corrupt(self._path, self._row, text) from error
        raise StateError(f"shard {self._path}: {text}. {_DISTRUST}") from error


_FULL = ("No space left on device", "Disk quota exceeded")
# What a failed sync leaves on the disk nobody knows, whatever can be read from memory.
_SYNCING = re.compile(r"While \w*sync")
_DISTRUST = (
    "The disk cannot be trusted: look at it, then start again; if the shard is refused then, "
    "remove its directory, and it is learned anew from its log"
)
REMEDY = "Stop the worker, remove this directory and start again: it is learned anew from its log"


def corrupt(path: Path, row: bytes | None, what: str) -> CorruptStateError:
    """Bytes of a shard, or of one of its rows, that are not what was written."""
    where = f"shard {path}" if row is None else f"shard {path}, row {row!r}"
    return CorruptStateError(f"{where}: {what}. {REMEDY}")
