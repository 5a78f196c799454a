"""Headrace with another River: an environment of its own, beside this one in all else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.config import PREFIX
from headrace.serving.client import Client
from tests.tree import ROOT
from tests.upgrade.worker import Life

PINNED = Path(__file__).with_name("river.txt")
LACKING = Path(__file__).with_name("lacking.py")
INSTALL_WAIT_S = 120


class Build:
    """A Python in which `headrace` runs."""

    def __init__(self, python: Path) -> None:
        self.python = python

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `headrace` to its end."""
        return subprocess.run(
            [self.python, "-m", "headrace", *arguments],
            env=_environment(),
            check=False,
            capture_output=True,
            text=True,
        )

    def json(self, *arguments: str) -> tuple[int, Any]:
        """The exit code, and the JSON that it prints."""
        done = self.command(*arguments, "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    @contextmanager
    def up(self, life: Life) -> Iterator[Client]:
        """A service in a process of its own, and a client of it; stopped in order at the end."""
        process = subprocess.Popen(
            [self.python, "-m", "tests.upgrade.worker", msgspec.json.encode(life)],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, "it has ended before it was ready; its standard error says why"
            with Client(address) as client:
                yield client
            process.stdin.close()
            assert process.wait(timeout=30) == 0


def other_build(place: Path) -> Build:
    """One with River 0.25.0 at `place`; the test is skipped with the reason if it cannot be had."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
    packages = Path(paths["purelib"])
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pinned = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(PINNED)]
    try:
        done = subprocess.run(
            [sys.executable, *install, *pinned, "--target", str(packages)],
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_WAIT_S,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"River 0.25.0 could not be installed in {INSTALL_WAIT_S} s")
    if done.returncode:
        pytest.skip(f"River 0.25.0 cannot be installed here: {done.stderr.strip()[-500:]}")
    # All else is that of this environment, looked for behind what is installed there.
    # River is imported when that is known, so both stand in one file, in that order.
    shutil.copy(LACKING, packages)
    others = sysconfig.get_paths()["purelib"]
    (packages / "others.pth").write_text(f"{others}\nimport {LACKING.stem}\n")
    return Build(python)


def _environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    fixed = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1"}
    return {**ours, **fixed, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
