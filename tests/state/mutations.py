"""Damage to a repository on a disk: one change at a time, by chance, and taken back again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from headrace.state.manifest import Manifest


class Files:
    """The files of a sound repository, and what is in each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        there = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "clock")
        self.content = {path: path.read_bytes() for path in there}

    def named_by(self, manifest: Path) -> list[Path]:
        """The files that a manifest names."""
        found = msgspec.json.decode(self.content[manifest], type=Manifest)
        blobs = self.root / "blobs"
        return [blobs / file.sha256[:2] / file.sha256 for file in found.files]

    def some(self, paths: Iterable[Path], chance: random.Random) -> Path:
        """One of them in which there is something that can be damaged."""
        return chance.choice([path for path in paths if self.content[path]])

    def other(self, path: Path, chance: random.Random, *, alike: bool = False) -> Path:
        """Another file with other content; `alike`: of the same kind."""
        return chance.choice(
            [
                other
                for other, content in self.content.items()
                if content != self.content[path] and not (alike and what(other) != what(path))
            ]
        )

    def damaged(self) -> set[Path]:
        """Those that are not what they were."""
        return {
            path
            for path, content in self.content.items()
            if path.is_symlink() or not path.exists() or path.read_bytes() != content
        }

    def mend(self, paths: Iterable[Path]) -> None:
        """All as it was."""
        for path in paths:
            _put(path, self.content[path])


def what(path: Path) -> str:
    """What kind of file it is."""
    return "manifest" if path.suffix == ".json" else "file of a shard"


Damage = Callable[[Path, Files, random.Random], None]


def flipped(path: Path, files: Files, chance: random.Random) -> None:
    """One bit."""
    content = bytearray(files.content[path])
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _put(path, bytes(content))


def truncated(path: Path, files: Files, chance: random.Random) -> None:
    """Some bytes fewer at the end, or none left."""
    content = files.content[path]
    _put(path, content[: chance.randrange(len(content))])


def lengthened(path: Path, files: Files, chance: random.Random) -> None:
    """Some bytes more, behind what is right."""
    _put(path, files.content[path] + chance.randbytes(chance.randrange(1, 100)))


def zeroed(path: Path, files: Files, chance: random.Random) -> None:
    """A piece of zeros, as a disk leaves that lost a write."""
    content = files.content[path]
    at = chance.choice([n for n in range(len(content)) if content[n]])
    _put(path, content[:at] + bytes(len(content[at : at + 512])) + content[at + 512 :])


def missing(path: Path, files: Files, chance: random.Random) -> None:
    """Not there."""
    path.unlink()


def replaced(path: Path, files: Files, chance: random.Random) -> None:
    """Another valid file of the repository in its place, of whatever kind."""
    _put(path, files.content[files.other(path, chance)])


def stale(path: Path, files: Files, chance: random.Random) -> None:
    """A valid file of the same kind in its place: an old manifest under a new id, another shard's
    or another agent's.
    """
    _put(path, files.content[files.other(path, chance, alike=True)])


def swapped(path: Path, files: Files, chance: random.Random) -> None:
    """It and another valid file of its kind, each in the other's place."""
    other = files.other(path, chance, alike=True)
    _put(path, files.content[other])
    _put(other, files.content[path])


def linked(path: Path, files: Files, chance: random.Random) -> None:
    """A symbolic link to another valid file."""
    path.unlink()
    path.symlink_to(files.other(path, chance))


def dangling(path: Path, files: Files, chance: random.Random) -> None:
    """A symbolic link to nothing."""
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


def miscounted(path: Path, files: Files, chance: random.Random) -> None:
    """A digit is another one: an offset, a size, a sum, a time; of tables, a byte."""
    content = files.content[path]
    digits = [n for n in range(len(content)) if content[n : n + 1].isdigit()]
    if path.suffix != ".json":
        digits = list(range(len(content)))
    at = chance.choice(digits)
    _put(path, content[:at] + (b"2" if content[at : at + 1] == b"1" else b"1") + content[at + 1 :])


DAMAGES: tuple[Damage, ...] = (
    flipped, truncated, lengthened, zeroed, missing, replaced, stale, swapped, linked, dangling,
    miscounted,
)  # fmt: skip


def damage(path: Path, files: Files, chance: random.Random) -> str:
    """Do something to a file, and say what."""
    done = chance.choice(DAMAGES)
    done(path, files, chance)
    return done.__name__


def emptied(path: Path) -> None:
    """Take a draft away, if there is one."""
    shutil.rmtree(path, ignore_errors=True)


def _put(path: Path, content: bytes) -> None:
    """A new file: what is linked elsewhere is not altered."""
    draft = path.with_name("draft")
    draft.write_bytes(content)
    draft.replace(path)
