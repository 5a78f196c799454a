"""A store that keeps nothing: for tests, backtests and simulated worlds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from headrace.errors import StateError
from headrace.state.store import ShardMeta, ShardStore


class MemoryStore:
    """The laws of `ShardStore` over a dict, without its durability.

    >>> store = MemoryStore()
    >>> meta = ShardMeta(
    ...     next_offset=7, epoch=1, spec_digest="5f", control_offset=3, cluster_id="c"
    ... )
    >>> store.write([(b"k/ada", b"12"), (b"s/metrics", b"3")], meta)
    >>> list(store.scan(b"k/")), store.meta.next_offset, store.size_bytes()
    ([(b'k/ada', b'12')], 7, 17)
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._meta: ShardMeta | None = None
        self._open = True

    @property
    def meta(self) -> ShardMeta | None:
        """Where the shard stands as of the last `write`; None if there was none."""
        return self._meta

    def get(self, row: bytes) -> bytes | None:
        """The bytes of `row`, or None."""
        assert self._open
        return self._rows.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose name starts with `prefix`, sorted, as they are now."""
        assert self._open
        return iter(sorted(pair for pair in self._rows.items() if pair[0].startswith(prefix)))

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        """Take over `rows` (None deletes) and `meta`; nothing, if `rows` raises."""
        assert self._open
        for row, payload in list(rows):
            if payload is None:
                self._rows.pop(row, None)
            else:
                self._rows[row] = bytes(payload)
        self._meta = meta

    def recover(self) -> None:
        """Nothing: memory has room."""

    def checkpoint(self, path: Path) -> None:
        """Write the rows and the position as a `ShardStore` to `path`, which must not exist.

        Raises StateError.
        """
        assert self._open
        if path.exists():
            raise StateError(f"cannot put a checkpoint at {path}: it exists")
        copy = ShardStore.open(path, create=True)
        if self._meta is not None:
            copy.write(self._rows.items(), self._meta)
        copy.close()

    def size_bytes(self) -> int:
        """How many bytes the names and payloads of the rows have."""
        assert self._open
        return sum(len(row) + len(payload) for row, payload in self._rows.items())

    def close(self) -> None:
        """End it; its rows stay with the object and go with it."""
        self._open = False
