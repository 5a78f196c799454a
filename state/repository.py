"""Where snapshots are kept: files by their sum, and manifests that name them.

<repository>/
  owner.json               the one app whose snapshots these are
  manifests/<snapshot-id>/<topic>@<partition>.<0123456789abcdef>.json
                           what belongs together, and who it is; named by its own digest, too
  blobs/<ab>/<abcd…>       files, named by the SHA-256 of their bytes, each once
  trash/<ab>/<abcd…>.<mark>
                           files that no snapshot seemed to need; see `Repository.collect`
  trash/manifests/…        manifests that nobody seemed to vouch for

Nothing here is ever changed, only added and removed. What is read is checked against a sum that
came another way: files against their manifest, a manifest against the digest that the logs keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from headrace.clock import new_id
from headrace.errors import (
    AwayStateError,
    CorruptStateError,
    DiskFullError,
    ForeignStateError,
    StateError,
)
from headrace.state import manifest as manifests
from headrace.state.fetching import fetch_files
from headrace.state.localshelf import DRAFTS
from headrace.state.manifest import FileEntry, Manifest, ShardRef
from headrace.state.owner import OWNER, Owner, told
from headrace.state.places import (
    BLOBS,
    DIGEST_DIGITS,
    MANIFESTS,
    TRASH,
    aside,
    blob_name,
    checked,
    from_aside,
    manifest_name,
    sum_in,
)
from headrace.state.shelf import Shelf
from headrace.state.soundness import Soundness
from headrace.state.sums import sum_file, unaltered

GRACE_MS = 3 * 24 * 3_600_000
"""A grace time for `collect` that is safe with every kind of repository; see there."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What `collect` did: files and manifests it set aside, took back and deleted, and the bytes of
    the last.
    """

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
    """What can be read from a repository. All raise AwayStateError if it cannot be reached."""

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
        It is read, and put again if it is damaged, when it is time to; see `Soundness`.
        `known`: its entry, from a caller who has hashed it: then `path` is read to be put only.
        """
        ...

    def add_manifest(self, manifest: Manifest) -> str:
        """Keep `manifest` and return its digest. When it returns it is durable, and young.

        The same one again is fine, and puts right what was damaged under its name. Another one of
        the same shard in the same snapshot may be there, too: which one counts the catalogue says,
        and the other one goes with `collect`.
        """
        ...

    def remove(self, snapshot_id: str, digests: Iterable[str]) -> None:
        """Remove the manifests of a snapshot that have these digests; its files go with a later
        `collect`. No others: as soon as nobody vouches for these any more, another snapshot of that
        name may be made, and be published meanwhile.

        A crash half-way leaves a part of them: call it again, or leave it to `collect`, if nobody
        vouches for them any more.
        """
        ...

    def withdraw(self, ref: ShardRef, replaced: Iterable[str]) -> None:
        """Remove the manifests of that shard in that snapshot with the digests `replaced`, in whose
        place the one that `ref` vouches for is. No others: of two workers that put one in the place
        of the same, either may be vouched for last, whatever it has forgotten, and what vouches for
        it be on its way. The other one goes with `collect`.
        """
        ...

    def claim(self, owner: Owner) -> None:
        """Make it the owner's if it is nobody's yet.

        Raises ForeignStateError if it is another's, or says so in a form that is not ours.
        """
        ...

    def collect(self, keep: AbstractSet[str], older_than_ms: int) -> Collected:
        """Remove files and manifests whose SHA-256 is not in `keep` and that are older than a grace
        time.

        `keep`: the digests of all manifests that are vouched for and the sums that these name, read
        before the call. It takes two steps, each after the grace time: a file or manifest is set
        aside first, where `fetch` and `manifest` still find it, and deleted by a later call, or
        taken back by it if it is to be kept by then. It takes its time, so better one call at a
        time for one repository. Several do no harm: whatever is set aside gets a name of its own,
        so none of them can delete what another has set aside since it looked.

        Why an upload under way loses nothing: it adds files, which are young then, or finds them
        there, which makes them young. Should a file be set aside at the very moment in which an
        upload finds it (no object store can look and move in one step), then that upload's manifest
        is there within the grace time, so in the `keep` of every call that could delete the file.
        Hence the grace time must be longer than the longest upload, from its first file to its
        manifest and what vouches for that, and the time from reading the manifests to the end of
        `collect`, both together. Of manifests the same is true as of files: one that is there
        already and is put again gets young.
        In an object store a file gets young again only once it is a day old, so there two days are
        the least that sets nothing aside in vain. `GRACE_MS` is enough for all of that. Ages are
        read from the repository's own clock: a wrong clock on this machine deletes nothing.
        """
        ...


