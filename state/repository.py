"""Where snapshots are kept: files by their sum, and manifests that name them.

<repository>/
  owner.json               the one app whose snapshots these are
  manifests/<snapshot-id>/<topic>@<partition>.<0123456789abcdef>.json
                           what belongs together, and who it is; named by its own digest, too
  blobs/<ab>/<abcd…>       files, named by the SHA-256 of their bytes, each once
  trash/<ab>/<abcd…>       files that no snapshot seemed to need; see `Repository.collect`

Nothing here is ever changed, only added and removed. What is read is checked against a sum that
came another way: files against their manifest, a manifest against the digest that the logs keep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from headrace.errors import CorruptStateError, ForeignStateError, StateError
from headrace.state import manifest as manifests
from headrace.state.directory import escaped
from headrace.state.fetching import fetch_files
from headrace.state.localshelf import DRAFTS, LocalShelf
from headrace.state.manifest import FileEntry, Manifest, ShardRef
from headrace.state.owner import OWNER, Owner, told
from headrace.state.shelf import Shelf
from headrace.state.sums import pieces, sum_file

GRACE_MS = 3 * 24 * 3_600_000
"""A grace time for `collect` that is safe with every kind of repository; see there."""
_MANIFESTS = "manifests"
_BLOBS = "blobs"
_TRASH = "trash"
_SHA256_DIGITS = 64
DIGEST_DIGITS = 16
"""Of a manifest's digest, in its name."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What `collect` did: files it set aside, took back and deleted, and the bytes of the last."""

    set_aside: int
    taken_back: int
    deleted: int
    deleted_bytes: int


class Added(NamedTuple):
    """A file that the repository keeps, and whether its bytes had to be brought there.

    In an object store what is there already is brought again once a day; that counts, too.
    """

    entry: FileEntry
    new: bool


class Snapshots(Protocol):
    """What can be read from a repository. All raise StateError if it cannot be reached."""

    def snapshots(self) -> Sequence[str]:
        """The ids of all snapshots of which something is there, sorted; complete ones or not."""
        ...

    def manifest(self, snapshot_id: str, topic: str, partition: int, digest: str) -> Manifest:
        """The manifest of that shard, if it is the one that `digest` vouches for.

        Raises CorruptStateError if it is missing, altered or another's, ForeignStateError if
        another Headrace wrote it in another form.
        """
        ...

    def fetch(self, entries: Sequence[FileEntry], directory: Path) -> None:
        """Make `directory`, which must not exist, with those files, durable.

        It becomes visible when every file has its size and its SHA-256, not before. Raises
        CorruptStateError for a file that is missing or has not, DiskFullError, StateError;
        then nothing is left.
        """
        ...


class Repository(Snapshots, Protocol):
    """What can be added and removed. All raise StateError, DiskFullError.

    Order of calls: `add_file` for every file of a checkpoint, then `add_manifest`, and only then
    its digest may go into a log. A process that dies in between leaves files that nobody names,
    and `collect` finds them. Every verb may be called from several threads and processes at once.
    """

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        """Keep the bytes of `path`, which nobody alters meanwhile, unless they are there already.

        When it returns they are durable. What is there already gets young again (see `collect`).
        `known`: its entry, from a caller who has hashed it: what is there already is not read then.
        """
        ...

    def add_manifest(self, manifest: Manifest) -> str:
        """Keep `manifest` and return its digest. When it returns it is durable.

        The same one again is fine, and puts right what was damaged under its name. Another one of
        the same shard in the same snapshot may be there, too: both stay until `remove`, and which
        one counts the catalogue says.
        """
        ...

    def remove(self, snapshot_id: str) -> None:
        """Remove the manifests of a snapshot; its files go with a later `collect`.

        A crash half-way leaves a part of them: call it again.
        """
        ...

    def withdraw(self, ref: ShardRef) -> None:
        """Remove all manifests of one shard in a snapshot but the one that `ref` vouches for."""
        ...

    def claim(self, owner: Owner) -> None:
        """Make it the owner's if it is nobody's yet.

        Raises ForeignStateError if it is another's, or says so in a form that is not ours.
        """
        ...

    def collect(self, keep: AbstractSet[str], older_than_ms: int) -> Collected:
        """Remove files whose SHA-256 is not in `keep` and that are older than a grace time.

        `keep`: the sums that all manifests name, read before the call. One call at a time for one
        repository. It takes two steps, each after the grace time: a file is set aside first, where
        `fetch` still finds it, and deleted by a later call, or taken back by it if a manifest names
        it by then.

        Why an upload under way loses nothing: it adds files, which are young then, or finds them
        there, which makes them young. Should a file be set aside at the very moment in which an
        upload finds it (no object store can look and move in one step), then that upload's manifest
        is there within the grace time, so in the `keep` of every call that could delete the file.
        Hence the grace time must be longer than the longest upload, from its first file to its
        manifest, and the time from reading the manifests to the end of `collect`, both together.
        In an object store a file gets young again only once it is a day old, so there two days are
        the least that sets nothing aside in vain. `GRACE_MS` is enough for all of that. Ages are
        read from the repository's own clock: a wrong clock on this machine deletes nothing.
        """
        ...


