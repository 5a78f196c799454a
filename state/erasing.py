"""Taking rows out of a store so that no file of it has a byte of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from headrace.state.options import StoreOptions
from headrace.state.store import ShardStore, Store


def rows_of(store: Store, is_gone: Callable[[bytes], bool]) -> list[bytes]:
    """The names of those rows. It looks at all names: about a second for a million of them."""
    return [name for name in store.names(b"") if is_gone(name)]


def erase(
    path: Path, is_gone: Callable[[bytes], bool], forgotten: int, options: StoreOptions
) -> list[bytes]:
    """Erase rows from the closed store at `path`, a draft; their names.

    `is_gone` tells of a row's name whether it goes, `forgotten` is what the meta is to say then.
    Raises StateError.
    """
    with ShardStore.open(path, create=False, options=options, compact=False) as store:
        assert store.meta is not None
        gone = rows_of(store, is_gone)
        meta = msgspec.structs.replace(store.meta, forgotten=forgotten)
        store.write(((name, None) for name in gone), meta)
        if gone:
            take_out(store, gone)
    return gone


def take_out(store: Store, gone: Iterable[bytes]) -> None:
    """Take the bytes of deleted rows out of all files of a store. Scans of it end."""
    store.compact(gone)
    store.recover()
