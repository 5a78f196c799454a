"""Giving back the room of files that no snapshot needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.errors import CorruptStateError, ForeignStateError
from headrace.state.manifest import ShardRef
from headrace.state.repository import GRACE_MS, Collected, Repository


def collect(
    refs: Iterable[ShardRef], repository: Repository, older_than_ms: int = GRACE_MS
) -> Collected:
    """Remove files that none of the manifests `refs` names, after two grace times; see
    `Repository.collect`, also for why an upload under way loses nothing.

    `refs`: all that somebody may want to restore: what the catalogue vouches for, and what a
    rollback under way goes back to. Each of these manifests is read, one after the other, so it
    takes its time: do it in a thread, seldom, and once at a time for one repository. The repository
    must be claimed: what another app's manifests name is in nobody's `refs`.

    Raises StateError; CorruptStateError or ForeignStateError if one of them cannot be read, for
    nobody knows what it needs: then nothing is removed.
    """
    keep: set[str] = set()
    for ref in refs:
        try:
            manifest = repository.manifest(*ref)
        except (CorruptStateError, ForeignStateError) as error:
            raise type(error)(
                f"{error}. Nothing is removed from the repository as long as snapshot"
                f" {ref.snapshot_id} is there and cannot be read: delete it, if it is not to be"
                f" mended"
            ) from error
        keep |= {entry.sha256 for entry in manifest.files}
    return repository.collect(keep, older_than_ms)
