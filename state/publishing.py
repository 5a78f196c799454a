"""Bringing a checkpoint into the repository, file by file, its manifest last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from headrace.errors import StateError
from headrace.state.catalogue import Vouched
from headrace.state.checkpoints import shard_files
from headrace.state.cut import Cut
from headrace.state.manifest import FileEntry
from headrace.state.repository import Repository
from headrace.state.sums import Sums


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that is in the repository; `new_bytes`: of files that were not there before."""

    digest: str
    files: tuple[FileEntry, ...]
    size_bytes: int
    new_bytes: int

    def vouched(self, cut: Cut) -> Vouched:
        """What the catalogue is to say of it: only now may it."""
        both = set(Vouched.__struct_fields__) & set(Cut.__struct_fields__) - {"schema"}
        return Vouched(
            digest=self.digest,
            size_bytes=self.size_bytes,
            new_bytes=self.new_bytes,
            **{name: getattr(cut, name) for name in both},
        )


def publish(
    cut: Cut,
    checkpoint: Path,
    repository: Repository,
    sums: Sums,
    called_off: Callable[[], bool] = lambda: False,
) -> Published:
    """Keep the files of the checkpoint of `cut`, then its manifest; all durable when it returns.
    Before each of them `called_off` is asked: whether nobody waits for it any more.

    Tables that `sums` remembers are not hashed again, and not read if the repository has them.
    After a crash or an error at any step it can be called again. Another state of that shard under
    that id, taken again after a crash, say, is published beside the first, each under its digest.
    Raises StateError, also if it is called off, and DiskFullError.
    """
    files = []
    new_bytes = 0
    for path in shard_files(checkpoint):
        _go_on(called_off)
        entry, new = repository.add_file(path, sums.known(path))
        sums.remember(path, entry)
        files.append(entry)
        new_bytes += entry.size if new else 0
    _go_on(called_off)
    return Published(
        digest=repository.add_manifest(cut.manifest(tuple(files))),
        files=tuple(files),
        size_bytes=sum(entry.size for entry in files),
        new_bytes=new_bytes,
    )


def _go_on(called_off: Callable[[], bool]) -> None:
    if called_off():
        raise StateError("publishing was called off")
