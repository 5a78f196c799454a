"""One fault: a process that does an operation, strace that strikes at one of its system calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.faults.forks import Forks, Task
from tests.faults.judging import Verdict
from tests.faults.operations import OPERATIONS

WAIT_S = 60
"""Within which strace attaches, and a process ends."""
TRACES = 5
"""How often the threads of an operation are looked at, until none begins late."""
DURABLE = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile",
    "fsync", "fdatasync", "sync_file_range", "syncfs", "msync", "ftruncate", "truncate",
    "fallocate", "mkdir", "mkdirat", "rmdir", "rename", "renameat", "renameat2",
    "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "utimensat",
)  # fmt: skip
"""The calls that alter a disk or make it durable. Files are made by `openat`, which a `write` to
them follows."""
_TOLD = (*DURABLE, "openat", "access", "faccessat", "faccessat2")
_CALL = re.compile(r"(\w+)\(")


class NoTracing(Exception):
    """strace is not here, or the machine forbids it; the text says which."""


@dataclass(frozen=True)
class Point:
    """The call number `when` of its kind in a thread, by the thread's name."""

    thread: str
    call: str
    when: int


@dataclass(frozen=True)
class Struck:
    """How the process ended, what it said, and what was found after it."""

    status: int
    said: str
    verdict: Verdict


class Range:
    """Where an operation is struck again and again, each time from the same past.

    Order of calls: `points` once, then `strike` for any of them.
    """

    def __init__(self, server: Forks, where: Path, operation: str, *, without: str = "") -> None:
        self._server = server
        self._where = where
        self._operation = operation
        self._without = without
        self._past = where / "past"
        self.root = where / "root"
        if not self._past.exists():
            server.begin(Task(kind="past", root=str(self._past)))
            if server.ended():
                raise RuntimeError(Path(f"{self._past}.said").read_text(encoding="utf-8"))

    def trace(self) -> list[str]:
        """What the operation calls when nothing strikes, as strace tells it.

        Raises RuntimeError if the operation fails by itself.
        """
        if self._act("", [f"trace={_names(_TOLD)}"]):
            raise RuntimeError(Path(f"{self.root}.said").read_text(encoding="utf-8"))
        return (self._where / "trace").read_text(encoding="utf-8").splitlines()

    def points(self) -> list[Point]:
        """Every call at which something may strike."""
        for _ in range(TRACES):  # a pool of threads that is kept waiting grows by one
            counts, late = self._counted()
            if not late:
                return [
                    Point(thread, call, when + 1)
                    for (thread, call), count in sorted(counts.items())
                    for when in range(count)
                ]
        raise RuntimeError(f"a thread that begins late cannot be struck: {late}")

    def _counted(self) -> tuple[Counter[tuple[str, str]], str]:
        """How often each thread makes each call; a line of a thread that began too late, or ""."""
        counts: Counter[tuple[str, str]] = Counter()
        for line in self.trace():
            tid, _, told = line.partition(" ")
            call = _CALL.match(told.strip())
            if call is not None and call[1] in DURABLE:
                if tid not in self._threads:
                    return counts, line
                counts[self._threads[tid], call[1]] += 1
        return counts, ""

    def strike(self, point: Point, fault: str) -> Struck:
        """`fault`: as strace has it: signal=KILL, error=EIO."""
        inject = f"inject={point.call}:{fault}:when={point.when}"
        status = self._act(point.thread, [f"trace={point.call}", inject])
        said = Path(f"{self.root}.said").read_text(encoding="utf-8")
        return Struck(status, said, self._judged())

    def _judged(self) -> Verdict:
        task = Task(kind="judge", root=str(self.root), operation=self._operation)
        self._server.begin(task)
        if self._server.ended():
            text = Path(f"{self.root}.said").read_text(encoding="utf-8")
            return Verdict(found="neither", broken=[text.strip().splitlines()[-1]])
        return msgspec.json.decode(Path(f"{self.root}.verdict").read_bytes(), type=Verdict)

    def _act(self, thread: str, expressions: list[str]) -> int:
        """Do the operation under strace, in one thread or in all (""); how the process ended."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._past, self.root)
        if OPERATIONS[self._operation].disk_lost:
            shutil.rmtree(self.root / "state")
        go = Path(f"{self.root}.go")
        go.unlink(missing_ok=True)
        os.mkfifo(go)
        task = Task(
            kind="act", root=str(self.root), operation=self._operation, without=self._without
        )
        pid = self._server.begin(task)
        with go.open("wb"):  # when the process has come to it, all its threads are there
            self._threads = _threads(pid)
            (tid,) = [tid for tid, name in self._threads.items() if name == (thread or "main")]
            # Without -f it is this one thread.
            strace = self._attached(["-p", tid] if thread else ["-f", "-p", tid], expressions)
        status = self._server.ended()
        strace.wait(WAIT_S)
        assert strace.stderr is not None
        strace.stderr.close()
        return status

    def _attached(self, to: list[str], expressions: list[str]) -> subprocess.Popen[str]:
        if shutil.which("strace") is None:
            raise NoTracing("no strace here, which strikes at system calls")
        command = ["strace", "-y", "-s", "0", "-o", str(self._where / "trace"), *to]
        command += [part for expression in expressions for part in ("-e", expression)]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert strace.stderr is not None
        if "attached" not in (line := strace.stderr.readline()):
            raise NoTracing(f"this machine forbids ptrace: {line.strip()}")
        return strace


def _threads(pid: int) -> dict[str, str]:
    """The name of each thread, by its id; those with the same name are numbered."""
    found, seen = {}, Counter[str]()
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        name = (task / "comm").read_text(encoding="utf-8").strip()
        name = "main" if task.name == str(pid) else name
        seen[name] += 1
        found[task.name] = name if seen[name] == 1 else f"{name} {seen[name]}"
    return found


def _names(calls: tuple[str, ...]) -> str:
    """`?`: not every architecture has all of them."""
    return ",".join(f"?{call}" for call in calls)
