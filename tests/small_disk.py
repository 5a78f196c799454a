"""A small disk that can be filled to its last byte, and emptied."""

from __future__ import annotations

import errno
from pathlib import Path

_PIECE = b"\0" * 4096


class SmallDisk:
    """Mounted at `path`; made by the fixture `disk`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(_PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        """Make room again."""
        self._filler.unlink()
