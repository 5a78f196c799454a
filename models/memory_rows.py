"""Rows in a dictionary: what a shard's store is to a learner, where nothing has to survive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["Changing", "MemoryRows"]


class Changing(Protocol):
    """What has rows to flush: a learner, or a model in rows."""

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]: ...

    def flushed(self) -> object: ...


class MemoryRows:
    """`headrace.ports.Rows` in memory, as durable as the process; empty at first.

    >>> from headrace.models.recommend import MostPopular
    >>> from headrace.models.recommend.row_model import row_model
    >>> model, rows = row_model(MostPopular()), MemoryRows()
    >>> model.learn_one("ann", "up", 5.0)
    >>> rows.flush(model)
    [b'u/ann', b'i/up']
    >>> len(rows.get(b"i/up")), [row for row, _ in rows.scan(b"u/")]
    (5, [b'u/ann'])
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, row: bytes) -> bytes | None:
        return self.rows.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(pair for pair in self.rows.items() if pair[0].startswith(prefix)))

    def flush(self, source: Changing) -> list[bytes]:
        """Take over what changed, as a shard's flush does; returns the names of the rows."""
        changed = list(source.changed())
        for row, data in changed:
            if data is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = data
        source.flushed()
        return [row for row, _ in changed]
