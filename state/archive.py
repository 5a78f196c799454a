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

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state import manifest as manifests
from headrace.state.catalogue import Vouched
from headrace.state.cut import agent_of
from headrace.state.disk import explained, make_directory
from headrace.state.fetching import verified
from headrace.state.manifest import FileEntry, Manifest, ShardRef, Text, is_sha256
from headrace.state.repository import Repository, Snapshots
from headrace.state.sums import pieces
from headrace.state.tar import FILE_BYTES_MAX, Readable, TarReader, block, end_of, padding, size_of

INDEX_BYTES_MAX = 4 << 20
"""An index of 50,000 partitions takes less."""
MANIFESTS_BYTES_MAX = 64 << 20
"""Of one archive: all are held in memory, because they are published last."""
_INDEX = "index.json"
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

    snapshot_id: Text
    agent: Text
    topic: Text
    manifests: tuple[str, ...]
    spec: str
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not manifests.is_snapshot_id(self.snapshot_id):
            raise ValueError(f"{self.snapshot_id[:80]!r} is no id of a snapshot")
        if agent_of(self.snapshot_id) != self.agent:
            raise ValueError(f"{self.snapshot_id!r} is no snapshot of {self.agent[:80]!r}")
        if not self.manifests or not all(map(is_sha256, self.manifests)):
            raise ValueError("each partition has the SHA-256 of its manifest")

    @property
    def refs(self) -> tuple[ShardRef, ...]:
        """What the catalogue vouches for, by partition."""
        return tuple(
            ShardRef(self.snapshot_id, self.topic, partition, digest)
            for partition, digest in enumerate(self.manifests)
        )


_INDEX_DECODER = msgspec.json.Decoder(Index)


def digest_of(index: Index) -> str:
    """SHA-256 of the index's one form in bytes (JSON with sorted keys), hexadecimal."""
    return manifests.digest(_encoded(index))


class Exported(NamedTuple):
    """An archive on its way out: its digest, its size in bytes, and its bytes, a MiB at most at a
    time. Drawing them raises CorruptStateError, DiskFullError and StateError; what was drawn until
    then is no archive.
    """

    digest: str
    size_bytes: int
    pieces: Iterator[bytes]


def export(
    shards: Sequence[ShardRef], spec: str, repository: Snapshots, draft: Callable[[], Path]
) -> Exported:
    """The snapshot whose shards those are as an archive.

    `shards`: all partitions of one snapshot, as the catalogue vouches for them; `draft` gives a
    path at which nothing is. Each file passes through such a one, and is compared with its manifest
    there, before a byte of it is given; so one file at a time lies on the disk, and a MiB in
    memory. Raises StateError (also for an incomplete snapshot), CorruptStateError,
    ForeignStateError.
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
    head = [(_INDEX, _encoded(index))]
    for digest, manifest in zip(index.manifests, found, strict=True):
        head.append((f"manifests/{digest}.json", manifests.encode(manifest)))
    files = _files(found)
    sizes = [len(content) for _, content in head] + [entry.size for entry in files]
    return Exported(digest_of(index), size_of(sizes), _written(head, files, repository, draft))


class Imported(msgspec.Struct, frozen=True):
    """What an import brought: the manifests, by partition, and for each the bytes of its files that
    were not in the repository before.
    """

    index: Index
    manifests: tuple[Manifest, ...]
    new_bytes: tuple[int, ...]

    def vouched(self) -> list[Vouched]:
        """What the catalogue is to say of it: a user's snapshot, of another log for all we know."""
        # What was forgotten is an offset of the control log there: here it has forgotten nothing.
        own = {"schema", "forgotten"}
        both = set(Vouched.__struct_fields__) & set(Manifest.__struct_fields__) - own
        return [
            Vouched(
                kind="named",
                imported=True,
                digest=ref.digest,
                size_bytes=sum(entry.size for entry in manifest.files),
                new_bytes=new_bytes,
                **{name: getattr(manifest, name) for name in both},
            )
            for ref, manifest, new_bytes in zip(
                self.index.refs, self.manifests, self.new_bytes, strict=True
            )
        ]