class ShelfRepository:
    """The laws of a repository, over any shelf."""

    def __init__(self, shelf: Shelf, soundness: Soundness | None = None) -> None:
        self._shelf = shelf
        self._soundness = soundness or Soundness(daily=False)

    def snapshots(self) -> Sequence[str]:
        found = {kept.name.split("/")[1] for kept in self._shelf.list(MANIFESTS)}
        return sorted(name for name in found if manifests.is_snapshot_id(name))

    def manifest(self, snapshot_id: str, topic: str, partition: int, digest: str) -> Manifest:
        name = manifest_name(snapshot_id, topic, partition, digest)
        contents = map(self._read, self._places(name))
        content = next((each for each in contents if each is not None), None)
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
        try:
            fetch_files(entries, directory, self._blob)
        except (AwayStateError, DiskFullError):
            raise
        except StateError:
            self._soundness.suspect(entry.sha256 for entry in entries)
            raise

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        assert known is None or known.name == path.name
        entry = known or sum_file(path)
        name = blob_name(entry.sha256)
        there = self._shelf.refresh(name, entry.size)
        if there and self._soundness.holds(entry, lambda _: self._shelf.read(name)):
            return Added(entry, new=False)
        # Not on condition that it is absent: under that name are these bytes or damaged ones.
        self._shelf.put(name, unaltered(path, entry), size=entry.size, create=False)
        self._soundness.sound(entry.sha256)
        return Added(entry, new=True)

    def add_manifest(self, manifest: Manifest) -> str:
        content = manifests.encode(manifest)
        digest = manifests.digest(content)
        name = manifest_name(manifest.snapshot_id, manifest.topic, manifest.partition, digest)
        size = len(content)
        if self._shelf.put(name, [content], size=size, create=True):
            return digest
        # It is damaged, as nothing else has that name, or so old that `collect` might take it.
        if not self._shelf.refresh(name, size) or self._read(name) != content:
            self._shelf.put(name, [content], size=size, create=False)
        return digest

    def remove(self, snapshot_id: str, digests: Iterable[str]) -> None:
        gone = {digest[:DIGEST_DIGITS] for digest in digests}
        for kept in list(self._shelf.list(f"{MANIFESTS}/{checked(snapshot_id)}")):
            if sum_in(kept.name) in gone:
                self._shelf.delete(kept.name)

    def withdraw(self, ref: ShardRef, replaced: Iterable[str]) -> None:
        for digest in set(replaced) - {ref.digest}:
            self._shelf.delete(manifest_name(*ref._replace(digest=digest)))

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
        needed = keep | {sha256[:DIGEST_DIGITS] for sha256 in keep}  # a manifest's name has a part
        for kept in list(self._shelf.list(TRASH)):
            if sum_in(kept.name) in needed:
                self._take_back(kept.name, kept.size)
                taken_back += 1
            elif now_ms - kept.modified_ms >= older_than_ms:
                self._shelf.delete(kept.name)
                deleted += 1
                deleted_bytes += kept.size
        for kept in [*self._shelf.list(MANIFESTS), *self._shelf.list(BLOBS)]:
            if sum_in(kept.name) not in needed and now_ms - kept.modified_ms >= older_than_ms:
                self._shelf.move(kept.name, aside(kept.name, new_id()))
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

    def _take_back(self, trashed: str, size: int) -> None:
        name = from_aside(trashed)
        if self._shelf.refresh(name, size):  # an upload has put it there again
            self._shelf.delete(trashed)
        else:
            self._shelf.move(trashed, name)

    def _blob(self, sha256: str) -> Iterator[bytes]:
        """Its bytes. Raises FileNotFoundError."""
        for place in self._places(blob_name(sha256)):
            pieces = self._shelf.read(place)
            try:
                first = next(pieces, b"")
            except FileNotFoundError:
                continue
            yield first
            yield from pieces
            return
        raise FileNotFoundError(sha256)

    def _places(self, name: str) -> Iterator[str]:
        """Where to look for an object, also if it is set aside or taken back just now."""
        yield name
        trashed = aside(name, "")
        for kept in self._shelf.list(trashed.rpartition("/")[0]):
            if kept.name.startswith(trashed):
                yield kept.name
        yield name

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
