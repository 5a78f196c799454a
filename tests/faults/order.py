"""Whether data and names were durable before the next step, from what strace told.

A kill leaves what the kernel holds in memory; only a power cut shows that a directory was not
synced. So the order of the calls is looked at. A step is a rename or a link to a place that counts,
a record in a log, or the end of a flush. At each step

- every name that counts is synced in its directory;
- what is in a shard's write-ahead log is synced;
- what gets a name that counts has all of its data and, if it is a directory, all names below it
  synced. Data belongs to a file and not to its names: a link to what RocksDB synced is durable.

New files that RocksDB makes for itself, tables and logs, count from when it names them in its own
manifest: whether it syncs their names is its own affair, and a rename of theirs is looked at.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from tests.faults.journal import MARK

_DONE = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^\d+ +<\.\.\. \w+ resumed>")
_MARKED = re.compile(rf'"{MARK}(\w+)"')
_PATH = re.compile(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"([^"]*)"')
_FILE = re.compile(r"^\d+<([^>]*)>(?!\(deleted\))")
# On their way in or out, or of no account: RocksDB's own log, the clock of the repository.
_PASSING = re.compile(
    r"/(drafts|trash|\.passing)(/|$)|/\.fetching-|\.new$|/(LOG|LOCK|clock|lock)[^/]*$|\.dbtmp$"
)
_TOLD_ONLY = re.compile(r"/(LOG|LOCK)[^/]*$")
_LOGGED = re.compile(r"/shards/.*/\d+\.log$")
_WRITES = ("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile")
_SYNCS = ("fsync", "fdatasync")


class Call(NamedTuple):
    """A call that succeeded or not, as strace tells it; `begun`: the number of the line on which it
    began, `ended`: of that on which it ended, after those of other threads meanwhile.
    """

    begun: int
    ended: int
    text: str


class Order:
    """Order of calls: `see` for each call; what is wrong is in `broken`."""

    def __init__(self, root: str) -> None:
        self.broken: list[str] = []
        self._root = root
        self._numbers = itertools.count()
        self._files: dict[PurePosixPath, int] = {}  # which file each name that was seen is of
        self._names: dict[PurePosixPath, int] = {}  # not synced in their directory, and since when
        self._data: dict[int, int] = {}  # files with data that is not synced, and since when

    def see(self, call: Call) -> None:
        """One call, in the order in which they ended."""
        marked = _MARKED.search(call.text)
        if marked is not None:
            self._step(f"{'record ' * marked[1].isdigit()}{marked[1]}")
        done = _DONE.match(call.text)
        if done is None or self._root not in call.text:
            return
        name, told = done[1], done[2]
        paths = [PurePosixPath(at, path) for at, path in _PATH.findall(told)]
        at = _FILE.match(told)
        if name in _WRITES:
            if at is not None:
                self._data[self._file(PurePosixPath(at[1]))] = call.ended
        elif name in _SYNCS and at is not None:
            self._synced(PurePosixPath(at[1]), call.begun)
        elif name in ("mkdir", "mkdirat") or (name == "openat" and "O_EXCL" in told):
            self._names[paths[0]] = call.ended
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            self._named(*paths[:2], moved=name.startswith("rename"), at=call.ended)
        elif name in ("unlink", "unlinkat", "rmdir"):
            self._gone(paths[0])

    def _file(self, path: PurePosixPath) -> int:
        if path not in self._files:
            self._files[path] = next(self._numbers)
        return self._files[path]

    def _synced(self, path: PurePosixPath, begun: int) -> None:
        """What was altered while the sync was under way may not be in it."""
        file = self._file(path)
        if self._data.get(file, begun) < begun:
            del self._data[file]
        self._names = {
            name: since
            for name, since in self._names.items()
            if name.parent != path or since > begun
        }

    def _named(self, source: PurePosixPath, target: PurePosixPath, *, moved: bool, at: int) -> None:
        if not _PASSING.search(str(target)):
            self._step(f"{target} gets its name")
            data = {path for path, file in self._files.items() if file in self._data}
            below = [p for p in data | (self._names.keys() - {source}) if _is_in(p, source)]
            loose = sorted(str(path) for path in below if not _TOLD_ONLY.search(str(path)))
            if loose:
                self.broken.append(f"{target} gets its name, and {loose[:3]} are not synced")
        self._files.pop(target, None)
        if moved:
            self._files = {_moved(p, source, target): file for p, file in self._files.items()}
            self._names.pop(source, None)
            self._names = {_moved(p, source, target): n for p, n in self._names.items()}
        else:
            self._files[target] = self._file(source)
        self._names[target] = at

    def _gone(self, path: PurePosixPath) -> None:
        self._names = {p: since for p, since in self._names.items() if not _is_in(p, path)}
        self._files = {p: file for p, file in self._files.items() if not _is_in(p, path)}

    def _step(self, what: str) -> None:
        logged = [p for p, file in self._files.items() if file in self._data]
        loose = [path for path in logged if _LOGGED.search(str(path))]
        loose += [name for name in self._names if not _PASSING.search(str(name))]
        if loose:
            told = sorted(str(path) for path in loose)[:3]
            self.broken.append(f"{what}, and {told} are not synced")
            self._names.clear()


def broken(lines: Iterable[str], root: str) -> list[str]:
    """What is wrong with the order of these calls; paths outside of `root` do not count."""
    return _broken(_calls(lines), root)


def needless(lines: Iterable[str], root: str) -> tuple[int, list[str]]:
    """How many syncs there are below `root`, and those without which nothing would be wrong."""
    calls = _calls(lines)
    syncs = [n for n, call in enumerate(calls) if _is_sync(call, root)]
    left_out = [n for n in syncs if not _broken([*calls[:n], *calls[n + 1 :]], root)]
    return len(syncs), [calls[n].text for n in left_out]


def _broken(calls: Sequence[Call], root: str) -> list[str]:
    order = Order(root)
    for call in calls:
        order.see(call)
    return order.broken


def _calls(lines: Iterable[str]) -> list[Call]:
    found = []
    begun: dict[str, tuple[int, str]] = {}  # by thread: a call during which another did something
    for number, line in enumerate(lines):
        tid = line.partition(" ")[0]
        if line.endswith(_UNFINISHED):
            begun[tid] = number, line.removesuffix(_UNFINISHED)
        elif (resumed := _RESUMED.match(line)) is not None and tid in begun:
            at, text = begun.pop(tid)
            found.append(Call(at, number, text + line[resumed.end() :]))
        else:
            found.append(Call(number, number, line))
    return found


def _is_sync(call: Call, root: str) -> bool:
    done = _DONE.match(call.text)
    return done is not None and done[1] in _SYNCS and root in call.text


def _is_in(path: PurePosixPath, above: PurePosixPath) -> bool:
    return path == above or above in path.parents


def _moved(path: PurePosixPath, source: PurePosixPath, target: PurePosixPath) -> PurePosixPath:
    return target / path.relative_to(source) if _is_in(path, source) else path
