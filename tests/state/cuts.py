"""Stores and cuts to test snapshots with."""

from __future__ import annotations

from pathlib import Path

from headrace.state.cut import Cut, Kind
from headrace.state.manifest import Versions
from headrace.state.store import ShardMeta, ShardStore
from tests.state.snapshot import MANIFEST

MINE = Versions(headrace="0.1.0", river="0.26.1", numpy="2.4.6", codec="1", python="3.11")
META = ShardMeta(
    next_offset=MANIFEST.next_offset,
    epoch=MANIFEST.epoch,
    spec_digest=MANIFEST.spec_digest,
    control_offset=MANIFEST.control_offset,
    cluster_id=MANIFEST.cluster_id,
    applied=MANIFEST.applied,
)
ROWS = {b"k/%d" % n: b"weights %d" % n for n in range(1_000)}


def cut(snapshot_id: str = "card-fraud.s1", *, kind: Kind = "automatic", **changes: object) -> Cut:
    """A cut of a store with META, but for the changes."""
    own = ("kind", "snapshot_id", "asked")  # what a manifest does not say, or is asked for here
    names = [name for name in Cut.__struct_fields__ if name not in own]
    said = {name: getattr(MANIFEST, name) for name in names} | changes
    return Cut(kind=kind, snapshot_id=snapshot_id, **said)


def stored(path: Path) -> ShardStore:
    """A new store with ROWS that stands at META."""
    store = ShardStore.open(path, create=True)
    store.write(ROWS.items(), META)
    return store


def rows(path: Path) -> dict[bytes, bytes]:
    """What a store at `path` holds; it is opened and closed."""
    store = ShardStore.open(path, create=False)
    found = dict(store.scan(b""))
    store.close()
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a directory, hidden ones too."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
