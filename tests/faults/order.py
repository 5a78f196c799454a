"""Whether names and data were durable before the next step, from what strace told.

A kill leaves what the kernel holds in memory; only a power cut shows that a directory was not
synced. So the order of the calls is looked at. A step is a rename or a link to a place that counts,
or a record in a log. At each step, every name that counts is synced in its directory; and what is
renamed to such a place has all of its data and its names synced below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from tests.faults.journal import MARK

_DONE = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^\d+ +<\.\.\. \w+ resumed>")
_MARKED = re.compile(rf'"{MARK}(\w+)"')
_PATH = re.compile(r'"([^"]*)"')
_FILE = re.compile(r"^\d+<([^>]*)>")
# On their way in or out, or of no account: RocksDB's own log, the clock of the repository.
_PASSING = re.compile(
    r"/(drafts|trash|\.passing)(/|$)|/\.fetching-|\.new$|/(LOG|LOCK|clock|lock)[^/]*$|\.dbtmp$"
)


class Order:
    """Order of calls: `see` for each line; what is wrong is in `broken`."""

    def __init__(self, root: str) -> None:
        self.broken: list[str] = []
        self._root = root
        self._names: set[PurePosixPath] = set()  # that are not synced in their directory
        self._data: set[PurePosixPath] = set()  # files with data that is not synced

    def see(self, line: str) -> None:
        """One line of strace's."""
        marked = _MARKED.search(line)
        if marked is not None:
            self._step(f"record {marked[1]} of the logs")
        done = _DONE.match(line)
        if done is None or self._root not in line:
            return
        call, told = done[1], done[2]
        paths = [PurePosixPath(path) for path in _PATH.findall(told) if path.startswith("/")]
        at = _FILE.match(told)
        if call in ("write", "pwrite64") and at is not None:
            self._data.add(PurePosixPath(at[1]))
        elif call in ("fsync", "fdatasync") and at is not None:
            self._synced(PurePosixPath(at[1]))
        elif call in ("mkdir", "mkdirat") or (call == "openat" and "O_CREAT" in told):
            if call != "openat" or "O_EXCL" in told:
                self._names.add(paths[0])
        elif call in ("rename", "renameat", "renameat2", "link", "linkat"):
            self._named(*paths[:2], moved=call.startswith("rename"))
        elif call in ("unlink", "unlinkat", "rmdir") and paths:
            self._gone(paths[0])

    def _synced(self, path: PurePosixPath) -> None:
        self._data.discard(path)
        self._names = {name for name in self._names if name.parent != path}

    def _named(self, source: PurePosixPath, target: PurePosixPath, *, moved: bool) -> None:
        if not _PASSING.search(str(target)):
            self._step(f"{target} gets its name")
            below = [p for p in self._data | (self._names - {source}) if _is_in(p, source)]
            loose = [str(p) for p in below if not re.search(r"/(LOG|LOCK)[^/]*$", str(p))]
            if loose:
                self.broken.append(f"{target} gets its name, and {loose[:3]} are not synced")
        if moved:
            self._data = {_moved(p, source, target) for p in self._data}
            self._names = {_moved(p, source, target) for p in self._names - {source}}
        self._names.add(target)

    def _gone(self, path: PurePosixPath) -> None:
        self._names = {p for p in self._names if not _is_in(p, path)}
        self._data = {p for p in self._data if not _is_in(p, path)}

    def _step(self, what: str) -> None:
        loose = sorted(str(name) for name in self._names if not _PASSING.search(str(name)))
        if loose:
            self.broken.append(f"{what}, and the names {loose[:3]} are not synced")
            self._names.clear()


def broken(lines: Iterable[str], root: str) -> list[str]:
    """What is wrong with the order of these calls; paths outside of `root` do not count."""
    order = Order(root)
    begun: dict[str, str] = {}  # by thread: a call during which another thread did something
    for line in lines:
        tid = line.partition(" ")[0]
        if line.endswith(_UNFINISHED):
            begun[tid] = line.removesuffix(_UNFINISHED)
        elif (resumed := _RESUMED.match(line)) is not None and tid in begun:
            order.see(begun.pop(tid) + line[resumed.end() :])
        else:
            order.see(line)
    return order.broken


def _is_in(path: PurePosixPath, above: PurePosixPath) -> bool:
    return path == above or above in path.parents


def _moved(path: PurePosixPath, source: PurePosixPath, target: PurePosixPath) -> PurePosixPath:
    return target / path.relative_to(source) if _is_in(path, source) else path
