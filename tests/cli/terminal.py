"""A command in a process of its own, before somebody who types."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.cli.conftest import FIXED


class Terminal:
    """A command whose standard input is a terminal, and its output ours to read."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", *arguments],
            env=FIXED,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)

    def answer(self, text: str) -> tuple[int, str, str]:
        """Type it, and give the exit code and what was written."""
        os.write(self._ours, text.encode())
        out, err = self.process.communicate(timeout=30)
        os.close(self._ours)
        return self.process.returncode, out, err
