"""Files that survive a power cut: the order of system calls."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.state.disk import make_directory, sync_tree, write_durably
from tests.state.traced import run_under


def test_write_replaces_whole(tmp_path: Path) -> None:
    """A second write replaces the first as a whole and leaves no draft."""
    write_durably(tmp_path / "file", b"a long first content")
    write_durably(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_make_directory_makes_parents_once(tmp_path: Path) -> None:
    """Missing parents are made; what is there is left as it is."""
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "file").write_text("kept")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "file").read_text() == "kept"


def test_data_is_synced_before_the_name_and_the_name_after(tmp_path: Path) -> None:
    """The kernel sees: fsync of the data, rename, fsync of the directory; in that order."""
    trace = tmp_path / "trace"
    program = (
        "import sys; from pathlib import Path; from headrace.state.disk import write_durably\n"
        "write_durably(Path(sys.argv[1]), b'x')"
    )
    strace = ["strace", "-f", "-e", "trace=fsync,rename,renameat,renameat2", "-o", str(trace)]
    ran = run_under(strace, program, str(tmp_path / "file"))
    assert ran.returncode == 0, ran.stderr
    names = [line.split("(")[0].split()[-1] for line in trace.read_text().splitlines()]
    calls = [name.removesuffix("at2").removesuffix("at") for name in names if "+" not in name]
    assert [name for name in calls if name in ("fsync", "rename")] == ["fsync", "rename", "fsync"]


def test_a_tree_is_synced_but_for_tables_that_were_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with another name was durable before it got this one; one without may not be; what
    is no table may have been altered. Names come last.
    """
    for name in ("000012.sst", "000013.sst", "CURRENT"):
        (tmp_path / name).write_bytes(b"x")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("000012.sst", "CURRENT"):
        (tree / name).hardlink_to(tmp_path / name)
    (tree / "000014.sst").write_bytes(b"x")
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    sync_tree(tree)
    assert sorted(synced[:-1]) == ["000014.sst", "CURRENT"]
    assert synced[-1] == "tree"
