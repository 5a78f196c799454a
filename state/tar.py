"""A tar that holds exactly what its reader expects, one regular file after the other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import Protocol

from headrace.errors import CorruptStateError
from headrace.state.localshelf import PIECE_BYTES

FILE_BYTES_MAX = (8 << 30) - 1
"""What the size field of a plain header (ustar) can say."""
_BLOCK = tarfile.BLOCKSIZE
_SIZE = slice(124, 135)  # eleven octal digits


def header(name: str, size: int) -> tarfile.TarInfo:
    """Of a regular file that belongs to nobody and has no time, so that equal contents are equal
    archives.

    >>> block = header("index.json", 5).tobuf(tarfile.USTAR_FORMAT)
    >>> len(block), block[:10], block[124:135]
    (512, b'index.json', b'00000000005')
    """
    assert 0 <= size <= FILE_BYTES_MAX
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info


def block(name: str, size: int) -> bytes:
    """The header as it stands in the file."""
    return header(name, size).tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """What fills up a file of so many bytes."""
    return bytes(-size % _BLOCK)


def end_of(sizes: Sequence[int]) -> bytes:
    """What comes behind files of these sizes: two blocks of zeros, filled up to a record."""
    return bytes(size_of(sizes) - sum(_BLOCK + size + -size % _BLOCK for size in sizes))


def size_of(sizes: Sequence[int]) -> int:
    """How many bytes a tar of files of these sizes has.

    >>> size_of([5]), len(end_of([5])), size_of([])
    (10240, 9216, 10240)
    """
    blocks = 2 * _BLOCK + sum(_BLOCK + size + -size % _BLOCK for size in sizes)
    return blocks + -blocks % tarfile.RECORDSIZE


class Readable(Protocol):
    """What a tar is read from: fewer bytes than `count` only at the end."""

    def read(self, count: int, /) -> bytes: ...


class TarReader:
    """Reads a tar from its start to its end; anything else than what is asked for is refused.

    Order of calls: for each file `member`, or `expect` and all of `content`; then `end`. All raise
    CorruptStateError for another tar, and OSError.

    >>> from io import BytesIO
    >>> content = BytesIO()
    >>> with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
    ...     tar.addfile(header("one", 5), BytesIO(b"river"))
    >>> reader = TarReader(BytesIO(content.getvalue()), "one.tar")
    >>> reader.member("one", 5)
    b'river'
    >>> reader.end()
    >>> TarReader(BytesIO(content.getvalue()), "one.tar").member("two", 5)
    Traceback (most recent call last):
    headrace.errors.CorruptStateError: one.tar at byte 0: there is not two as it should be. \
Export the snapshot again
    """

    def __init__(self, file: Readable, called: str) -> None:
        self._file = file
        self._called = called
        self._read = 0

    def member(self, name: str, most: int) -> bytes:
        """The bytes of the next file, which must have that name and at most so many bytes."""
        found = self._take(_BLOCK, name)
        digits = found[_SIZE]
        size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else -1
        if not 0 <= size <= most or found != block(name, size):
            raise self._refused(f"there is not {name} as it should be", _BLOCK)
        return b"".join(self.content(size))

    def expect(self, name: str, size: int) -> None:
        """Read the header of the next file, which must have that name and size."""
        if self._take(_BLOCK, name) != block(name, size):
            raise self._refused(f"there is not {name} as it should be", _BLOCK)

    def content(self, size: int) -> Iterator[bytes]:
        """The bytes of the file whose header was read, a MiB at a time, and the zeros behind it."""
        left = size
        while left:
            piece = self._take(min(left, PIECE_BYTES), "all of a file")
            left -= len(piece)
            yield piece
        self._zeros(-size % _BLOCK)

    def end(self) -> None:
        """Two blocks of zeros, filled up to a record, and then nothing."""
        self._zeros(2 * _BLOCK)
        self._zeros(-self._read % tarfile.RECORDSIZE)
        if self._file.read(1):
            raise self._refused("there is something behind the end", 0)

    def _zeros(self, count: int) -> None:
        if any(self._take(count, "zeros")):
            raise self._refused("there are not the zeros that fill it up", count)

    def _take(self, count: int, what: str) -> bytes:
        found = self._file.read(count)
        if len(found) < count:
            raise self._refused(f"it ends before {what}", 0)
        self._read += count
        return found

    def _refused(self, what: str, back: int) -> CorruptStateError:
        where = f"{self._called} at byte {self._read - back}"
        return CorruptStateError(f"{where}: {what}. Export the snapshot again")
