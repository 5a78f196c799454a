"""A shard's rows and its position on disk: one RocksDB, written in atomic batches.

Layout of the key space: `r` + row name holds a row, `m` holds the meta. So no row name can
collide with the meta. Each value is a 16-byte digest followed by the payload. The digest is
BLAKE2b-128 over the row's name and its payload: it is in the standard library, about as quick as
SHA-256 on a CPU with SHA instructions (1.5 µs against 1.4 µs for 1,500 bytes) and three times as
quick on one without, and 16 bytes leave chance no room. Because the name is in it, a value that
turns up under another row's name is refused too. It guards against disks and bugs, not against
people: what is imported is vouched for by the SHA-256 sums of its manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

import msgspec
import rocksdict

from headrace.errors import (
    CorruptStateError,
    DiskFullError,
    ForeignStateError,
    LockedStateError,
    StateError,
)
from headrace.ports import Rows
from headrace.state.disk import MAKE_ROOM, check_room, explained, make_directory, sync_directory
from headrace.state.options import StoreOptions

__all__ = ["AppliedRecord", "ShardMeta", "ShardStore", "Store", "StoreOptions"]

FORMAT = 1  # of the layout above; the first byte of the meta's payload
DIGEST_BYTES = 16
REOPEN_BYTES = 1 << 20
"""Room that a reopening needs besides what is in the write-ahead log: manifest, options, LOG."""
_META = b"m"
_ROW = b"r"


class AppliedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record at `next_offset - 1`, by which a start sees that the log is the one it was.

    `timestamp` in milliseconds; `sha256` (hexadecimal) over the record's key and value.
    """

    offset: int
    timestamp: int
    sha256: str


class ShardMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a shard stands: every record below `next_offset` is in the rows beside it.

    `control_offset`: of the control log; the shard knows the commands up to there, some of which
    may count from a later offset only.
    `applied` is None as long as no record was applied.
    """

    next_offset: int
    epoch: int
    spec_digest: str
    control_offset: int
    cluster_id: str
    applied: AppliedRecord | None = None


class Store(Rows, Protocol):
    """What a shard asks of its store. `headrace.state.checks` holds the laws."""

    @property
    def meta(self) -> ShardMeta | None: ...

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None: ...

    def recover(self) -> None: ...

    def checkpoint(self, path: Path) -> None: ...

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...


class ShardStore:
    """The rows and the position of one shard, in a RocksDB directory of its own.

    Order of calls: `open`, then `meta` (None in a new one), `get`, `scan`, `write` as often as
    you like, `checkpoint` between writes, `close` once. Using it after `close` is a bug. After a
    `write` that raised DiskFullError: `recover`, which may raise it again, before the next one;
    `get` goes on meanwhile.

    >>> import tempfile
    >>> directory = tempfile.TemporaryDirectory()
    >>> store = ShardStore.open(Path(directory.name) / "shard", create=True)
    >>> store.meta is None
    True
    >>> meta = ShardMeta(
    ...     next_offset=42, epoch=1, spec_digest="5f", control_offset=3, cluster_id="c"
    ... )
    >>> store.write([(b"k/ada", b"weights"), (b"k/bob", b"weights too")], meta)
    >>> store.get(b"k/ada"), store.get(b"k/eve"), store.meta.next_offset
    (b'weights', None, 42)
    >>> store.write([(b"k/ada", None)], msgspec.structs.replace(meta, next_offset=43))
    >>> list(store.scan(b"k/"))
    [(b'k/bob', b'weights too')]
    >>> store.close()
    >>> directory.cleanup()
    """

    def __init__(self, path: Path, options: StoreOptions, *, compact: bool) -> None:
        self.path = path
        self._options = options.rocksdb(compact=compact)
        with _Explained(path):
            self._database = self._connected()
        self._synced = rocksdict.WriteOptions()
        self._synced.sync = True
        self._scans: WeakSet[_Scan] = WeakSet()
        self._open = True
        self._failed = False  # RocksDB refuses all writes after one that failed
        self._waits_to_reopen = False  # it was closed, and there was no room to open it anew
        try:
            self._meta = self._read_meta()
        except StateError:
            self._database.close()
            raise

    @classmethod
    def open(
        cls, path: Path, *, create: bool, options: StoreOptions | None = None, compact: bool = True
    ) -> ShardStore:
        """Open the shard at `path`, or make a new one if `create`.

        Not `compact`: no tables are merged. For a draft that is closed again soon: a close waits
        for a merge that has begun, which takes a second in a shard of a million keys.
        Raises StateError if there is none and `create` is False, or if the directory cannot be
        written, DiskFullError if there is no room, LockedStateError if it is open elsewhere,
        CorruptStateError if its files or its meta are damaged, ForeignStateError if its layout is
        of another Headrace.
        """
        with explained(path):
            fresh = not (path / "CURRENT").exists()
            # A directory with tables or a write-ahead log had a CURRENT. RocksDB would start anew.
            if fresh and any(file.suffix in (".sst", ".log") for file in path.glob("*")):
                raise CorruptStateError(f"shard {path}: its file CURRENT is missing. {_REMEDY}")
            if fresh and not create:
                raise StateError(f"no shard at {path}")
            make_directory(path)
            store = cls(path, options or StoreOptions(), compact=compact)
            sync_directory(path)
        return store

    @property
    def meta(self) -> ShardMeta | None:
        """Where the shard stands as of the last `write`; None if there was none."""
        return self._meta

    def get(self, row: bytes) -> bytes | None:
        """The bytes of `row`, or None. Raises CorruptStateError."""
        self._check_open()
        with _Explained(self.path, row):
            value = self._database.get(_ROW + row)
        return None if value is None else self._opened(row, value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose name starts with `prefix`, in the order of their names' bytes.

        It shows the store as it was when `scan` was called, whatever is written meanwhile.
        """
        self._check_open()
        scan = _Scan(self._database.iter(), prefix, self._opened, self.path)
        self._scans.add(scan)
        return scan

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        """Make `rows` (None deletes) and `meta` durable: all of it or, after a crash, nothing.

        When it returns, both are on the disk. If `rows` raises while it is read, nothing is
        written. Raises DiskFullError if there is no room: `recover` is called before the next
        write. Any other StateError means that the disk cannot be trusted: there is no next write.
        """
        assert self._open
        assert not self._failed, "the last write failed: recover first"
        batch = rocksdict.WriteBatch(raw_mode=True)
        for row, payload in rows:
            if payload is None:
                batch.delete(_ROW + row)
            else:
                batch.put(_ROW + row, digest(_ROW + row, payload) + payload)
        payload = bytes([FORMAT]) + msgspec.msgpack.encode(meta)
        batch.put(_META, digest(_META, payload) + payload)
        try:
            with _Explained(self.path):
                self._database.write(batch, self._synced)
        except StateError:
            self._failed = True
            raise
        self._meta = meta

    def recover(self) -> None:
        """Make the store writable again after a DiskFullError; it holds what it held before.

        The database is opened anew, because RocksDB stays in its error. It is closed only when
        there is room for that, so that reads go on; should somebody take that room in between,
        they raise DiskFullError, too. Scans end: begin them anew.
        Raises DiskFullError as long as there is no room.
        """
        assert self._open
        with explained(self.path):
            logged = sum(file.stat().st_size for file in self.path.glob("*.log"))
        check_room(self.path, logged + REOPEN_BYTES)
        former = self._meta
        if not self._waits_to_reopen:
            self._close()
        self._waits_to_reopen = True
        with _Explained(self.path):
            self._database = self._connected()
        self._waits_to_reopen = False
        self._meta = self._read_meta()
        if self._meta != former:
            raise _corrupt(self.path, None, "after a write that failed it is not what it was")
        self._failed = False

    def checkpoint(self, path: Path) -> None:
        """Make a copy at `path`, which must not exist, that later writes do not alter.

        Hard links where the file system is the same, so it costs no space at first. `open` reads
        it. Raises StateError.
        """
        self._check_open()
        if path.exists():
            raise StateError(f"cannot put a checkpoint at {path}: it exists")
        make_directory(path.parent)
        with _Explained(self.path):
            rocksdict.Checkpoint(self._database).create_checkpoint(str(path))
        sync_directory(path.parent)

    def size_bytes(self) -> int:
        """About how many bytes the shard takes: its tables and what is not in a table yet."""
        self._check_open()
        sizes = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._database.property_int_value(name) or 0 for name in sizes)

    def close(self) -> None:
        """Give back all that is open, scans included. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        if not self._waits_to_reopen:
            self._close()

    def _connected(self) -> rocksdict.Rdict:
        # Named, because else a database that is there has the options that lie beside it: a cache
        # of its own, and no filters.
        return rocksdict.Rdict(str(self.path), self._options, {"default": self._options})

    def _check_open(self) -> None:
        assert self._open
        if self._waits_to_reopen:
            raise DiskFullError(f"shard {self.path} cannot be opened again. {MAKE_ROOM}")

    def _close(self) -> None:
        for scan in list(self._scans):
            scan.close()  # an open iterator would keep the database's lock
        try:
            with _Explained(self.path):
                self._database.close()
        except DiskFullError:
            pass  # it would put what it has in memory into a table; its synced log has all of that
        except StateError:
            # RocksDB says once more that a write has failed; it is closed all the same.
            if not self._failed:
                raise

    def _opened(self, row: bytes, value: bytes) -> bytes:
        payload = value[DIGEST_BYTES:]
        if value[:DIGEST_BYTES] != digest(_ROW + row, payload):
            raise _corrupt(self.path, row, "its bytes do not match their digest")
        return payload

    def _read_meta(self) -> ShardMeta | None:
        with _Explained(self.path):
            value = self._database.get(_META)
        if value is None:
            if next(self.scan(b""), None) is not None:
                raise _corrupt(self.path, None, "it has rows but no position")
            return None
        payload = value[DIGEST_BYTES:]
        if value[:DIGEST_BYTES] != digest(_META, payload):
            raise _corrupt(self.path, None, "its position does not match its digest")
        if payload[0] == FORMAT:
            return msgspec.msgpack.decode(payload[1:], type=ShardMeta)
        raise ForeignStateError(
            f"shard {self.path} has layout {payload[0]}, this Headrace writes layout {FORMAT}:"
            f" start the Headrace that wrote it, or use --state-dir elsewhere"
        )


class _Scan(Iterator[tuple[bytes, bytes]]):
    """The rows of a store from a prefix on; a small object so that `close` can end it."""

    def __init__(
        self,
        cursor: rocksdict.RdictIter,
        prefix: bytes,
        opened: Callable[[bytes, bytes], bytes],
        path: Path,
    ) -> None:
        self._cursor: rocksdict.RdictIter | None = cursor
        self._prefix = _ROW + prefix
        self._opened = opened
        self._path = path
        cursor.seek(self._prefix)

    def __next__(self) -> tuple[bytes, bytes]:
        assert self._cursor is not None, "the store was closed under this scan"
        with _Explained(self._path):
            if not self._cursor.valid():
                self._cursor.status()  # an iterator that met bad blocks looks as if at its end
                raise StopIteration
            name = self._cursor.key()
            if not name.startswith(self._prefix):
                raise StopIteration
            value = self._cursor.value()
            self._cursor.next()
        row = name[len(_ROW) :]
        return row, self._opened(row, value)

    def close(self) -> None:
        self._cursor = None


class _Explained:
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
            raise StateError(f"shard {self._path}: {text}. {_DISTRUST}") from error
        if "Corruption" in text or "Invalid argument" in text:
            raise _corrupt(self._path, self._row, text) from error
        raise StateError(f"shard {self._path}: {text}. {_DISTRUST}") from error


_FULL = ("No space left on device", "Disk quota exceeded")
# What a failed sync leaves on the disk nobody knows, whatever can be read from memory.
_SYNCING = re.compile(r"While \w*sync")
_DISTRUST = (
    "The disk cannot be trusted: look at it, then start again; if the shard is refused then, "
    "remove its directory, and it is learned anew from its log"
)
_REMEDY = "Stop the worker, remove this directory and start again: it is learned anew from its log"


def _corrupt(path: Path, row: bytes | None, what: str) -> CorruptStateError:
    where = f"shard {path}" if row is None else f"shard {path}, row {row!r}"
    return CorruptStateError(f"{where}: {what}. {_REMEDY}")


def digest(name: bytes, payload: bytes) -> bytes:
    """BLAKE2b-128 over the name's length, the name and the payload: 16 bytes.

    >>> digest(b"rk/ada", b"weights").hex()
    'aec5a76fec513948521b08de04885553'
    """
    hasher = hashlib.blake2b(len(name).to_bytes(4, "big") + name, digest_size=DIGEST_BYTES)
    hasher.update(payload)
    return hasher.digest()
