"""A server that has imported everything and forks a process for each task: River takes a second.

A task is a line of JSON on its standard input; it answers with the pid, and with the exit status
when the process has ended. Run as `python -m tests.faults.forks`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from headrace import logs
from headrace.errors import StateError
from headrace.state.store import ShardStore
from tests.faults import judging
from tests.faults.journal import mark
from tests.faults.life import Life, run
from tests.faults.operations import OPERATIONS, past
from tests.faults.protections import switch_off
from tests.tree import ROOT

SAID = 3
"""The exit status of a process that ends with a StateError, which says what to do."""
FAILED = 4
"""That of one that ends otherwise."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do over `root`. `act`: the operation, after it has opened `root`.go, a
    pipe; `without`: the protection that is switched off meanwhile.
    """

    kind: Literal["past", "act", "judge"]
    root: str
    operation: str = ""
    without: str = ""


class Forks:
    """A running server. Order of calls: `begin`, then `ended`, for each task; `close`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def begin(self, task: Task) -> int:
        """Its process, which has begun."""
        assert self._server.stdin is not None
        self._server.stdin.write(msgspec.json.encode(task).decode() + "\n")
        self._server.stdin.flush()
        return self._number()

    def ended(self) -> int:
        """How it has ended: its exit status, or the signal with a minus before it."""
        return self._number()

    def close(self) -> None:
        """No more tasks."""
        self._server.communicate()

    def _number(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the server of forks has ended; its error output says why")
        return int(line)


@contextmanager
def forks() -> Iterator[Forks]:
    """A server for the while."""
    server = Forks()
    try:
        yield server
    finally:
        server.close()


def _serve() -> None:
    judging.reckon()
    for line in sys.stdin:
        task = msgspec.json.decode(line, type=Task)
        pid = os.fork()
        if pid == 0:
            os._exit(_done(task))
        _answer(pid)
        _, status = os.waitpid(pid, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _done(task: Task) -> int:
    output = os.open(f"{task.root}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdin.close()
    logs.setup(level="warning", style="plain", stream=sys.stderr)
    try:
        switch_off(task.without)
        _do(task)
    except StateError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        return SAID
    except BaseException:  # noqa: BLE001 - a forked process must not go back into the server
        traceback.print_exc()
        sys.stderr.flush()
        return FAILED
    return 0


def _do(task: Task) -> None:
    root = Path(task.root)
    root.mkdir(exist_ok=True)
    if task.kind == "past":
        run(_past(root))
    elif task.kind == "judge":
        judging.judge(root, OPERATIONS[task.operation])
    else:
        run(_act(root, task.operation))


async def _past(root: Path) -> None:
    await past(Life(root))


async def _act(root: Path, name: str) -> None:
    _begin_threads(root.with_name(f"{root.name}.warm"))
    life = Life(root)
    await OPERATIONS[name].before(life)
    Path(f"{root}.go").read_bytes()  # noqa: ASYNC240 - all stands still until strace is there
    await OPERATIONS[name].act(life)
    mark("done")


def _begin_threads(path: Path) -> None:
    """RocksDB begins its threads with the first work for them: strace must find them all."""
    shutil.rmtree(path, ignore_errors=True)
    store = ShardStore.open(path, create=True)
    store._database.put(b"r", b"")
    store._database.flush()
    store._database.compact_range(None, None)
    store.close()


if __name__ == "__main__":
    _serve()
