"""The laws of a store, each a function with one idea.

A law takes a function that makes a new, empty store, and raises AssertionError when it is
broken. `LAWS` holds for every `Store`; `DURABLE_LAWS` take two functions, `make(path)` and
`reopen(path)`, and hold for stores that survive their process. Whoever writes another store runs
them:

>>> from headrace.state.memory import MemoryStore
>>> for law in LAWS:
...     law(MemoryStore)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from headrace.errors import StateError
from headrace.state.store import AppliedRecord, ShardMeta, ShardStore, Store

Make = Callable[[], Store]
Open = Callable[[Path], Store]

META = ShardMeta(
    next_offset=1_000,
    epoch=3,
    spec_digest="ab" * 32,
    control_offset=17,
    cluster_id="a-cluster",
    applied=AppliedRecord(offset=999, timestamp=1_700_000_000_000, sha256="cd" * 32),
)
# Names and payloads that a careless layout would mix up.
ODD_ROWS: dict[bytes, bytes] = {
    b"": b"the empty name",
    b"m": b"the name of the meta's key",
    b"r": b"the name of the rows' key space",
    b"\x00": b"\x00",
    b"\xff\xff": b"the last name",
    b"k/": b"",
    b"k/\x00": b"zero",
    b"k/a": bytes(100_000),
    b"k/ab": b"a longer name",
    b"k/\xff\xff": b"the last key",
    b"l": b"after the keys",
}


def law_new_store_is_empty(make: Make) -> None:
    """A new store has no position and no rows."""
    store = make()
    assert store.meta is None
    assert list(store.scan(b"")) == []
    assert store.get(b"k/a") is None
    store.close()


def law_gives_back_what_was_written(make: Make) -> None:
    """Every row comes back byte for byte, whatever its name, and so does the position."""
    store = make()
    store.write(ODD_ROWS.items(), META)
    assert {name: store.get(name) for name in ODD_ROWS} == ODD_ROWS
    assert store.meta == META
    store.close()


def law_none_deletes(make: Make) -> None:
    """A row written as None is gone; to delete what is not there is allowed."""
    store = make()
    store.write([(b"k/a", b"1"), (b"k/b", b"2")], META)
    store.write([(b"k/a", None), (b"k/never", None)], META)
    assert list(store.scan(b"")) == [(b"k/b", b"2")]
    store.close()


def law_last_write_wins(make: Make) -> None:
    """A row written again, later or in the same write, has its last payload."""
    store = make()
    store.write([(b"a", b"1"), (b"b", b"1")], META)
    store.write([(b"a", b"2"), (b"a", b"3"), (b"b", b"2"), (b"b", None), (b"b", b"4")], META)
    assert list(store.scan(b"")) == [(b"a", b"3"), (b"b", b"4")]
    store.close()


def law_scan_is_sorted_and_exact(make: Make) -> None:
    """A scan yields the rows with the prefix, no others, in the order of their names' bytes."""
    store = make()
    store.write(reversed(ODD_ROWS.items()), META)
    for prefix in (b"", b"k/", b"k/a", b"m", b"\xff", b"k/\xff\xff", b"nothing"):
        expected = sorted(pair for pair in ODD_ROWS.items() if pair[0].startswith(prefix))
        assert list(store.scan(prefix)) == expected, prefix
    store.close()


def law_scan_shows_one_moment(make: Make) -> None:
    """A scan shows the store as it was when it was called, not what is written meanwhile."""
    store = make()
    store.write([(b"k/a", b"1"), (b"k/c", b"1")], META)
    scan = store.scan(b"k/")
    assert next(scan) == (b"k/a", b"1")
    store.write([(b"k/b", b"2"), (b"k/c", None)], META)
    assert list(scan) == [(b"k/c", b"1")]
    store.close()


def law_position_moves_with_its_rows(make: Make) -> None:
    """A write without rows moves the position and leaves every row as it is."""
    store = make()
    store.write([(b"k/a", b"1")], META)
    later = msgspec.structs.replace(META, next_offset=2_000, applied=None)
    store.write([], later)
    assert store.meta == later
    assert list(store.scan(b"")) == [(b"k/a", b"1")]
    store.close()


