"""Directories that the system does not list, as on a network disk that is away."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def unlistable(disk: pytest.MonkeyPatch, below: Path, code: str) -> None:
    """From now on to list any directory in and below that one ends in that error."""
    number = getattr(errno, code)
    real = os.scandir

    def scandir(path: str | Path | int) -> Any:  # by its descriptor while a tree is removed
        if not isinstance(path, int) and Path(path).is_relative_to(below):
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    disk.setattr(os, "scandir", scandir)
