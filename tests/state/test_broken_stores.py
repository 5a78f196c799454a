"""Stores that are broken, each in one way: whether the laws of a store find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from headrace.state import checks
from headrace.state.checks import DURABLE_LAWS, LAWS, META, Make, Open
from headrace.state.memory import MemoryStore
from headrace.state.store import ShardMeta, ShardStore


class NeverNew(MemoryStore):
    """Says that it stands somewhere before anything was written."""

    @property
    def meta(self) -> ShardMeta | None:
        return super().meta or META


class Forgetful(MemoryStore):
    """Finds no row by its name."""

    def get(self, row: bytes) -> bytes | None:
        return None


class KeepsDeleted(MemoryStore):
    """Takes None for an empty payload."""

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        super().write([(row, payload or b"") for row, payload in rows], meta)


class FirstWriteWins(MemoryStore):
    """Leaves a row that is there as it is, unless it is deleted."""

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        super().write([(r, p) for r, p in rows if p is None or r not in self._rows], meta)


class Unsorted(MemoryStore):
    """Scans in the order in which rows came."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([pair for pair in self._rows.items() if pair[0].startswith(prefix)])


class IgnoresPrefix(MemoryStore):
    """Scans all rows, whatever is asked for."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return super().scan(b"")


class ScansOn(MemoryStore):
    """Scans what is there when the next row is asked for."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        seen: set[bytes] = set()
        while left := [pair for pair in super().scan(prefix) if pair[0] not in seen]:
            seen.add(left[0][0])
            yield left[0]


class RowsWithoutMeta(MemoryStore):
    """Writes rows, and stays where it stood first."""

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        super().write(rows, self.meta or meta)


class Torn(MemoryStore):
    """Writes one row after the other, as they come."""

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        for row in rows:
            super().write([row], self.meta or meta)
        super().write([], meta)


class SharedCheckpoint(MemoryStore):
    """What is written goes into its checkpoint, too."""

    shared: Path | None = None

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta) -> None:
        rows = list(rows)
        super().write(rows, meta)
        if self.shared is not None:
            with ShardStore.open(self.shared, create=False) as copy:
                copy.write(rows, meta)

    def checkpoint(self, path: Path) -> None:
        super().checkpoint(path)
        self.shared = path


class Overwrites(MemoryStore):
    """Puts its checkpoint in the place of what is there."""

    def checkpoint(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().checkpoint(path)


class Weightless(MemoryStore):
    """Has no size."""

    def size_bytes(self) -> int:
        return 0


class ClosesOnce(MemoryStore):
    """Cannot be closed a second time."""

    def close(self) -> None:
        assert self._open
        super().close()


BREAKS: dict[type[MemoryStore], Callable[[Make], None]] = {
    NeverNew: checks.law_new_store_is_empty,
    Forgetful: checks.law_gives_back_what_was_written,
    KeepsDeleted: checks.law_none_deletes,
    FirstWriteWins: checks.law_last_write_wins,
    Unsorted: checks.law_scan_is_sorted_and_exact,
    IgnoresPrefix: checks.law_scan_is_sorted_and_exact,
    ScansOn: checks.law_scan_shows_one_moment,
    RowsWithoutMeta: checks.law_position_moves_with_its_rows,
    Torn: checks.law_write_is_all_or_nothing,
    SharedCheckpoint: checks.law_checkpoint_stays_as_it_was,
    Overwrites: checks.law_checkpoint_overwrites_nothing,
    Weightless: checks.law_size_grows,
    ClosesOnce: checks.law_close_twice,
}


@pytest.mark.parametrize("store", BREAKS, ids=lambda store: store.__name__)
def test_a_broken_store_breaks_its_law_and_no_other(store: type[MemoryStore]) -> None:
    """Each way to be broken is caught by the law that is about it."""
    broken = []
    for law in LAWS:
        try:
            law(store)
        except AssertionError:
            broken.append(law)
    assert broken == [BREAKS[store]]


def test_each_law_can_be_broken() -> None:
    """For each there is a store that keeps all others."""
    assert set(BREAKS.values()) == set(LAWS)


@pytest.mark.parametrize("law", DURABLE_LAWS, ids=lambda law: law.__name__)
def test_a_store_that_keeps_nothing_breaks_the_durable_law(
    law: Callable[[Open, Open, Path], None], tmp_path: Path
) -> None:
    """One in memory does not survive, and has as many openers as like."""
    with pytest.raises(AssertionError):
        law(lambda _: MemoryStore(), lambda _: MemoryStore(), tmp_path / "shard")
