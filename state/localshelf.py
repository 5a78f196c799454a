"""Objects as files below one directory, each durable before its name and its name before the next.

<directory>/
  drafts/         being written; a crash leaves them there
  clock           touched to read the clock of the disk, which may be another machine's
  blobs/… and whatever else the repository names
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from headrace.clock import new_id
from headrace.errors import AwayStateError, CorruptStateError, DiskFullError, StateError
from headrace.state.disk import MAKE_ROOM, make_directory, sync_directory
from headrace.state.shelf import Kept

DRAFTS = "drafts"
PIECE_BYTES = 1 << 20
_CLOCK = "clock"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OF_ONE = (
    errno.EISDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ENXIO,  # a socket
)
_TRIES = 5  # a directory that was empty may be removed just before a file is put into it


class LocalShelf:
    """A directory, made with the first object that is put into it.

    Its own path, not obstore's LocalStore, because that syncs neither data nor directories.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> shelf = LocalShelf(Path(temporary.name) / "snapshots")
    >>> shelf.put("a/1", [b"on", b"e"], size=3, create=True)
    True
    >>> shelf.put("a/1", [b"two"], size=3, create=True)
    False
    >>> b"".join(shelf.read("a/1")), [kept.name for kept in shelf.list("a")]
    (b'one', ['a/1'])
    >>> temporary.cleanup()
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> Iterator[bytes]:
        with explained(self.path, name), _opened(self.path / name) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def list(self, prefix: str) -> Iterator[Kept]:
        with explained(self.path, prefix):
            for directory, _, files in os.walk(self.path / prefix, onerror=_raise_unless_gone):
                for name in files:
                    path = Path(directory, name)
                    with suppress(FileNotFoundError):  # somebody took it meanwhile
                        status = path.stat()
                        where = path.relative_to(self.path).as_posix()
                        yield Kept(where, status.st_size, status.st_mtime_ns // 1_000_000)

    def now_ms(self) -> int:
        clock = self.path / _CLOCK
        with explained(self.path):
            make_directory(self.path)
            clock.touch(mode=0o600)
            os.utime(clock)
            return clock.stat().st_mtime_ns // 1_000_000

    def put(self, name: str, content: Iterable[bytes], *, size: int, create: bool) -> bool:
        """Steps: write a draft, sync it, give it its name, sync the directories above the name."""
        draft = self.path / DRAFTS / new_id()
        with explained(self.path):
            make_directory(draft.parent)
            try:
                written = write_synced(draft, content)
                assert written == size
                with explained(self.path, name, changed=True):
                    return self._name(draft, self.path / name, create=create)
            finally:
                draft.unlink(missing_ok=True)

    def refresh(self, name: str, size: int) -> bool:
        """The file's time is set anew. Whoever put it may not have synced its name yet, so that is
        done here: what is built on it must not be durable before it.
        """
        path = self.path / name
        with explained(self.path, name, changed=True):
            try:
                os.utime(path)
                status = path.stat()
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    return False
                self._sync_names(path)
            except FileNotFoundError:
                return False
        return True

    def move(self, name: str, to: str) -> None:
        source, target = self.path / name, self.path / to
        with explained(self.path, name, changed=True), suppress(FileNotFoundError):
            os.utime(source)  # first: a crash in between makes it younger, never too old
            self._name(source, target, create=False)
            self._forget_name(source)

    def delete(self, name: str) -> None:
        path = self.path / name
        with explained(self.path, name, changed=True):
            path.unlink(missing_ok=True)
            self._forget_name(path)

    def _name(self, draft: Path, target: Path, *, create: bool) -> bool:
        for last in [False] * (_TRIES - 1) + [True]:
            make_directory(target.parent)
            try:
                if create:
                    target.hardlink_to(draft)  # the one step that names a file and replaces none
                else:
                    draft.replace(target)
                break
            except FileExistsError:
                # The other one's name may not be synced yet, and we are going to say it is there.
                self._sync_names(target)
                return False
            except FileNotFoundError:
                if last or not draft.exists():
                    raise
        self._sync_names(target)
        return True

    def _sync_names(self, path: Path) -> None:
        """Up to the root: who made a directory on the way may not have synced its name yet."""
        for directory in path.parents:
            with suppress(FileNotFoundError):  # somebody took the object away, and it with it
                sync_directory(directory)
            if directory == self.path:
                return

    def _forget_name(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            sync_directory(path.parent)
        with suppress(OSError):
            path.parent.rmdir()  # only if it is empty


def write_synced(path: Path, content: Iterable[bytes]) -> int:
    """Write a new file and sync its data; how many bytes. Its name is not durable yet.

    Raises OSError, also if there is one already, and what `content` raises.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        written = sum(file.write(piece) for piece in content)
        file.flush()
        os.fsync(file.fileno())
    return written


def _opened(path: Path) -> BinaryIO:
    """To be read, if it is a file: a pipe in its place would be waited for, for ever.

    Raises OSError, CorruptStateError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise CorruptStateError(f"{path} is no file. Remove what is there")


@contextmanager
def explained(path: Path, name: str = "", *, changed: bool = False) -> Iterator[None]:
    """Turns what the system says about `path` into a StateError that says what to do.

    A FileNotFoundError passes: who asks for an object has to know that it is missing. What is wrong
    with one file (EIO: a bad block of the disk) is a plain StateError, and so is what keeps it from
    being opened if `name` is what is read or listed, or `changed`, and others in its place could
    be; all else, such as a network disk that does not answer, an AwayStateError.

    >>> with explained(Path("/proc")):
    ...     Path("/proc/version/x").touch()
    Traceback (most recent call last):
    headrace.errors.AwayStateError: snapshots in /proc: Not a directory (/proc/version/x). \
Mend that, or name another repository
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # A draft is not at fault if its new name is; and `utime` names nothing.
        named = error.filename2 or error.filename or str(path / name)
        where = f" ({named})" if named != str(path) else ""
        what = f"snapshots in {path}: {error.strerror}{where}"
        if error.errno in _NO_ROOM:
            raise DiskFullError(f"{what}. {MAKE_ROOM}") from error
        if error.errno == errno.EIO or (error.errno in _OF_ONE and _is_open(path, name, changed)):
            raise StateError(f"{what}. Mend that place") from error
        raise AwayStateError(f"{what}. Mend that, or name another repository") from error


def _raise_unless_gone(error: OSError) -> None:
    """For `os.walk`, which else would tell a directory that cannot be listed as an empty one.

    One that is not there holds nothing: nothing was ever put there, or somebody took it meanwhile.
    One that is no directory was damaged: a name of a directory never becomes that of an object.
    """
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_open(path: Path, name: str, changed: bool) -> bool:
    """Whether the directory and the place in it, `manifests` say, in which that name is, can be
    listed and gone through, and names in it be `changed`; not for a name that stands at the top by
    itself.
    """
    top, below, _ = name.partition("/")
    if not below:
        return False
    try:
        for directory in (path, path / top):
            os.scandir(directory).close()
    except OSError:
        return False
    return os.access(path, os.X_OK) and os.access(path / top, os.X_OK | (os.W_OK * changed))
