"""How the user would start this program once more, for commands that are there to be copied."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from headrace.extras import shown

NAME = "headrace"


def program() -> str:
    """`headrace` where the shell finds this very program by its name, else its path.

    Below the working directory the path is a relative one: `.venv/bin/headrace`.
    """
    ran = Path(sys.argv[0])
    if ran.name == "__main__.py":
        return f"{shown(Path(sys.executable))} -m {NAME}"
    if ran.name != NAME or not ran.is_file():
        return NAME  # somebody else's program calls us
    found = shutil.which(NAME)
    return NAME if found and Path(found).samefile(ran) else shown(ran)