class ShelfRepository:
    """The laws of a repository, over any shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def snapshots(self) -> Sequence[str]:
        found = {kept.name.split("/")[1] for kept in self._shelf.list(_MANIFESTS)}
        return sorted(name for name in found if manifests.is_snapshot_id(name))

    def manifest(self, snapshot_id: str, topic: str, partition: int, digest: str) -> Manifest:
        name = _manifest_name(snapshot_id, topic, partition, digest)
        content = self._read(name)
        if content is None:
            raise CorruptStateError(
                f"{name} is missing, although its digest is known: restore another snapshot, or"
                f" look whether this is the repository that was written to"
            )
        found = manifests.decode(content, digest)
        asked = (snapshot_id, topic, partition)
        if (found.snapshot_id, found.topic, found.partition) != asked:
            raise CorruptStateError(
                f"{name} holds the manifest of {found.topic}@{found.partition} in snapshot"
                f" {found.snapshot_id}: restore another snapshot"
            )
        return found

    def fetch(self, entries: Sequence[FileEntry], directory: Path) -> None:
        fetch_files(entries, directory, self._blob)

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        assert known is None or known.name == path.name
        entry = known or sum_file(path)
        name = _blob_name(_BLOBS, entry.sha256)
        if self._shelf.refresh(name, entry.size):
            return Added(entry, new=False)
        # Not on condition that it is absent: under that name are these bytes or damaged ones.
        self._shelf.put(name, _unaltered(path, entry), size=entry.size, create=False)
        return Added(entry, new=True)

    def add_manifest(self, manifest: Manifest) -> str:
        content = manifests.encode(manifest)
        digest = manifests.digest(content)
        name = _manifest_name(manifest.snapshot_id, manifest.topic, manifest.partition, digest)
        new = self._shelf.put(name, [content], size=len(content), create=True)
        if not new and self._read(name) != content:  # damaged: nothing else has that name
            self._shelf.put(name, [content], size=len(content), create=False)
        return digest

    def remove(self, snapshot_id: str) -> None:
        for kept in list(self._shelf.list(f"{_MANIFESTS}/{_checked(snapshot_id)}")):
            self._shelf.delete(kept.name)

    def withdraw(self, ref: ShardRef) -> None:
        kept = _manifest_name(*ref)
        others = kept.removesuffix(f"{ref.digest[:DIGEST_DIGITS]}.json")
        for other in list(self._shelf.list(f"{_MANIFESTS}/{_checked(ref.snapshot_id)}")):
            if other.name.startswith(others) and other.name != kept:
                self._shelf.delete(other.name)

    def claim(self, owner: Owner) -> None:
        content = msgspec.json.encode(owner, order="sorted")
        if self._shelf.put(OWNER, [content], size=len(content), create=True):
            return
        there = self._read(OWNER)
        if there == content:
            return
        raise ForeignStateError(
            f"the snapshots there are {told(there)}, and this is app {owner.app!r} in cluster"
            f" {owner.cluster_id}; each would delete the other's files: name another place with"
            f" --snapshots. What is to be had from there can be exported by its owner"
        )

    def collect(self, keep: AbstractSet[str], older_than_ms: int) -> Collected:
        assert older_than_ms >= 0
        now_ms = self._shelf.now_ms()
        taken_back = deleted = deleted_bytes = set_aside = 0
        for kept in list(self._shelf.list(_TRASH)):
            sha256 = kept.name.rpartition("/")[2]
            if sha256 in keep:
                self._take_back(kept.name, sha256, kept.size)
                taken_back += 1
            elif now_ms - kept.modified_ms >= older_than_ms:
                self._shelf.delete(kept.name)
                deleted += 1
                deleted_bytes += kept.size
        for kept in list(self._shelf.list(_BLOBS)):
            sha256 = kept.name.rpartition("/")[2]
            if sha256 not in keep and now_ms - kept.modified_ms >= older_than_ms:
                self._shelf.move(kept.name, _blob_name(_TRASH, sha256))
                set_aside += 1
        for kept in list(self._shelf.list(DRAFTS)):  # of crashes, if they are old
            if now_ms - kept.modified_ms >= max(older_than_ms, GRACE_MS):
                self._shelf.delete(kept.name)
        return Collected(
            set_aside=set_aside,
            taken_back=taken_back,
            deleted=deleted,
            deleted_bytes=deleted_bytes,
        )

    def _take_back(self, trashed: str, sha256: str, size: int) -> None:
        name = _blob_name(_BLOBS, sha256)
        if self._shelf.refresh(name, size):  # an upload has put it there again
            self._shelf.delete(trashed)
        else:
            self._shelf.move(trashed, name)

    def _blob(self, sha256: str) -> Iterator[bytes]:
        """Its bytes, also if it is set aside or taken back just now.

        Raises FileNotFoundError.
        """
        for place in (_BLOBS, _TRASH, _BLOBS):
            pieces = self._shelf.read(_blob_name(place, sha256))
            try:
                first = next(pieces, b"")
            except FileNotFoundError:
                continue
            yield first
            yield from pieces
            return
        raise FileNotFoundError(sha256)

    def _read(self, name: str) -> bytes | None:
        """All of a manifest; a little more than may be, if it is larger."""
        content = bytearray()
        try:
            for piece in self._shelf.read(name):
                content += piece
                if len(content) > manifests.MANIFEST_BYTES_MAX:
                    break
        except FileNotFoundError:
            return None
        return bytes(content)


class LocalRepository(ShelfRepository):
    """A repository in a local directory, made when something is added.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> repository = LocalRepository(Path(temporary.name) / "snapshots")
    >>> file = Path(temporary.name) / "000012.sst"
    >>> file.write_bytes(b"weights")
    7
    >>> entry, new = repository.add_file(file)
    >>> entry.name, entry.size, entry.sha256[:8], new
    ('000012.sst', 7, '9a129038', True)
    >>> repository.fetch([entry], Path(temporary.name) / "restored")
    >>> (Path(temporary.name) / "restored" / "000012.sst").read_bytes()
    b'weights'
    >>> temporary.cleanup()
    """

    def __init__(self, path: Path) -> None:
        super().__init__(LocalShelf(path))


class ObjectRepository(ShelfRepository):
    """A repository in an object store, s3://BUCKET/PREFIX, or in memory, memory://, for tests.

    Raises StateError if obstore is not installed.

    >>> ObjectRepository("memory://").snapshots()
    []
    """

    def __init__(self, url: str) -> None:
        try:
            from headrace.state.objectshelf import ObjectShelf
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "obstore":
                raise
            raise StateError(
                "snapshots in an object store need the extra objectstore:"
                " pip install 'headrace[objectstore]'"
            ) from None
        super().__init__(ObjectShelf(url))


def open_repository(url: str) -> Repository:
    """The repository at `url`: file://DIR, s3://BUCKET/PREFIX, or memory:// (a new one, for tests).

    Nothing is read or written yet. Credentials do not belong into a URL: object stores take them
    from the environment. Raises StateError for another URL, without showing it.

    >>> open_repository("ftp://ada:secret@example.org")
    Traceback (most recent call last):
    headrace.errors.StateError: no snapshots can be kept at a ftp: URL: name file://DIR or \
