"""Giving back the room of what no snapshot needs any more: files, and manifests that were left.

A removal or a rewrite that is cut short leaves manifests that the catalogue does not know any more,
so nobody finishes it: this does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.errors import CorruptStateError, ForeignStateError
from headrace.logs import fields
from headrace.state.manifest import ShardRef
from headrace.state.repository import GRACE_MS, Collected, Repository

log = logging.getLogger(__name__)


class Needed(NamedTuple):
    """What manifests need: their own digests and the sums that they name. `unread`: those that
    could not be read, and why.

    >>> gone, damaged = (ShardRef(name, "payments", 0, "ab" * 32) for name in ("a.s1", "a.s2"))
    >>> needed = Needed({"cd" * 32}, {gone: "it is missing", damaged: "it was altered"})
    >>> [ref.snapshot_id for ref in needed.among([damaged]).unread]
    ['a.s2']
    """

    sums: set[str]
    unread: Mapping[ShardRef, str]

    def among(self, refs: Iterable[ShardRef]) -> Needed:
        """The same, but for what could not be read and is not among `refs`, all that is vouched for
        by now: it was removed or written anew meanwhile, so it needs nothing.
        """
        vouched = set(refs)
        return Needed(self.sums, {r: why for r, why in self.unread.items() if r in vouched})


def needed_by(refs: Iterable[ShardRef], repository: Repository) -> Needed:
    """What `refs` need: all that the catalogue vouches for. A rollback under way adds nothing to
    it: what that goes back to is vouched for, too, or is not published yet, and then what is here
    of it is young.

    Each of these manifests is read, one after the other, so it takes its time: do it in a thread,
    seldom, and better once at a time for one repository. Raises StateError.
    """
    sums: set[str] = set()
    unread: dict[ShardRef, str] = {}
    for ref in refs:
        try:
            manifest = repository.manifest(*ref)
        except (CorruptStateError, ForeignStateError) as error:
            unread[ref] = str(error)
            continue
        sums.add(ref.digest)
        sums |= {entry.sha256 for entry in manifest.files}
    return Needed(sums, unread)


def collect(needed: Needed, repository: Repository, older_than_ms: int = GRACE_MS) -> Collected:
    """Remove manifests and files that are not `needed`, after two grace times; see
    `Repository.collect`, also for why an upload under way loses nothing. The repository must be
    claimed: what another app's manifests name is needed by nobody here.

    If a manifest could not be read, nobody knows which files it needs: all of them stay, and each
    such snapshot is logged, until it is mended or deleted. Raises StateError.
    """
    for ref, error in needed.unread.items():
        why = (
            f"{error}. Nothing is removed from the repository as long as snapshot"
            f" {ref.snapshot_id} is there and cannot be read: delete it, if it is not to be mended"
        )
        log.error("snapshots.not_collected", extra=fields(snapshot=ref.snapshot_id, error=why))
    if needed.unread:
        return Collected(set_aside=0, taken_back=0, deleted=0, deleted_bytes=0)
    return repository.collect(needed.sums, older_than_ms)
