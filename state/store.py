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
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol, Self
from weakref import WeakSet

import msgspec
import rocksdict

from headrace.errors import (
    BadDiskError,
    CorruptStateError,
    DiskFullError,
    ForeignStateError,
    StateError,
)
from headrace.ports import Rows
from headrace.state.disk import MAKE_ROOM, check_room, explained, make_directory, sync_directory
from headrace.state.options import StoreOptions
from headrace.state.rockserrors import REMEDY, Explained, corrupt
from headrace.state.scans import Scan, unread

__all__ = ["AppliedRecord", "ShardMeta", "ShardStore", "Store", "StoreOptions"]

FORMAT = 1  # of the layout above; the first byte of the meta's payload
DIGEST_BYTES = 16
REOPEN_BYTES = 1 << 20
"""Room that a reopening needs besides what is in the write-ahead log: manifest, options, LOG."""
CHECKPOINT_TRIES_MAX = 3
"""Of a checkpoint, while RocksDB puts away files of its own that it was about to link."""
_MISSING = "No such file or directory"
_META = b"m"
_ROW = b"r"


class AppliedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a shard applied, or began behind: by it a start sees that the log is the one
    that it was.

    `timestamp` in milliseconds; `sha256` (hexadecimal) over the record's key and value.
    """

    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    timestamp: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    sha256: Annotated[str, msgspec.Meta(max_length=64)]


class ShardMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a shard stands: every record below `next_offset` is in the rows beside it.

    `control_offset`: of the control log; the shard knows the commands up to there, some of which
    may count from a later offset only.
    `applied` is the last record that was, None as long as there was none; `anchor` an earlier one,
    or the one that it began behind, which the log was seen to hold; None: none was. `forgotten`: of
    the control log, the newest forget that is done in the rows, -1 if there was none.
    """

    next_offset: int
    epoch: int
    spec_digest: str
    control_offset: int
    cluster_id: str
    applied: AppliedRecord | None = None
    anchor: AppliedRecord | None = None
    forgotten: int = -1


# Made here: msgspec learns a type when it is first asked, and two threads at once crash in that.
_META_DECODER = msgspec.msgpack.Decoder(ShardMeta)


class Store(Rows, Protocol):
    """What a shard asks of its store. `headrace.state.checks` holds the laws."""

    @property
    def meta(self) -> ShardMeta | None: ...

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None: ...

    def recover(self) -> None: ...

    def names(self, prefix: bytes) -> Iterator[bytes]: ...

    def compact(self, rows: Iterable[bytes]) -> None: ...

    def checkpoint(self, path: Path) -> None: ...

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...


