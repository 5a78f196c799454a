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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

import msgspec
import rocksdict

from headrace.errors import CorruptStateError, ForeignStateError, LockedStateError, StateError
from headrace.ports import Rows
from headrace.state.disk import make_directory, sync_directory
from headrace.state.options import StoreOptions

__all__ = ["AppliedRecord", "ShardMeta", "ShardStore", "Store", "StoreOptions"]

FORMAT = 1  # of the layout above; the first byte of the meta's payload
DIGEST_BYTES = 16
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

    `control_offset`: the control log's offset up to which control records are applied.
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

    def checkpoint(self, path: Path) -> None: ...

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...


class ShardStore:
    """The rows and the position of one shard, in a RocksDB directory of its own.

    Order of calls: `open`, then `meta` (None in a new one), `get`, `scan`, `write` as often as
    you like, `checkpoint` between writes, `close` once. Using it after `close` is a bug.

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

    def __init__(self, path: Path, database: rocksdict.Rdict) -> None:
        self.path = path
        self._database = database
        self._synced = rocksdict.WriteOptions()
        self._synced.sync = True
        self._scans: WeakSet[_Scan] = WeakSet()
        self._open = True
        self._meta = self._read_meta()

    @classmethod
    def open(cls, path: Path, *, create: bool, options: StoreOptions | None = None) -> ShardStore:
        """Open the shard at `path`, or make a new one if `create`.

        Raises StateError if there is none and `create` is False, LockedStateError if it is open
        elsewhere, CorruptStateError if its files or its meta are damaged, ForeignStateError if
        its layout is of another Headrace.
        """
        fresh = not (path / "CURRENT").exists()
        # A directory with tables or a write-ahead log had a CURRENT. RocksDB would start anew.
        if fresh and any(file.suffix in (".sst", ".log") for file in path.glob("*")):
            raise CorruptStateError(f"shard {path}: its file CURRENT is missing. {_REMEDY}")
        if fresh and not create:
            raise StateError(f"no shard at {path}")
        make_directory(path)
        with _Explained(path):
            database = rocksdict.Rdict(str(path), (options or StoreOptions()).rocksdb())
        try:
            store = cls(path, database)
        except StateError:
            database.close()
            raise
        sync_directory(path)
        return store

    @property
    def meta(self) -> ShardMeta | None:
        """Where the shard stands as of the last `write`; None if there was none."""
        return self._meta

    def get(self, row: bytes) -> bytes | None:
        """The bytes of `row`, or None. Raises CorruptStateError."""
        assert self._open
        with _Explained(self.path, row):
            value = self._database.get(_ROW + row)
        return None if value is None else self._opened(row, value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose name starts with `prefix`, in the order of their names' bytes.

        It shows the store as it was when `scan` was called, whatever is written meanwhile.
        """
        assert self._open
        scan = _Scan(self._database.iter(), prefix, self._opened, self.path)
        self._scans.add(scan)
        return scan

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        """Make `rows` (None deletes) and `meta` durable: all of it or, after a crash, nothing.

        When it returns, both are on the disk. If `rows` raises while it is read, nothing is
        written. Raises StateError if the disk refuses.
        """
        assert self._open
        batch = rocksdict.WriteBatch(raw_mode=True)
        for row, payload in rows:
            if payload is None:
                batch.delete(_ROW + row)
            else:
                batch.put(_ROW + row, digest(_ROW + row, payload) + payload)
        payload = bytes([FORMAT]) + msgspec.msgpack.encode(meta)
        batch.put(_META, digest(_META, payload) + payload)
        with _Explained(self.path):
            self._database.write(batch, self._synced)
        self._meta = meta

    def checkpoint(self, path: Path) -> None:
        """Make a copy at `path`, which must not exist, that later writes do not alter.

        Hard links where the file system is the same, so it costs no space at first. `open` reads
        it. Raises StateError.
        """
        assert self._open
        if path.exists():
            raise StateError(f"cannot put a checkpoint at {path}: it exists")
        make_directory(path.parent)
        with _Explained(self.path):
            rocksdict.Checkpoint(self._database).create_checkpoint(str(path))
        sync_directory(path.parent)

    def size_bytes(self) -> int:
        """About how many bytes the shard takes: its tables and what is not in a table yet."""
        assert self._open
        sizes = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._database.property_int_value(name) or 0 for name in sizes)

    def close(self) -> None:
        """Give back all that is open, scans included. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        for scan in list(self._scans):
            scan.close()  # an open iterator would keep the database's lock
        with _Explained(self.path):
            self._database.close()

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
        if "Corruption" in text or "Invalid argument" in text:
            raise _corrupt(self._path, self._row, text) from error
        raise StateError(f"shard {self._path}: {text}") from error


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
