"""The checkpoints of a worker: cuts of its shards on its own disk, made before they are published.

<state-dir>/checkpoints/
  <snapshot id>/<topic>@<partition>/     the files of a RocksDB, most of them hard links
    .cut.json                            what it is
    .published.json                      its manifest's digest and files, once that is kept
  .passing/                              on their way in or out

No file of a shard has a hidden name (`manifest.FileEntry`), so ours are never taken for one.
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.clock import new_id
from headrace.errors import CorruptStateError, StateError
from headrace.logs import fields
from headrace.state import manifest as manifests
from headrace.state.cut import Cut
from headrace.state.directory import escaped
from headrace.state.disk import TABLE, explained, make_directory, sync_directory, sync_tree
from headrace.state.localshelf import write_synced
from headrace.state.manifest import FileEntry, Manifest
from headrace.state.sealed import read_sealed, write_sealed
from headrace.state.store import Store
from headrace.state.sums import pieces
from headrace.views import Partition

log = logging.getLogger(__name__)

_CUT = ".cut.json"
_PUBLISHED = ".published.json"
_PASSING = ".passing"
# Another disk, a file system without them, one file with too many, another owner's: then copy.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class _Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    digest: str
    files: tuple[FileEntry, ...]


_CUT_DECODER = msgspec.json.Decoder(Cut)
_PUBLISHED_DECODER = msgspec.json.Decoder(_Published)


class _Kept(msgspec.Struct, kw_only=True):
    cut: Cut
    path: Path
    published: _Published | None = None
    hashed_here: bool = False  # its files, by this process


class Checkpoints:
    """All checkpoints below `root`, which one process has for itself (see `StateDirectory`).

    Making one reads what is there: what a crash left half-made is deleted, as is one that nobody
    can tell what it is of, which is logged. Order of calls for a cut: `take`, `probed`, its upload,
    `published`, and `drop` when nobody needs it here any more. A cut that is owed after a restart
    goes on with its upload. Different cuts may be taken, published and dropped by several threads
    at once. All raise StateError, DiskFullError.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> Checkpoints(Path(temporary.name) / "checkpoints").owed()
    []
    >>> temporary.cleanup()
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[tuple[str, Partition], _Kept] = {}
        # Held while a name comes or goes, or something is noted under it: a drop takes the
        # directory of a snapshot with its last shard, and another may be on its way into that.
        self._naming = threading.Lock()
        with explained(root):
            shutil.rmtree(root / _PASSING, ignore_errors=True)
            make_directory(root / _PASSING)
            for path in [path for path in root.glob("*/*") if path.parent.name != _PASSING]:
                self._read(path)
            for directory in [path for path in root.iterdir() if path.name != _PASSING]:
                with suppress(OSError):
                    directory.rmdir()  # only if it is empty

    def take(self, store: Store, cut: Cut) -> Path:
        """Make a checkpoint of `store`, which stands at `cut`, and return where it is, durable.

        Steps: RocksDB's checkpoint, at a place of its own; the cut beside its files; sync all of
        that; make the directory above, synced; rename; sync the directory above. If there is one
        of the same state already, it stays; one of another state under that id is refused.
        """
        meta = store.meta
        assert meta is not None
        assert cut.describes(meta), "a cut must say where its store stands"
        there = self._kept.get((cut.snapshot_id, cut.shard))
        if there is not None:
            if not there.cut.is_same(cut):
                raise StateError(
                    f"there is a checkpoint of {_named(cut)} at offset {there.cut.next_offset} of"
                    f" epoch {there.cut.epoch} already: make a snapshot with another id"
                )
            return there.path
        path = self._path(cut)
        draft = self._passing()
        with explained(path):
            try:
                store.checkpoint(draft)
                write_sealed(draft / _CUT, cut)
                sync_tree(draft)
                with self._naming:
                    make_directory(path.parent)
                    draft.rename(path)
                    sync_directory(path.parent)
                    self._kept[cut.snapshot_id, cut.shard] = _Kept(cut=cut, path=path)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                with suppress(OSError):
                    self._discard(path)  # its name may not be durable
                raise
        return path

    def find(self, snapshot_id: str, topic: str, partition: int) -> Path | None:
        """Where the checkpoint of that shard in that snapshot is; None if it is not here."""
        kept = self._kept.get((snapshot_id, Partition(topic, partition)))
        return kept.path if kept else None

    def cut(self, snapshot_id: str, topic: str, partition: int) -> Cut | None:
        """What the checkpoint of that shard is of; None if it is not here."""
        kept = self._kept.get((snapshot_id, Partition(topic, partition)))
        return kept.cut if kept else None

    def cuts(self) -> list[Cut]:
        """All that are here, oldest first."""
        return sorted((kept.cut for kept in list(self._kept.values())), key=_age)

    def of(self, snapshot_id: str) -> list[Cut]:
        """Those that are here of a snapshot."""
        return [cut for cut in self.cuts() if cut.snapshot_id == snapshot_id]

    def path_of(self, cut: Cut) -> Path | None:
        """Where the checkpoint of that cut is, which may have its probes by now; None if it was
        dropped, also if another of the same name has been taken since.
        """
        kept = self._kept.get((cut.snapshot_id, cut.shard))
        return kept.path if kept is not None and is_that(kept.cut, cut) else None

    def owed(self) -> list[Cut]:
        """Those that are not published yet, oldest first."""
        kept = [each for each in list(self._kept.values()) if each.published is None]
        return sorted((each.cut for each in kept), key=_age)

    def ids(self) -> list[str]:
        """The snapshots of which something is here, by the age of their oldest cut."""
        return list(dict.fromkeys(cut.snapshot_id for cut in self.cuts()))

    def probed(self, cut: Cut, probes: bytes) -> Cut:
        """Note, durably, the probes of a cut that is not published yet, and return it with them.

        If the checkpoint was dropped meanwhile, nothing is noted.
        """
        probed = msgspec.structs.replace(cut, probes=probes)
        with self._naming:  # or it would be noted of what has taken its place
            kept = self._kept.get((cut.snapshot_id, cut.shard))
            if kept is not None and kept.cut == cut:
                assert kept.published is None
                with explained(kept.path):
                    write_sealed(kept.path / _CUT, probed)
                kept.cut = probed
        return probed

    def published(self, cut: Cut, digest: str, files: tuple[FileEntry, ...]) -> None:
        """Note, durably, that its manifest is kept: its digest, and the entries of its files, which
        this process hashed. If the checkpoint was dropped meanwhile, nothing is done.
        """
        with self._naming:
            kept = self._kept.get((cut.snapshot_id, cut.shard))
            if kept is None or kept.cut != cut:
                return
            assert manifests.digest(manifests.encode(cut.manifest(files))) == digest
            published = _Published(digest=digest, files=files)
            with explained(kept.path):
                write_sealed(kept.path / _PUBLISHED, published)
            kept.published = published
            kept.hashed_here = True

    def manifest(
        self, snapshot_id: str, topic: str, partition: int, digest: str
    ) -> Manifest | None:
        """The manifest that `digest` vouches for, made again from what is known here; else None.

        Its digest is compared, so what is on this disk cannot make up another.
        """
        kept = self._kept.get((snapshot_id, Partition(topic, partition)))
        if kept is None or kept.published is None:
            return None
        manifest = kept.cut.manifest(kept.published.files)
        return manifest if manifests.digest(manifests.encode(manifest)) == digest else None

    def entries(
        self, snapshot_id: str, topic: str, partition: int, digest: str
    ) -> tuple[FileEntry, ...] | None:
        """The entries of its files, if this process has hashed them for that manifest; else None.

        After a restart it is None: whoever wants to use the files has to hash them again.
        """
        kept = self._kept.get((snapshot_id, Partition(topic, partition)))
        if kept is None or kept.published is None or not kept.hashed_here:
            return None
        return kept.published.files if kept.published.digest == digest else None

    def drop(self, *cuts: Cut) -> None:
        """Delete the checkpoints of these cuts, which may have their probes by now, and no others:
        whoever chose them may be late, and another one have been taken under the same name. After
        a crash each of them is left as a whole or not at all.
        """
        for cut in cuts:
            gone = self._passing()
            with self._naming:
                path = self.path_of(cut)
                if path is None:
                    continue
                dropped = self._kept.pop((cut.snapshot_id, cut.shard))
                with explained(path):
                    try:
                        path.rename(gone)
                    except OSError:
                        self._kept[cut.snapshot_id, cut.shard] = dropped
                        raise
                    sync_directory(path.parent)
                with suppress(OSError):
                    path.parent.rmdir()  # only if it is empty
            shutil.rmtree(gone, ignore_errors=True)

    def _read(self, path: Path) -> None:
        """Take a checkpoint up, or away if it cannot be told what it is of."""
        try:
            if not (path / _CUT).exists():
                raise CorruptStateError(f"{path} does not say what it is of")
            cut = read_sealed(path / _CUT, _CUT_DECODER)
            if path != self._path(cut):
                raise CorruptStateError(f"{path} says that it is of {_named(cut)}")
            published = None
            if (path / _PUBLISHED).exists():
                published = read_sealed(path / _PUBLISHED, _PUBLISHED_DECODER)
        except CorruptStateError as error:
            log.error("checkpoint.refused", extra=fields(error=str(error)))  # noqa: TRY400
            self._discard(path)
            return
        self._kept[cut.snapshot_id, cut.shard] = _Kept(cut=cut, path=path, published=published)

    def _path(self, cut: Cut) -> Path:
        return self.root / cut.snapshot_id / f"{escaped(cut.topic)}@{cut.partition}"

    def _passing(self) -> Path:
        """A place of its own; what is left there goes with the next start."""
        return self.root / _PASSING / new_id()

    def _discard(self, path: Path) -> None:
        gone = self._passing()
        path.rename(gone)
        sync_directory(path.parent)
        shutil.rmtree(gone, ignore_errors=True)


