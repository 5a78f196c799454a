"""A complete snapshot in one file, to be carried elsewhere.

A plain tar (ustar) of regular files, in this order, each once:

index.json                what it is, and the digests of the manifests, by partition
manifests/<sha256>.json   of each partition
blobs/<sha256>            of each manifest's files, in its order

Who imports it needs the SHA-256 of the index from whoever exported it: that vouches for the index,
the index for the manifests, they for the files. All else is given: each header must be, byte for
byte, the one that this module writes, so there are no links, no paths and no surprises in a tar.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec

from headrace.clock import new_id
from headrace.errors import CorruptStateError, DiskFullError, ForeignStateError, StateError
from headrace.state import manifest as manifests
from headrace.state.disk import MAKE_ROOM, sync_directory
from headrace.state.fetching import verified
from headrace.state.manifest import FileEntry, Manifest, ShardRef, is_sha256
from headrace.state.repository import Repository, Snapshots
from headrace.state.tar import FILE_BYTES_MAX, TarReader, header

INDEX_BYTES_MAX = 4 << 20
"""An index of 50,000 partitions takes less."""
MANIFESTS_BYTES_MAX = 64 << 20
"""Of one archive: all are held in memory, because they are published last."""
_INDEX = "index.json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REMEDY = "Export the snapshot again, or ask whoever exported it for the digest"


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an archive holds: one snapshot of one agent, and the agent's spec as it was handed in.

    `manifests`: the digest of each partition's, by partition. What contradicts itself raises
    ValueError.

    >>> index = Index(
    ...     snapshot_id="fraud.s1", agent="fraud", topic="payments", manifests=("ab" * 32,), spec=""
    ... )
    >>> index.refs[0].partition, index.refs[0].digest[:4], digest_of(index)[:8]
    (0, 'abab', 'dc695f9d')
    """

    snapshot_id: str
    agent: str
    topic: str
    manifests: tuple[str, ...]
    spec: str
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not manifests.is_snapshot_id(self.snapshot_id):
            raise ValueError(f"{self.snapshot_id[:80]!r} is no id of a snapshot")
        if not self.manifests or not all(map(is_sha256, self.manifests)):
            raise ValueError("each partition has the SHA-256 of its manifest")

    @property
    def refs(self) -> tuple[ShardRef, ...]:
        """What the catalogue vouches for, by partition."""
        return tuple(
            ShardRef(self.snapshot_id, self.topic, partition, digest)
            for partition, digest in enumerate(self.manifests)
        )


def digest_of(index: Index) -> str:
    """SHA-256 of the index's one form in bytes (JSON with sorted keys), hexadecimal."""
    return manifests.digest(_encoded(index))


