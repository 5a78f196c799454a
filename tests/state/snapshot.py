"""A snapshot to test with: its files, its manifest, and a look at what a repository holds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.state.manifest import FileEntry, Manifest, Versions
from headrace.state.repository import Repository, ShelfRepository, Snapshots
from headrace.state.store import AppliedRecord

CONTENT = {"CURRENT": b"MANIFEST-000005\n", "000012.sst": bytes(range(256)) * 9_000, "empty": b""}
FILES = (
    FileEntry(name="CURRENT", sha256="ab" * 32, size=16),
    FileEntry(name="000012.sst", sha256="cd" * 32, size=1 << 40),
)
MANIFEST = Manifest(
    snapshot_id="s-1",
    agent="card-fraud",
    epoch=3,
    spec_version=2,
    spec_digest="5f" * 32,
    topic="Pay/ments",
    partition=3,
    partitions=8,
    next_offset=1_000,
    applied=AppliedRecord(offset=999, timestamp=1_700_000_000_000, sha256="ef" * 32),
    cluster_id="a-cluster",
    control_offset=17,
    created_ms=1_700_000_000_123,
    versions=Versions(headrace="0.1.0", river="0.26.1", numpy="2.4.6", codec="1", python="3.11"),
    files=FILES,
)


def made(kept: Repository, checkpoint: list[Path], snapshot_id: str = "s-1") -> Manifest:
    """A snapshot's manifest over a checkpoint whose files are added."""
    files = tuple(kept.add_file(path).entry for path in checkpoint)
    return msgspec.structs.replace(MANIFEST, snapshot_id=snapshot_id, files=files)


def asked(kept: Snapshots, manifest: Manifest, vouched: str) -> Manifest:
    """The manifest that was asked for by what names it."""
    return kept.manifest(manifest.snapshot_id, manifest.topic, manifest.partition, vouched)


def blobs(kept: ShelfRepository, place: str = "blobs") -> set[str]:
    """The sums of the files that lie there."""
    return {object_.name.rpartition("/")[2] for object_ in kept._shelf.list(place)}


def replaced(kept: ShelfRepository, name: str, content: bytes) -> None:
    """Put other bytes under a name, as a bad disk or a bad person does."""
    kept._shelf.put(name, [content], size=len(content), create=False)


def blob(entry: FileEntry) -> str:
    return f"blobs/{entry.sha256[:2]}/{entry.sha256}"