def is_that(one: Cut, other: Cut) -> bool:
    """Whether both are one cut, with its probes or before it had any."""
    return one == other or msgspec.structs.replace(one, probes=other.probes) == other


def shard_files(directory: Path) -> list[Path]:
    """The files of a shard in a checkpoint, by name, without what says what it is of.

    Raises StateError.
    """
    with explained(directory):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def link_or_copy(checkpoint: Path, into: Path) -> None:
    """Make a store's directory at `into`, which must not exist, from the files of a checkpoint.

    Tables, which RocksDB never alters, are hard links where those are possible; all others, which
    it does alter, are copies, synced. So whoever opens a store there leaves the checkpoint as it
    is. Names are not synced: `StateDirectory.adopt` does that. Raises StateError, DiskFullError;
    then nothing is left.
    """
    with explained(into):
        make_directory(into.parent)
        into.mkdir(mode=0o700)
        try:
            for file in shard_files(checkpoint):
                if file.suffix != TABLE or not _linked(file, into / file.name):
                    write_synced(into / file.name, pieces(file))
        except BaseException:
            shutil.rmtree(into, ignore_errors=True)
            raise


def _linked(file: Path, link: Path) -> bool:
    try:
        link.hardlink_to(file)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def _age(cut: Cut) -> tuple[int, str, Partition]:
    return cut.created_ms, cut.snapshot_id, cut.shard


def _named(cut: Cut) -> str:
    return f"{cut.topic}@{cut.partition} in snapshot {cut.snapshot_id}"