s3://BUCKET/PREFIX
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest:
        return LocalRepository(Path(rest))
    if url == "memory://":
        return ObjectRepository(url)
    bucket = rest.partition("/")[0]
    if scheme == "s3" and bucket and not set("@:?#") & set(rest):
        return ObjectRepository(url)
    kind = f"a {scheme}: URL" if scheme != url and scheme.isalnum() else "such a place"
    raise StateError(f"no snapshots can be kept at {kind}: name file://DIR or s3://BUCKET/PREFIX")


def _manifest_name(snapshot_id: str, topic: str, partition: int, digest: str) -> str:
    """With a part of its digest: a shard may be taken twice, before and after a crash, and what the
    logs vouch for must not depend on which of the two was kept first.
    """
    if not manifests.is_sha256(digest):
        raise StateError(f"{digest[:80]!r} is no digest of a manifest: the logs have SHA-256")
    shard = f"{escaped(topic)}@{partition}.{digest[:DIGEST_DIGITS]}"
    return f"{_MANIFESTS}/{_checked(snapshot_id)}/{shard}.json"


def _checked(snapshot_id: str) -> str:
    """It becomes part of a path, and it may come from a caller."""
    if not manifests.is_snapshot_id(snapshot_id):
        raise StateError(f"{snapshot_id[:80]!r} is no id of a snapshot: list those there are")
    return snapshot_id


def _blob_name(place: str, sha256: str) -> str:
    assert len(sha256) == _SHA256_DIGITS
    return f"{place}/{sha256[:2]}/{sha256}"


def _unaltered(path: Path, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of `path`, hashed again on their way, so that what is kept is what was hashed."""
    hasher = hashlib.sha256()
    size = 0
    for piece in pieces(path):
        hasher.update(piece)
        size += len(piece)
        if size <= entry.size:
            yield piece
    if (hasher.hexdigest(), size) != (entry.sha256, entry.size):
        raise CorruptStateError(
            f"{path} changed while it was read for a snapshot: look at that disk, and who writes"
            f" there, then make the snapshot again"
        )