def export(shards: Sequence[ShardRef], spec: str, repository: Snapshots, path: Path) -> str:
    """Write the snapshot whose shards those are to `path`, which must not exist; its digest.

    `shards`: all partitions of one snapshot, as the catalogue vouches for them. Every byte is
    compared with its manifest on the way. `path` appears, durable, when all is written. Raises
    StateError (also for an incomplete snapshot), CorruptStateError, ForeignStateError,
    DiskFullError; then nothing is left.
    """
    refs = sorted(shards, key=lambda ref: ref.partition)
    found = [repository.manifest(*ref) for ref in refs]
    if not found:
        raise StateError("a snapshot without shards cannot be exported")
    index = Index(
        snapshot_id=found[0].snapshot_id,
        agent=found[0].agent,
        topic=found[0].topic,
        manifests=tuple(ref.digest for ref in refs),
        spec=spec,
    )
    _check_complete(index, found)
    draft = path.with_name(f".exporting-{new_id()}")
    with _explained(path):
        if path.exists():
            raise StateError(f"cannot export to {path}: it exists")
        draft.mkdir(mode=0o700)
        try:
            _write(draft, index, found, repository)
            (draft / "tar").rename(path)
            sync_directory(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return digest_of(index)


def import_(path: Path, expected: str, repository: Repository) -> Index:
    """Bring the archive at `path`, whose digest must be `expected`, into the repository.

    Steps: the index, compared with the digest before it is decoded; the manifests, compared with
    the index; each file, compared with its manifest and then added; the archive's end; and only
    then the manifests. Nothing vouches for them yet: whoever calls puts them into the catalogue.
    The same archive again changes nothing.

    Raises CorruptStateError (an archive that was altered, or another one), ForeignStateError,
    DiskFullError, StateError; then there is no manifest, and the files that were added before go
    with a later `collect`.
    """
    with _explained(path), path.open("rb") as file, TemporaryDirectory() as scratch:
        tar = TarReader(file, path)
        content = tar.member(_INDEX, INDEX_BYTES_MAX)
        if manifests.digest(content) != expected:
            raise CorruptStateError(
                f"{path} has digest {manifests.digest(content)}, not {expected[:80]}:"
                f" it is another archive, or it was altered. {_REMEDY}"
            )
        index = _decoded(content, path)
        found = list(_manifests(index, tar))
        _check_complete(index, found)
        for entry in _files(found):
            tar.expect(f"blobs/{entry.sha256}", entry.size)
            _add(entry, tar, Path(scratch), repository)
        tar.end()
    for manifest in found:
        repository.add_manifest(manifest)
    return index


def _write(draft: Path, index: Index, found: Sequence[Manifest], repository: Snapshots) -> None:
    """The archive at `draft`/tar, synced; files pass through `draft` one by one."""
    with (
        (draft / "tar").open("xb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        _put(tar, _INDEX, _encoded(index))
        for digest, manifest in zip(index.manifests, found, strict=True):
            _put(tar, f"manifests/{digest}.json", manifests.encode(manifest))
        for entry in _files(found):
            repository.fetch([entry], draft / "file")
            with (draft / "file" / entry.name).open("rb") as content:
                tar.addfile(header(f"blobs/{entry.sha256}", entry.size), content)
            shutil.rmtree(draft / "file")
    descriptor = os.open(draft / "tar", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(header(name, len(content)), BytesIO(content))


def _manifests(index: Index, tar: TarReader) -> Iterator[Manifest]:
    left = MANIFESTS_BYTES_MAX
    for digest in index.manifests:
        content = tar.member(f"manifests/{digest}.json", min(left, manifests.MANIFEST_BYTES_MAX))
        left -= len(content)
        yield manifests.decode(content, digest)


def _files(found: Sequence[Manifest]) -> list[FileEntry]:
    """Each file once, in the order in which manifests name them."""
    return list({entry.sha256: entry for each in found for entry in each.files}.values())


def _add(entry: FileEntry, tar: TarReader, scratch: Path, repository: Repository) -> None:
    """One file, whose bytes come next: compared first, then added."""
    path = scratch / entry.name
    with path.open("wb") as file:
        for piece in verified(entry, lambda _: tar.content(entry.size)):
            file.write(piece)
    repository.add_file(path, entry)
    path.unlink()


def _check_complete(index: Index, found: Sequence[Manifest]) -> None:
    """Raises StateError unless those are all shards of one cut, and can be in an archive."""
    first = found[0]
    size = 0
    for partition, manifest in enumerate(found):
        whose = (index.snapshot_id, index.agent, index.topic, partition, len(found))
        said = (manifest.snapshot_id, manifest.agent, manifest.topic, manifest.partition)
        cut = (manifest.epoch, manifest.spec_version, manifest.spec_digest)
        same = cut == (first.epoch, first.spec_version, first.spec_digest)
        if (*said, manifest.partitions) != whose or not same:
            raise StateError(
                f"snapshot {index.snapshot_id} has {len(found)} manifests that are not those of"
                f" one complete snapshot: wait until all its partitions are in, or name another"
            )
        content = manifests.encode(manifest)
        if manifests.digest(content) != index.manifests[partition]:
            raise ForeignStateError(
                f"the manifest of partition {partition} in snapshot {index.snapshot_id} is written"
                f" as another Headrace does: use the Headrace that wrote it"
            )
        size += len(content)
        large = [entry.name for entry in manifest.files if entry.size > FILE_BYTES_MAX]
        if large or size > MANIFESTS_BYTES_MAX:
            raise StateError(
                f"snapshot {index.snapshot_id} is too large for an archive: its manifests may have"
                f" {MANIFESTS_BYTES_MAX} bytes, a file {FILE_BYTES_MAX}"
            )
    sizes: dict[str, int] = {}
    for entry in (entry for manifest in found for entry in manifest.files):
        if sizes.setdefault(entry.sha256, entry.size) != entry.size:
            raise CorruptStateError(f"file {entry.sha256} has two sizes in {index.snapshot_id}")


def _encoded(index: Index) -> bytes:
    content = msgspec.json.encode(index, order="sorted")
    if len(content) > INDEX_BYTES_MAX:
        raise StateError(f"the index of an archive may have {INDEX_BYTES_MAX} bytes")
    return content


def _decoded(content: bytes, path: Path) -> Index:
    try:
        return msgspec.json.decode(content, type=Index)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ForeignStateError(
            f"the index of {path} is none that this Headrace reads ({error}): use the Headrace that"
            f" wrote it"
        ) from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
        what = f"archive {path}: {error.strerror}{where}"
        if error.errno in _NO_ROOM:
            raise DiskFullError(f"{what}. {MAKE_ROOM}") from error
        raise StateError(f"{what}. Mend that, or name another path") from error
