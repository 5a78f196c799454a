"""What is left in the repository: what the catalogue vouches for must be there, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

from headrace.errors import StateError
from headrace.state.catalogue import Catalogue, Vouched
from headrace.state.manifest import FileEntry, Manifest
from headrace.state.repositories import LocalRepository
from tests.crash.logs import Records


class Kept:
    """A repository in a directory, and the catalogue of `records`, of its topic."""

    def __init__(self, directory: Path, records: Records) -> None:
        self.catalogue = Catalogue()
        for record in records[0]:
            self.catalogue.apply(record.key, record.value, record.offset)
        self._blobs = directory / "blobs"
        self._repository = LocalRepository(directory)

    def missing(self) -> list[str]:
        """Sentences about manifests and files that are not as they are vouched for."""
        found = []
        files: dict[str, FileEntry] = {}
        for ref in self.catalogue.refs():
            try:
                manifest = self._repository.manifest(*ref)
            except StateError as error:
                found.append(str(error))
            else:
                files |= {entry.sha256: entry for entry in manifest.files}
        wrong = [entry for entry in files.values() if not self._is_whole(entry)]
        return [*found, *(f"{e.name} ({e.sha256}) is missing or altered" for e in wrong)]

    def newest(self, agent: str, life: int) -> list[Vouched]:
        """Of each kind of snapshot of an agent since that epoch the newest complete one: one of its
        shards, of another partition each.
        """
        found = {
            view.kind: view.snapshot_id
            for view in reversed(self.catalogue.snapshots(agent))  # oldest first
            if view.complete and view.epoch >= life
        }
        return [
            sorted(self.catalogue.shards(snapshot_id).items())[number][1]
            for number, (_, snapshot_id) in enumerate(sorted(found.items()))
        ]

    def fetch(self, shard: Vouched, directory: Path) -> None:
        """Its files. Raises StateError."""
        manifest: Manifest = self._repository.manifest(*shard.ref)
        self._repository.fetch(manifest.files, directory)

    def _is_whole(self, entry: FileEntry) -> bool:
        path = self._blobs / entry.sha256[:2] / entry.sha256
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
