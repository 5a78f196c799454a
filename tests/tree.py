"""The repository's files as the tidy tests see them: what git tracks, parsed once."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ("models", "state", "pipelines", "serving", "src")


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks, or would on the next commit; of an unpacked archive, all of it."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    names = [Path(name) for name in listing.stdout.split("\0") if name]
    if listing.returncode != 0:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.suffix == ".py"]
    return tuple(name for name in names if (ROOT / name).is_file() and "_pb2" not in name.name)


def sources(*folders: str) -> list[Path]:
    """Our Python files, or those below `folders`; a room is listed once, not by its link too."""
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and (not folders or path.parts[0] in folders)
    ]


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))
