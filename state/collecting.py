"""Giving back the room of what no snapshot needs any more: files, and manifests that were left.

A removal or a rewrite that is cut short leaves manifests that the catalogue does not know any more,
so nobody finishes it: this does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from headrace.errors import CorruptStateError, ForeignStateError
from headrace.logs import fields
from headrace.state.manifest import ShardRef
from headrace.state.repository import GRACE_MS, Collected, Repository

log = logging.getLogger(__name__)


def collect(
    refs: Iterable[ShardRef], repository: Repository, older_than_ms: int = GRACE_MS
) -> Collected:
    """Remove manifests that are not among `refs`, and files that none of these names, after two
    grace times; see `Repository.collect`, also for why an upload under way loses nothing.

    `refs`: all that the catalogue vouches for. A rollback under way adds nothing to it: what that
    goes back to is vouched for, too, or is not published yet, and then what is here of it is young.
    Each of these manifests is read, one after the other, so it takes its time: do it in a thread,
    seldom, and better once at a time for one repository. That must be claimed: what another app's
    manifests name is in nobody's `refs`.

    If one of them cannot be read, nobody knows which files it needs: all of them stay, and each
    such snapshot is logged, until it is mended or deleted. Raises StateError.
    """
    keep: set[str] = set()
    unread = 0
    for ref in refs:
        try:
            manifest = repository.manifest(*ref)
        except (CorruptStateError, ForeignStateError) as error:
            unread += 1
            why = (
                f"{error}. Nothing is removed from the repository as long as snapshot"
                f" {ref.snapshot_id} is there and cannot be read: delete it, if it is not to be"
                f" mended"
            )
            log.error(  # noqa: TRY400
                "snapshots.not_collected", extra=fields(snapshot=ref.snapshot_id, error=why)
            )
            continue
        keep.add(ref.digest)
        keep |= {entry.sha256 for entry in manifest.files}
    if unread:
        return Collected(set_aside=0, taken_back=0, deleted=0, deleted_bytes=0)
    return repository.collect(keep, older_than_ms)
