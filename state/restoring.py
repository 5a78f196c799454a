"""Putting the state of a snapshot at a draft, from this disk if that has it, else from afar.

Whatever it comes from, its files are compared with the manifest that the logs vouch for before
anybody opens a store on them; tables that this process hashed itself for that manifest, by name and
size only.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from headrace.errors import (
    BadDiskError,
    CorruptStateError,
    DiskFullError,
    OtherBuildError,
    StateError,
)
from headrace.logs import fields
from headrace.state.checkpoints import Checkpoints, link_or_copy, shard_files
from headrace.state.disk import TABLE, explained
from headrace.state.manifest import Manifest, ShardRef, Versions
from headrace.state.repository import Snapshots
from headrace.state.sums import sum_file

log = logging.getLogger(__name__)


Accepts = Callable[[Manifest, Path], list[str]]
"""Says what the state at a draft, which another build wrote, does not reproduce of the manifest's
probes: one text each, none if all is reproduced. It closes whatever it opens there.
"""
_DIFFERENCES_SHOWN = 3
REFOLD = "or learn the log again: `headrace deploy SPEC --migration refold`"
"""What is always left to do with the state of another build."""


class Sources(NamedTuple):
    """Where the files of a snapshot may be; without `checkpoints` only afar."""

    checkpoints: Checkpoints | None
    repository: Snapshots


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put at the draft, and whether it is linked to a checkpoint here or was fetched."""

    manifest: Manifest
    source: Literal["checkpoint", "repository"]


def manifest_of(ref: ShardRef, sources: Sources) -> Manifest:
    """The manifest that `ref` vouches for, made again from a checkpoint here or read from afar.

    Raises CorruptStateError, ForeignStateError, StateError.
    """
    here = None if sources.checkpoints is None else sources.checkpoints.manifest(*ref)
    return here or sources.repository.manifest(*ref)


def restore(
    ref: ShardRef, sources: Sources, draft: Path, versions: Versions, accepts: Accepts | None = None
) -> Restored:
    """Make `draft`, which must not exist, from the files of one shard in a snapshot.

    Steps: its manifest, compared with the digest; its build, compared with this one's `versions`;
    its files, from a checkpoint on this disk, else from the repository, all compared with the
    manifest. Tables that this process hashed for that very manifest are not hashed again. A store
    may be opened at `draft` then, and `StateDirectory.adopt` makes it durable.

    Another build's state is refused before any file is touched if there is no `accepts` or if there
    are no probes. Else `accepts` is asked when the draft is as the manifest says: verified first.

    Raises OtherBuildError (another build's state that nobody accepts), CorruptStateError (bytes
    that are not those vouched for, here and in the repository), DiskFullError, StateError; then
    nothing is left at `draft`.
    """
    if draft.exists():
        raise StateError(f"cannot restore files into {draft}: it exists")
    manifest = manifest_of(ref, sources)
    foreign = manifest.versions != versions
    if accepts is None or not manifest.probes:
        check_build(manifest, versions)
    here = _from_checkpoint(ref, manifest, sources.checkpoints, draft)
    if not here:
        sources.repository.fetch(manifest.files, draft)
    if foreign and accepts is not None:
        check_probes(manifest, draft, versions, accepts)
    return Restored(manifest=manifest, source="checkpoint" if here else "repository")


def check_build(manifest: Manifest, versions: Versions) -> None:
    """Raises OtherBuildError, with what differs, unless that build wrote the state."""
    if manifest.versions != versions:
        raise OtherBuildError(
            f"snapshot {manifest.snapshot_id} was written with"
            f" {differing(manifest.versions, versions)}, and it has no probes that could show how"
            f" its models go on here: start the build that wrote it, {REFOLD}"
        )


def differing(wrote: Versions, versions: Versions) -> str:
    """In what the build that wrote a state differs from this one.

    >>> mine = Versions(headrace="0", river="0.26.1", numpy="2", codec="1", python="3.11")
    >>> differing(msgspec.structs.replace(mine, river="0.25.0"), mine)
    'river 0.25.0 (this is 0.26.1)'
    """
    return ", ".join(
        f"{name} {getattr(wrote, name)} (this is {getattr(versions, name)})"
        for name in Versions.__struct_fields__
        if getattr(wrote, name) != getattr(versions, name)
    )


def check_probes(manifest: Manifest, draft: Path, versions: Versions, accepts: Accepts) -> None:
    """Let `accepts` try the probes on the files at `draft`, which are those of the manifest.

    Raises OtherBuildError if there are differences, and what `accepts` raises; then nothing is left
    at `draft`.
    """
    try:
        differences = accepts(manifest, draft)
        if differences:
            shown = "; ".join(differences[:_DIFFERENCES_SHOWN])
            beyond = len(differences) - _DIFFERENCES_SHOWN
            more = f"; and {beyond} more" if beyond > 0 else ""
            raise OtherBuildError(
                f"snapshot {manifest.snapshot_id} was written with"
                f" {differing(manifest.versions, versions)}, and its models do not go on here as"
                f" they did there ({shown}{more}): start the build that wrote it, {REFOLD}",
                differences,
            )
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _from_checkpoint(
    ref: ShardRef, manifest: Manifest, checkpoints: Checkpoints | None, draft: Path
) -> bool:
    """Whether `draft` could be made from a checkpoint on this disk; if not, nothing is left."""
    if checkpoints is None:
        return False
    place = (ref.snapshot_id, ref.topic, ref.partition)
    checkpoint, cut = checkpoints.find(*place), checkpoints.cut(*place)
    # Another one may lie here under that id: of a crash before, or of a name that was given anew.
    if checkpoint is None or cut is None or cut.manifest(manifest.files) != manifest:
        return False
    hashed = checkpoints.entries(*ref) is not None
    try:
        link_or_copy(checkpoint, draft)
        # The draft is looked at and not the checkpoint: what was compared is what is opened.
        _verify(draft, manifest, tables=not hashed)
    except StateError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, DiskFullError | BadDiskError):
            raise
        log.error(  # noqa: TRY400 - the text says all; the repository may have it sound
            "checkpoint.damaged",
            extra=fields(snapshot=ref.snapshot_id, partition=ref.partition, error=str(error)),
        )
        return False
    return True


def _verify(directory: Path, manifest: Manifest, *, tables: bool) -> None:
    """Raises CorruptStateError unless exactly the manifest's files are there, with its sums.

    Not `tables`: of these only name and size are compared.
    """
    there = {path.name: path for path in shard_files(directory)}
    wanted = {entry.name: entry for entry in manifest.files}
    if there.keys() != wanted.keys():
        # One too many is as bad as one too few: RocksDB would read a log that it finds.
        odd = sorted(there.keys() ^ wanted.keys())
        raise CorruptStateError(f"its files are not those of its manifest: {', '.join(odd[:5])}")
    for name, path in there.items():
        if name.endswith(TABLE) and not tables:
            with explained(directory):
                same = path.stat().st_size == wanted[name].size
        else:
            same = sum_file(path) == wanted[name]
        if not same:
            raise CorruptStateError(f"{name} does not have the bytes that its manifest names")
