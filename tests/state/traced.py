"""What the kernel saw of a program: the calls by which files and names become durable."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CALL = re.compile(r"(fsync|rename|link)(?:at2?)?\((.*)\) += 0")
_CALLS = "trace=fsync,rename,renameat,renameat2,link,linkat"


def traced(root: Path, program: str, *arguments: str) -> list[str]:
    """Run the Python `program` in a process of its own; its calls that concern paths below `root`,
    which are given relative to it, with names that change masked (ID, SHA, DIGEST, blobs/ab).

    Where there is no strace, or where the machine forbids it, the test is skipped.
    """
    trace = root / "trace"
    strace = ["strace", "-f", "-y", "-s", "500", "-o", str(trace), "-e", _CALLS]
    ran = run_under(strace, program, *arguments)
    assert ran.returncode == 0, ran.stderr
    seen = []
    for call in filter(None, map(_CALL.search, trace.read_text().splitlines())):
        paths = re.findall(rf"{root}(?:/([^\">]*))?[\">]", call[2])
        if paths:
            seen.append(" ".join([call[1], *(path or "." for path in paths)]))
    text = re.sub(r"blobs/[0-9a-f]{2}\b", "blobs/ab", "\n".join(seen))
    text = re.sub(r"\.[0-9a-f]{16}\.json", ".DIGEST.json", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "ID", re.sub(r"\b[0-9a-f]{64}\b", "SHA", text)).split("\n")


def run_under(strace: list[str], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The Python `program` under a command of strace, done; skips where that cannot be."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here, which shows and breaks system calls")
    ran = subprocess.run(
        [*strace, sys.executable, "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0 and "ptrace" in ran.stderr:
        pytest.skip("this machine forbids ptrace")
    return ran
