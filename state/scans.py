"""Walks over the rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import rocksdict

from headrace.state.rockserrors import Explained


def unread(row: bytes, value: bytes) -> bytes:
    """For who wants names only."""
    return b""


class Scan(Iterator[tuple[bytes, bytes]]):
    """The rows whose names begin so, in the part `space` of the keys. An object, so that `close`
    can end it.
    """

    def __init__(
        self,
        cursor: rocksdict.RdictIter,
        space: bytes,
        prefix: bytes,
        opened: Callable[[bytes, bytes], bytes],
        path: Path,
    ) -> None:
        self._cursor: rocksdict.RdictIter | None = cursor
        self._space = space
        self._prefix = space + prefix
        self._opened = opened
        self._path = path
        cursor.seek(self._prefix)

    def __next__(self) -> tuple[bytes, bytes]:
        assert self._cursor is not None, "the store was closed under this scan"
        with Explained(self._path):
            if not self._cursor.valid():
                self._cursor.status()  # an iterator that met bad blocks looks as if at its end
                raise StopIteration
            name = self._cursor.key()
            if not name.startswith(self._prefix):
                raise StopIteration
            value = self._cursor.value()
            self._cursor.next()
        row = name[len(self._space) :]
        return row, self._opened(row, value)

    def close(self) -> None:
        self._cursor = None
