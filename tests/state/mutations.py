"""Damage to a repository on a disk: one change at a time, by chance, and taken back again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, list[Path], random.Random], None]


def flipped(path: Path, _: list[Path], chance: random.Random) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _put(path, bytes(content))


def truncated(path: Path, _: list[Path], chance: random.Random) -> None:
    """Some bytes fewer at the end, or none left."""
    _put(path, path.read_bytes()[: chance.randrange(path.stat().st_size)])


def longer(path: Path, _: list[Path], chance: random.Random) -> None:
    """Some bytes more, behind what is right."""
    _put(path, path.read_bytes() + chance.randbytes(chance.randrange(1, 100)))


def missing(path: Path, _: list[Path], chance: random.Random) -> None:
    """Not there."""
    path.unlink()


def swapped(path: Path, others: list[Path], chance: random.Random) -> None:
    """Another valid file of the repository in its place: of another shard, agent, snapshot, an
    older one, or of another kind.
    """
    content = path.read_bytes()
    _put(path, chance.choice([o for o in others if o.read_bytes() != content]).read_bytes())


def linked(path: Path, others: list[Path], chance: random.Random) -> None:
    """A symbolic link to another valid file."""
    content = path.read_bytes()
    target = chance.choice([o for o in others if o.read_bytes() != content])
    path.unlink()
    path.symlink_to(target)


def dangling(path: Path, _: list[Path], chance: random.Random) -> None:
    """A symbolic link to nothing."""
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


def resized(path: Path, _: list[Path], chance: random.Random) -> None:
    """A number that lies by one: the size of a file in a manifest; some byte of other files."""
    content = path.read_bytes()
    at = content.find(b'"size":')
    if path.suffix != ".json" or at < 0:
        flipped(path, [], chance)
        return
    begin = at + len(b'"size":')
    end = begin
    while content[end : end + 1].isdigit():
        end += 1
    _put(path, content[:begin] + b"%d" % (int(content[begin:end]) + 1) + content[end:])


DAMAGES: tuple[Damage, ...] = (
    flipped, flipped, truncated, longer, missing, swapped, swapped, linked, dangling, resized,
)  # fmt: skip


def mended(path: Path, content: bytes) -> None:
    """As it was."""
    _put(path, content)


def _put(path: Path, content: bytes) -> None:
    """A new file: what is linked elsewhere is not altered."""
    draft = path.with_name("draft")
    draft.write_bytes(content)
    draft.replace(path)


def emptied(path: Path) -> None:
    """Take a draft away, if there is one."""
    shutil.rmtree(path, ignore_errors=True)