class Import:
    """Brings an archive, whose digest must be `expected`, into a repository.

    Order of calls: `index`, once, then `files`, once. `called`: what the archive is called in
    errors; `draft` gives a path at which nothing is: files pass through such ones, one at a time.
    All raise CorruptStateError (an archive that was altered, or another one), ForeignStateError,
    DiskFullError, StateError, and what reading it raises.
    """

    def __init__(
        self, file: Readable, called: str, expected: str, draft: Callable[[], Path]
    ) -> None:
        self._tar = TarReader(file, called)
        self._called = called
        self._expected = expected
        self._draft = draft
        self._index: Index

    def index(self) -> Index:
        """What it holds. It is compared with the digest before it is decoded."""
        content = self._tar.member(_INDEX, INDEX_BYTES_MAX)
        if manifests.digest(content) != self._expected:
            # Its own is not told: who copies it from here has compared nothing.
            raise CorruptStateError(
                f"{self._called} does not have the digest {self._expected[:80]}: it is another"
                f" archive, or it was altered; or that is not what `headrace snapshot export`"
                f" printed, but a checksum of the file. {_REMEDY}"
            )
        self._index = _decoded(content, self._called)
        return self._index

    def files(self, repository: Repository) -> Imported:
        """Bring all that the index names.

        Steps: the manifests, compared with the index; each file, compared with its manifest and
        then added; the archive's end; and only then the manifests. Nothing vouches for them yet:
        whoever calls puts them into the catalogue. The same archive again changes nothing. If it
        raises there is no manifest, and the files that were added before go with a later `collect`.
        """
        index, tar = self._index, self._tar
        found = tuple(_manifests(index, tar))
        _check_complete(index, found)
        new = set()
        for entry in _files(found):
            tar.expect(f"blobs/{entry.sha256}", entry.size)
            if self._added(entry, repository):
                new.add(entry.sha256)
        tar.end()
        for manifest in found:
            repository.add_manifest(manifest)
        return Imported(index, found, tuple(_shares(found, new)))

    def _added(self, entry: FileEntry, repository: Repository) -> bool:
        """One file, whose bytes come next: compared first, then added. Whether it was new."""
        place = self._draft()
        with explained(place):
            make_directory(place)
            try:
                with (place / entry.name).open("wb") as file:
                    for piece in verified(entry, lambda _: self._tar.content(entry.size)):
                        file.write(piece)
                return repository.add_file(place / entry.name, entry).new
            finally:
                shutil.rmtree(place, ignore_errors=True)


def _written(
    head: Sequence[tuple[str, bytes]],
    files: Sequence[FileEntry],
    repository: Snapshots,
    draft: Callable[[], Path],
) -> Iterator[bytes]:
    """The archive's bytes."""
    for name, content in head:
        yield block(name, len(content))
        yield content
        yield padding(len(content))
    for entry in files:
        place = draft()
        repository.fetch([entry], place)
        try:
            yield block(f"blobs/{entry.sha256}", entry.size)
            yield from pieces(place / entry.name)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        yield padding(entry.size)
    sizes = [len(content) for _, content in head] + [entry.size for entry in files]
    yield end_of(sizes)


def _shares(found: Sequence[Manifest], new: set[str]) -> Iterator[int]:
    """For each manifest the bytes of new files that no manifest before it names."""
    left = set(new)
    for manifest in found:
        share = {e.sha256: e.size for e in manifest.files if e.sha256 in left}
        left -= share.keys()
        yield sum(share.values())


def _manifests(index: Index, tar: TarReader) -> Iterator[Manifest]:
    left, files_left = MANIFESTS_BYTES_MAX, manifests.FILES_MAX
    for digest in index.manifests:
        content = tar.member(f"manifests/{digest}.json", min(left, manifests.MANIFEST_BYTES_MAX))
        left -= len(content)
        found = manifests.decode(content, digest)
        files_left -= len(found.files)
        if files_left < 0:
            raise CorruptStateError(
                f"the manifests of snapshot {index.snapshot_id} have more than"
                f" {manifests.FILES_MAX} files. {_REMEDY}"
            )
        yield found


def _files(found: Sequence[Manifest]) -> list[FileEntry]:
    """Each file once, in the order in which manifests name them."""
    return list({entry.sha256: entry for each in found for entry in each.files}.values())


def _check_complete(index: Index, found: Sequence[Manifest]) -> None:
    """Raises StateError unless those are all shards of one cut, and can be in an archive."""
    first = found[0]
    size = files = 0
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
        files += len(manifest.files)
        large = [entry.name for entry in manifest.files if entry.size > FILE_BYTES_MAX]
        if large or size > MANIFESTS_BYTES_MAX or files > manifests.FILES_MAX:
            raise StateError(
                f"snapshot {index.snapshot_id} is too large for an archive: its manifests may have"
                f" {MANIFESTS_BYTES_MAX} bytes and {manifests.FILES_MAX} files, and a file"
                f" {FILE_BYTES_MAX} bytes"
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


def _decoded(content: bytes, called: str) -> Index:
    try:
        return _INDEX_DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ForeignStateError(
            f"the index of {called} is none that this Headrace reads ({error}): use the Headrace"
            f" that wrote it"
        ) from None
