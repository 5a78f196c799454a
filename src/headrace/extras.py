"""Packages that come with an extra: how they are installed into this very environment."""

from __future__ import annotations

import sys
from pathlib import Path


def install(extra: str) -> str:
    """The command, for a checkout. The interpreter's own pip: the shell's may be another one's.

    >>> install("kafka").endswith("-m pip install '.[kafka]'")
    True
    """
    return f"{shown(Path(sys.executable))} -m pip install '.[{extra}]'"


def shown(path: Path) -> str:
    """A path, relative where it is below the working directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
