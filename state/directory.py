"""The directory that holds a worker's shards: whose it is, who has it now, where each shard lies.

<state-dir>/
  lock            held by the running worker (flock); its pid is in it
  identity.json   app, cluster, and the build that writes here
  shards/<agent>/<epoch>/<topic>@<partition>/     one RocksDB each
  former/         shards that other builds wrote, see `headrace.state.former`
  checkpoints/    see `headrace.state.checkpoints`
  drafts/         shards on their way in
  trash/          shards on their way out
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from headrace.clock import new_id
from headrace.errors import CorruptStateError, ForeignStateError, LockedStateError, StateError
from headrace.state.disk import (
    explained,
    make_directory,
    sync_directory,
    sync_tree,
    write_durably,
)
from headrace.state.former import Former
from headrace.state.manifest import Versions

_LOCK = "lock"
_IDENTITY = "identity.json"
_SHARDS = "shards"
_FORMER = "former"
_CHECKPOINTS = "checkpoints"
_DRAFTS = "drafts"
_TRASH = "trash"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")
_NAME_MAX = 150  # bytes of a directory name; file systems take 255


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose state it is, and which build wrote it.

    `python` (such as "3.11") is in it because `sum` of floats rounds otherwise from 3.12 on;
    `hash_seed` because the order of sets, and with it some models, depends on it.

    >>> mine = Identity.of_this_build(app="a", cluster_id="c", codec="1", hash_seed="0")
    >>> mine.app, mine.river
    ('a', '0.26.1')
    """

    app: str
    cluster_id: str
    headrace: str
    river: str
    numpy: str
    codec: str
    python: str
    hash_seed: str

    @classmethod
    def of_this_build(cls, *, app: str, cluster_id: str, codec: str, hash_seed: str) -> Identity:
        """The identity of state that this process would write."""
        return cls(
            app=app,
            cluster_id=cluster_id,
            headrace=version("headrace"),
            river=version("river"),
            numpy=version("numpy"),
            codec=codec,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            hash_seed=hash_seed,
        )

    @property
    def versions(self) -> Versions:
        """The build alone, as manifests of snapshots name it."""
        names = Versions.__struct_fields__
        return Versions(**{name: getattr(self, name) for name in names})


_IDENTITY_DECODER = msgspec.json.Decoder(Identity)


class StateDirectory:
    """A locked state directory that belongs to `identity`.

    Order of calls: `open` (locks, then compares or writes the identity), all others as often as
    you like, `close` once. Or use it in a `with` statement. What is to take the place of a shard is
    made at a `draft` of its own, and `adopt` puts it there in one step.

    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> mine = Identity.of_this_build(app="a", cluster_id="c", codec="1", hash_seed="0")
    >>> with StateDirectory.open(Path(temporary.name), mine) as directory:
    ...     shard = directory.shard_path("card-fraud", 1, "Pay/ments", 3)
    >>> shard.relative_to(temporary.name).as_posix()
    'shards/card-fraud/1/%50ay%2fments@3'
    >>> temporary.cleanup()
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock
        self._former = Former(path / _FORMER, path / _SHARDS)

    @classmethod
    def open(cls, path: Path, identity: Identity) -> StateDirectory:
        """Lock `path`, made if it is missing, for the state of `identity`. Shards that another
        build wrote are put aside, see `former`; those that this one wrote earlier are back.

        Raises LockedStateError, ForeignStateError (another cluster, app or hash seed, or a
        directory that is not ours), CorruptStateError, DiskFullError, and StateError for a
        directory that cannot be written, each with what to do.
        """
        with explained(path):
            _refuse_others_directory(path)
            make_directory(path)
            directory = cls(path, _locked(path))
        try:
            with explained(path):
                _claim(path, identity, directory._former)
                for name in (_DRAFTS, _TRASH):
                    shutil.rmtree(path / name, ignore_errors=True)  # what a crash left there
                    make_directory(path / name)
        except BaseException:
            directory.close()
            raise
        return directory

    def shard_path(self, agent: str, epoch: int, topic: str, partition: int) -> Path:
        """Where that shard lies, or would lie. No two shards share a path, on any file system."""
        return self._agent_path(agent) / str(epoch) / f"{escaped(topic)}@{partition}"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of shards lie."""
        return self.path / _CHECKPOINTS

    def epochs(self, agent: str, topic: str, partition: int) -> list[int]:
        """The epochs of which there is a shard for that partition, ascending.

        A damaged one is there, too; what a crash left before RocksDB had made anything is not.
        """
        with explained(self.path):
            epochs = sorted(int(path.name) for path in self._epoch_paths(agent))
            return [
                epoch
                for epoch in epochs
                if _holds_shard(self.shard_path(agent, epoch, topic, partition))
            ]

    def former(self, agent: str, epochs: range, topic: str, partition: int) -> list[Versions]:
        """The builds that wrote shards of that partition, of any of these epochs, which lie aside.

        Raises StateError, CorruptStateError if nobody can tell who wrote one.
        """
        with explained(self.path):
            return [
                build
                for epoch in epochs
                for build, path in self._former_paths(agent, epoch, topic, partition)
                if _holds_shard(path)
            ]

    def drop_former(self, agent: str, epochs: range, topic: str, partition: int) -> None:
        """Delete those shards: others have taken their place. Raises StateError."""
        with explained(self.path):
            paths = [
                path
                for epoch in epochs
                for _, path in self._former_paths(agent, epoch, topic, partition)
            ]
        for path in paths:
            self._discard(path)

    def draft(self) -> Path:
        """A path of its own for a shard on its way in, where nothing is yet.

        What a crash leaves there is deleted at the next start.
        """
        return self.path / _DRAFTS / new_id()

    def adopt(self, draft: Path, path: Path) -> None:
        """Put what was made at `draft` at `path`, durable: after a crash all of it or nothing.

        Steps: sync its files, then its directory; make the directories above `path`, each synced
        into its parent; rename; sync the directory above. The rename is the one step that counts,
        and all that it names is durable by then. A store at `draft` must be closed before. Raises
        StateError if there is something at `path`, or if the disk does not let us.
        """
        with explained(path):
            if path.exists():  # a rename would replace an empty directory
                raise StateError(f"cannot put a shard at {path}: it exists")
            sync_tree(draft)
            make_directory(path.parent)
            draft.rename(path)
            sync_directory(path.parent)

    def drop_shard(self, path: Path) -> None:
        """Delete what is at `path`, a closed shard; after a crash all of it or nothing is left.

        If nothing is there, nothing is done. Raises StateError if the disk does not let us.
        """
        if path.exists():
            self._discard(path)

    def drop_agent(self, agent: str, *, through: int) -> None:
        """Delete all shards of `agent`, which must be closed, of its epochs up to `through`,
        whichever build wrote them; of each epoch all or none is left after a crash.

        Raises StateError if the disk does not let us.
        """
        with explained(self._agent_path(agent)):
            epochs = self._epoch_paths(agent)
            for _, path in self._former.paths(Path(escaped(agent))):
                epochs += [epoch for epoch in path.iterdir() if epoch.name.isdigit()]
        for epoch in epochs:
            if int(epoch.name) <= through:
                self._discard(epoch)

    def close(self) -> None:
        """Unlock it. A second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _agent_path(self, agent: str) -> Path:
        return self.path / _SHARDS / escaped(agent)

    def _epoch_paths(self, agent: str) -> list[Path]:
        path = self._agent_path(agent)
        return [e for e in path.iterdir() if e.name.isdigit()] if path.exists() else []

    def _former_paths(
        self, agent: str, epoch: int, topic: str, partition: int
    ) -> list[tuple[Versions, Path]]:
        shard = self.shard_path(agent, epoch, topic, partition)
        return self._former.paths(shard.relative_to(self.path / _SHARDS))

    def _discard(self, path: Path) -> None:
        # It was made at the start, because somebody may delete to make room on a full disk.
        gone = self.path / _TRASH / new_id()
        with explained(path):
            path.rename(gone)
            sync_directory(path.parent)
        shutil.rmtree(gone, ignore_errors=True)  # what is left there goes with the next start


def _holds_shard(path: Path) -> bool:
    """Whether RocksDB has been there: it makes CURRENT before any table or write-ahead log."""
    return any(file.name == "CURRENT" or file.suffix in (".sst", ".log") for file in path.glob("*"))


def _refuse_others_directory(path: Path) -> None:
    """A directory with files in it, none of them ours, is somebody's: do not write there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ForeignStateError(f"{path} is a file: name a directory with --state-dir")
    names = {entry.name for entry in path.iterdir()} - {"lost+found"}  # of a volume's own
    if names and not names & {_LOCK, _IDENTITY}:
        raise ForeignStateError(
            f"{path} is not empty and holds no Headrace state: name another --state-dir"
        )


