"""Shards that another build wrote, put aside: this one begins from snapshots whose probes it tried.

<state-dir>/former/
  <tag>/        what was `shards` under that build
  <tag>.json    which build that is

They are kept until something has taken their place, so that whoever goes back to that build finds
them where they were.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from headrace.state.disk import make_directory, sync_directory
from headrace.state.manifest import Versions
from headrace.state.sealed import read_sealed, write_sealed

_DECODER = msgspec.json.Decoder(Versions)


class Former:
    """What lies below `root`, beside the directory `shards` of the present build.

    Order of calls: `put_aside` when another build begins, after which that is noted, then
    `bring_back`; both can be called again after a crash at any step. All raise OSError;
    CorruptStateError if nobody can tell which build it was.

    >>> import tempfile
    >>> old = Versions(headrace="0", river="0.25.0", numpy="2", codec="1", python="3.11")
    >>> new = msgspec.structs.replace(old, river="0.26.1")
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     shards = Path(directory, "shards")
    ...     (shards / "fraud" / "1").mkdir(parents=True)
    ...     former = Former(Path(directory, "former"), shards)
    ...     former.put_aside(old)
    ...     former.bring_back(new)  # which never was here
    ...     [(build.river, path.parts[-2:]) for build, path in former.paths(Path("fraud", "1"))]
    ...     former.bring_back(old)
    ...     former.paths(Path("fraud", "1")), (shards / "fraud" / "1").exists()
    [('0.25.0', ('fraud', '1'))]
    ([], True)
    """

    def __init__(self, root: Path, shards: Path) -> None:
        self._root = root
        self._shards = shards

    def put_aside(self, wrote: Versions) -> None:
        """Move the shards that this build wrote out of the way of another one."""
        if not self._shards.exists():
            return
        make_directory(self._root)
        place = self._root / _tag(wrote)
        write_sealed(place.with_suffix(".json"), wrote)
        if place.exists():  # it was brought back since; what a crash left of it is older
            shutil.rmtree(place)
        self._shards.rename(place)
        sync_directory(self._root)
        sync_directory(self._shards.parent)

    def bring_back(self, build: Versions) -> None:
        """If that build has been here before, its shards are in their place again."""
        place = self._root / _tag(build)
        if not place.exists() or self._shards.exists():
            return
        place.rename(self._shards)
        sync_directory(self._shards.parent)
        sync_directory(self._root)

    def paths(self, shard: Path) -> list[tuple[Versions, Path]]:
        """Where `shard`, a path below the directory of shards, lies aside, and who wrote it."""
        return [
            (read_sealed(place.with_suffix(".json"), _DECODER), place / shard)
            for place in self._places()
            if (place / shard).exists()
        ]

    def _places(self) -> list[Path]:
        if not self._root.exists():
            return []
        return sorted(path for path in self._root.iterdir() if path.is_dir())


def _tag(build: Versions) -> str:
    return hashlib.sha256(msgspec.json.encode(build, order="sorted")).hexdigest()[:16]
