"""Where a repository's objects lie: the seam under it, so that its laws are written once.

An object is bytes under a name with slashes, such as `blobs/ab/abcd…`. It is there as a whole or
not at all, also after a crash. Names are made by the repository, never by a user: a shelf does not
look at them. Every method may be called from several threads and processes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec


class Kept(msgspec.Struct, frozen=True):
    """An object on a shelf. `modified_ms` by the shelf's own clock, as is `Shelf.now_ms`."""

    name: str
    size: int
    modified_ms: int


class ReadableShelf(Protocol):
    """What can be read from a shelf. All raise AwayStateError if it cannot be reached."""

    def read(self, name: str) -> Iterator[bytes]:
        """Its bytes in pieces of at most a few MiB. Raises FileNotFoundError, StateError."""
        ...

    def list(self, prefix: str) -> Iterator[Kept]:
        """All objects below `prefix` in no order; what comes or goes meanwhile may be missing.

        If they cannot be listed, that is raised, StateError, and not told as there being none.
        """
        ...

    def now_ms(self) -> int:
        """What the clock says by which objects get their age. It may write to the shelf."""
        ...


class Shelf(ReadableShelf, Protocol):
    """What can be put on a shelf and taken from it. All raise StateError, DiskFullError."""

    def put(self, name: str, content: Iterable[bytes], *, size: int, create: bool) -> bool:
        """Put `size` bytes there, durable when it returns; False if `create` and one was there.

        Without `create` another object is replaced. What `content` raises, it raises, and then
        nothing has changed.
        """
        ...

    def refresh(self, name: str, size: int) -> bool:
        """Whether a durable object of so many bytes is there that need not be put again.

        If so, it is as young as if it had been put now, or young enough (see the shelf).
        """
        ...

    def move(self, name: str, to: str) -> None:
        """Give it another name; its age starts anew. It is never under neither; it may be under
        both after a crash. If it is not there, nothing is done.
        """
        ...

    def delete(self, name: str) -> None:
        """Take it away; if it is not there, nothing is done."""
        ...