def _locked(path: Path) -> int:
    """Take the lock; it goes with the process, however that ends."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        raise LockedStateError(
            f"{path} is in use by process {pid or 'unknown'}: stop that worker first,"
            f" or start this one with another --state-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode("ascii"))
    return lock


def _claim(path: Path, identity: Identity, former: Former) -> None:
    """Make the directory that of `identity`, or refuse it. A crash at any step leaves the shards of
    the build that is named in it where they are looked for.
    """
    file = path / _IDENTITY
    if not file.exists():
        if (path / _SHARDS).exists():
            raise CorruptStateError(
                f"{file} is missing beside shards, so nobody knows whose they are:"
                f" start with --state-dir elsewhere, or delete {path}"
            )
        _write_identity(file, identity)
        return
    try:
        found = _IDENTITY_DECODER.decode(file.read_bytes())
    except msgspec.MsgspecError as error:
        raise CorruptStateError(
            f"{file} cannot be read ({error}): start with --state-dir elsewhere, or delete {path}"
        ) from None
    if (found.app, found.cluster_id) != (identity.app, identity.cluster_id):
        raise ForeignStateError(
            f"{path} belongs to the log of cluster {found.cluster_id}, app {found.app};"
            f" this is cluster {identity.cluster_id}, app {identity.app}:"
            f" start with --state-dir elsewhere, or delete it"
        )
    if found.hash_seed != identity.hash_seed:
        raise ForeignStateError(
            f"{path} was written with hash_seed {found.hash_seed} (this is {identity.hash_seed}),"
            f" and models may go on otherwise here: start the service with `headrace up`, which"
            f" sets it, or with --state-dir elsewhere and learn again from the log"
        )
    if found.versions != identity.versions:
        former.put_aside(found.versions)
        _write_identity(file, identity)
    former.bring_back(identity.versions)


def _write_identity(file: Path, identity: Identity) -> None:
    write_durably(file, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")


def escaped(name: str) -> str:
    """A directory name for any text; different texts differ, upper and lower case set aside.

    >>> escaped("Tx.v1"), escaped(".."), len(escaped("ж" * 300))
    ('%54x.v1', '%%2e%2e', 141)
    """
    plain = "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in name.encode("utf-8")
    )
    if not plain.strip("."):  # "", ".", ".." and longer: the first three are no names of files
        return "%" + "%2e" * len(plain)
    if len(plain) <= _NAME_MAX:
        return plain
    # "+" is never in an escaped name, so a shortened one equals no other.
    return f"{plain[:76]}+{hashlib.sha256(name.encode('utf-8')).hexdigest()}"
