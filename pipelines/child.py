"""A process of ours that never outlives us: a broker that was started along with the service."""

from __future__ import annotations

import asyncio
import atexit
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

STOP_WAIT_S = 5.0
"""From asking a child to end until it is killed, unless told otherwise."""
LOG_TAIL_BYTES = 2000


class Child:
    """A running process that dies with the one that made it.

    It ends by `stop` or `end`, at exit, and on Linux also when this process is killed. The kernel
    ties it to the *thread* that makes it, so make it in a thread that lasts. What it writes is
    appended to `log`. It runs in the directory of `log` and inherits the open files `keep`.
    Raises OSError if the log cannot be written.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        keep: Collection[int] = (),
        stop_wait_s: float = STOP_WAIT_S,
    ) -> None:
        self._log = log
        self._stop_wait_s = stop_wait_s
        with log.open("ab") as output:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                pass_fds=keep,
                # A group of its own: Ctrl-C in a terminal must reach the service alone, which
                # still needs the broker while it stops.
                start_new_session=True,
            )
        atexit.register(self.end)

    @property
    def pid(self) -> int | None:
        """The process's id while it is ours to end."""
        return self._process.pid if self._process is not None else None

    def ended(self) -> int | None:
        """The exit code of a process that ended by itself; None while it runs."""
        return self._process.poll() if self._process is not None else 0

    async def stop(self) -> None:
        """As `end`, without holding up the event loop."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """Ask it to end; kill it, by its own id, if it has not after the wait. Twice is no harm."""
        process, self._process = self._process, None
        atexit.unregister(self.end)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._stop_wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """The end of what it wrote."""
        text = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return text or "nothing"


# Asks the kernel to kill this process when its parent dies, then becomes the child. A fresh
# interpreter does it because code between fork and exec is not safe in a process with threads.
# The parent may have died before the request: then nobody is left to be told.
# JAVA_TOOL_OPTIONS and its like would change a Java runtime that we chose with its options.
_TIED = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that wanted a broker is gone")
kept = {name: value for name, value in os.environ.items() if "JAVA" not in name}
os.execve(sys.argv[2], sys.argv[2:], kept)
"""
