"""What differs between two states of a shard, row by row, whatever the rows mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from headrace.ports import Rows

NAMED_MAX = 1_000
"""Rows that are named at most; all others are only counted."""
_PREFIXES = (b"k/", b"u/", b"i/", b"s/")
_REST = ""
_END = (None, b"")


class Count(msgspec.Struct, kw_only=True):
    """How many rows only the later state has, only the earlier one, and both, otherwise."""

    added: int = 0
    removed: int = 0
    changed: int = 0


class Different(msgspec.Struct, frozen=True):
    """One row by its name, and what happened to it from the earlier state to the later."""

    row: bytes
    how: Literal["added", "removed", "changed"]


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """`counts` by prefix, "" for rows with another one, only of those where anything differs;
    `first`: the first rows that differ, in the order of their names' bytes.
    """

    counts: dict[str, Count]
    first: tuple[Different, ...]

    @property
    def total(self) -> int:
        """How many rows differ."""
        return sum(each.added + each.removed + each.changed for each in self.counts.values())


def compare(earlier: Rows, later: Rows, named: int = 20) -> Differences:
    """Walk through both stores at once, each from its first row to its last, and compare bytes.

    At most `named` rows (0 to NAMED_MAX) are named. Memory: two rows and those names. Time: both
    stores are read in full, a few seconds for a million rows each: call it off the event loop, on
    checkpoints and not on live stores. Raises StateError.

    >>> from headrace.state.checks import META
    >>> from headrace.state.memory import MemoryStore
    >>> earlier, later = MemoryStore(), MemoryStore()
    >>> earlier.write([(b"k/ada", b"1"), (b"k/bob", b"1"), (b"s/model", b"1")], META)
    >>> later.write([(b"k/ada", b"2"), (b"k/eve", b"1"), (b"s/model", b"1")], META)
    >>> found = compare(earlier, later)
    >>> found.counts
    {'k/': Count(added=1, removed=1, changed=1)}
    >>> [(each.row, each.how) for each in found.first]
    [(b'k/ada', 'changed'), (b'k/bob', 'removed'), (b'k/eve', 'added')]
    """
    assert 0 <= named <= NAMED_MAX
    counts: dict[str, Count] = {}
    first: list[Different] = []
    for different in _walk(earlier, later):
        prefix = different.row[:2]
        count = counts.setdefault(prefix.decode() if prefix in _PREFIXES else _REST, Count())
        setattr(count, different.how, getattr(count, different.how) + 1)
        if len(first) < named:
            first.append(different)
    return Differences(counts=counts, first=tuple(first))


def _walk(earlier: Rows, later: Rows) -> Iterator[Different]:
    """All rows that differ, by name. Both scans are in the order of the names' bytes."""
    olds, news = earlier.scan(b""), later.scan(b"")
    old, old_bytes = next(olds, _END)
    new, new_bytes = next(news, _END)
    while old is not None or new is not None:
        if new is None or (old is not None and old < new):
            assert old is not None
            yield Different(old, "removed")
            old, old_bytes = next(olds, _END)
        elif old is None or new < old:
            yield Different(new, "added")
            new, new_bytes = next(news, _END)
        else:
            if old_bytes != new_bytes:
                yield Different(old, "changed")
            old, old_bytes = next(olds, _END)
            new, new_bytes = next(news, _END)