class ShardStore:
    """The rows and the position of one shard, in a RocksDB directory of its own.

    Order of calls: `open`, then `meta` (None in a new one), `get`, `scan`, `write` as often as
    you like, `checkpoint` between writes, `close` once (`with` does). Using it after `close` is a
    bug. After a `write` that raised DiskFullError: `recover`, which may raise it again, before the
    next one; `get` goes on meanwhile.

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
        with Explained(path):
            self._database = self._connected()
        self._scans: WeakSet[Scan] = WeakSet()
        self._open = True
        self._failed = False  # RocksDB refuses all writes after one that failed
        self._distrust: BadDiskError | None = None  # of the disk: there is no next write
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
                raise CorruptStateError(f"shard {path}: its file CURRENT is missing. {REMEDY}")
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
        with Explained(self.path, row):
            value = self._database.get(_ROW + row)
        return None if value is None else self._opened(row, value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose name starts with `prefix`, in the order of their names' bytes.

        It shows the store as it was when `scan` was called, whatever is written meanwhile.
        """
        self._check_open()
        scan = Scan(self._database.iter(), _ROW, prefix, self._opened, self.path)
        self._scans.add(scan)
        return scan

    def names(self, prefix: bytes) -> Iterator[bytes]:
        """The names of those rows; quicker than `scan`, because their bytes are not looked at."""
        self._check_open()
        scan = Scan(self._database.iter(), _ROW, prefix, unread, self.path)
        self._scans.add(scan)
        return (name for name, _ in scan)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        """Make `rows` (None deletes) and `meta` durable: all of it or, after a crash, nothing.

        When it returns, both are on the disk. If `rows` raises while it is read, nothing is
        written. Raises DiskFullError if there is no room: `recover` is called before the next
        write. Any other StateError means that the disk cannot be trusted: that is raised again at
        each next write.
        """
        assert self._open
        if self._distrust is not None:
            raise BadDiskError(str(self._distrust))
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
            with self._trusted():
                self._database.write(batch)
                self._sync()
        except StateError:
            self._failed = True
            raise
        self._meta = meta

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Explains, and remembers, what RocksDB raises where it writes."""
        try:
            with Explained(self.path):
                yield
        except BadDiskError as error:
            if _MISSING not in str(error):
                self._distrust = error
            raise

    def _sync(self) -> None:
        # A write that syncs, too, would keep all other threads from running meanwhile: rocksdict
        # gives Python's lock back in this call, and in none that writes.
        self._database.flush_wal(sync=True)

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
        with Explained(self.path):
            self._database = self._connected()
        self._waits_to_reopen = False
        self._meta = self._read_meta()
        if self._meta != former:
            raise corrupt(self.path, None, "after a write that failed it is not what it was")
        self._failed = False

    def compact(self, rows: Iterable[bytes]) -> None:
        """Take the bytes of rows that were deleted out of tables and write-ahead log.

        Names may still be in RocksDB's own manifest and in its log of what it does: `recover`,
        which opens the database anew, is what takes them from there. Raises StateError.
        """
        self._check_open()
        everywhere = rocksdict.CompactOptions()
        everywhere.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        with self._trusted():
            self._database.flush()
            for row in rows:
                self._database.compact_range(_ROW + row, _ROW + row, compact_opt=everywhere)

    def checkpoint(self, path: Path) -> None:
        """Make a copy at `path`, which must not exist, that later writes do not alter.

        Hard links where the file system is the same, so it costs no space at first. `open` reads
        it. Raises StateError.
        """
        self._check_open()
        if path.exists():
            raise StateError(f"cannot put a checkpoint at {path}: it exists")
        make_directory(path.parent)
        for left in reversed(range(CHECKPOINT_TRIES_MAX)):
            try:
                with self._trusted():
                    self._database.flush()  # it would itself, and keep Python's lock
                    rocksdict.Checkpoint(self._database).create_checkpoint(str(path))
                break
            except StateError as error:
                # Seen once: a write-ahead log that RocksDB had listed was gone when it linked it.
                if not left or _MISSING not in str(error):
                    raise
                shutil.rmtree(path, ignore_errors=True)
        sync_directory(path.parent)

    def size_bytes(self) -> int:
        """About how many bytes the shard takes: its tables and what is not in a table yet."""
        self._check_open()
        sizes = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._database.property_int_value(name) or 0 for name in sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            with Explained(self.path):
                self._database.close()
        except DiskFullError:
            pass  # it would put what it has in memory into a table; its synced log has all of that
        except StateError:
            # RocksDB says once more that a write has failed; it is closed all the same.
            if not self._failed and self._distrust is None:
                raise

    def _opened(self, row: bytes, value: bytes) -> bytes:
        payload = value[DIGEST_BYTES:]
        if value[:DIGEST_BYTES] != digest(_ROW + row, payload):
            raise corrupt(self.path, row, "its bytes do not match their digest")
        return payload

    def _read_meta(self) -> ShardMeta | None:
        with Explained(self.path):
            value = self._database.get(_META)
        if value is None:
            if next(self.scan(b""), None) is not None:
                raise corrupt(self.path, None, "it has rows but no position")
            return None
        payload = value[DIGEST_BYTES:]
        if value[:DIGEST_BYTES] != digest(_META, payload):
            raise corrupt(self.path, None, "its position does not match its digest")
        why = f"has layout {payload[0]}, this Headrace writes layout {FORMAT}"
        if payload[0] == FORMAT:
            try:
                return _META_DECODER.decode(payload[1:])
            except msgspec.MsgspecError as error:
                why = f"says of its position what this Headrace does not know ({error})"
        raise ForeignStateError(
            f"shard {self.path} {why}: start the Headrace that wrote it, or use --state-dir"
            " elsewhere"
        )


def digest(name: bytes, payload: bytes) -> bytes:
    """BLAKE2b-128 over the name's length, the name and the payload: 16 bytes.

    >>> digest(b"rk/ada", b"weights").hex()
    'aec5a76fec513948521b08de04885553'
    """
    hasher = hashlib.blake2b(len(name).to_bytes(4, "big") + name, digest_size=DIGEST_BYTES)
    hasher.update(payload)
    return hasher.digest()