def law_write_is_all_or_nothing(make: Make) -> None:
    """Rows that fail half-way through leave rows and position as they were."""

    def failing() -> Iterator[tuple[bytes, bytes | None]]:
        yield b"k/a", b"2"
        yield b"k/b", None
        raise ArithmeticError

    store = make()
    before: dict[bytes, bytes] = {b"k/a": b"1", b"k/b": b"1"}
    store.write(before.items(), META)
    try:
        store.write(failing(), msgspec.structs.replace(META, next_offset=2_000))
    except ArithmeticError:
        pass
    else:
        raise AssertionError("the error of the rows must reach the caller")
    assert dict(store.scan(b"")) == before
    assert store.meta == META
    store.close()


def law_checkpoint_stays_as_it_was(make: Make) -> None:
    """A checkpoint is a store with the same rows and position; later writes do not alter it."""
    store = make()
    store.write(ODD_ROWS.items(), META)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "one" / "checkpoint"
        store.checkpoint(path)
        store.write([(name, None) for name in ODD_ROWS], msgspec.structs.replace(META, epoch=4))
        copy = ShardStore.open(path, create=False)
        assert dict(copy.scan(b"")) == ODD_ROWS
        assert copy.meta == META
        copy.close()
    store.close()


def law_checkpoint_overwrites_nothing(make: Make) -> None:
    """A checkpoint to a path that exists is refused and leaves it alone."""
    store = make()
    store.write([(b"k/a", b"1")], META)
    with TemporaryDirectory() as directory:
        kept = Path(directory) / "kept"
        kept.write_bytes(b"somebody's")
        try:
            store.checkpoint(kept)
        except StateError:
            pass
        else:
            raise AssertionError("a checkpoint must not overwrite")
        assert kept.read_bytes() == b"somebody's"
    store.close()


def law_size_grows(make: Make) -> None:
    """The size is at least that of a payload that does not compress."""
    store = make()
    noise = bytes((i * i * 2_654_435_761 >> 13) & 0xFF for i in range(100_000))
    before = store.size_bytes()
    store.write([(b"k/a", noise)], META)
    assert store.size_bytes() >= before + 50_000
    store.close()


def law_close_twice(make: Make) -> None:
    """A second close does nothing; a scan left half-way does not hinder the first."""
    store = make()
    store.write([(b"k/a", b"1"), (b"k/b", b"2")], META)
    scan = store.scan(b"k/")
    next(scan)
    store.close()
    store.close()


def durable_law_survives_close(make: Open, reopen: Open, path: Path) -> None:
    """What was written is there after close and reopen, with a scan left half-way too."""
    store = make(path)
    store.write(ODD_ROWS.items(), META)
    scan = store.scan(b"k/")
    next(scan)
    store.close()
    again = reopen(path)
    assert dict(again.scan(b"")) == ODD_ROWS
    assert again.meta == META
    again.close()


def durable_law_one_opener(make: Open, reopen: Open, path: Path) -> None:
    """A store that is open cannot be opened a second time."""
    store = make(path)
    try:
        reopen(path)
    except StateError:
        pass
    else:
        raise AssertionError("two writers on one store")
    store.close()


LAWS: tuple[Callable[[Make], None], ...] = (
    law_new_store_is_empty,
    law_gives_back_what_was_written,
    law_none_deletes,
    law_last_write_wins,
    law_scan_is_sorted_and_exact,
    law_scan_shows_one_moment,
    law_position_moves_with_its_rows,
    law_write_is_all_or_nothing,
    law_checkpoint_stays_as_it_was,
    law_checkpoint_overwrites_nothing,
    law_size_grows,
    law_close_twice,
)
DURABLE_LAWS: tuple[Callable[[Open, Open, Path], None], ...] = (
    durable_law_survives_close,
    durable_law_one_opener,
)
