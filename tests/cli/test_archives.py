"""Snapshots compared, exported and imported on the command line."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.served import Served
from tests.serving.carried import content_of
from tests.serving.history import BEFORE

pytestmark = pytest.mark.usefixtures("before")


@pytest.fixture
def run(served: Served) -> Run:
    """Commands against that server."""
    return Run(served.target)


def test_an_export_says_how_to_import_it(run: Run, served: Served, tmp_path: Path) -> None:
    """The digest, and the command; what comes in is shown as an imported one."""
    content = content_of(served.world.snapshots.views[BEFORE])
    digest, file = sha256(content).hexdigest(), tmp_path / "before.tar"
    head, *lines = run("snapshot", "export", BEFORE, str(file)).stdout.splitlines()
    assert head == f"exported {BEFORE} to {file}, 1.0 MB"
    assert lines[0].split() == ["digest", digest]
    assert f"snapshot import {file} --digest {digest}`" in lines[1]
    assert file.read_bytes() == content
    again = run("snapshot", "import", str(file), "--digest", digest)
    told = f"{BEFORE} is here already, with these bytes: nothing was written\n"
    assert (again.exit_code, again.stdout) == (0, told)
    assert run("snapshot", "rm", BEFORE, "--yes").exit_code == 0
    shown = run("snapshot", "import", str(file), "--digest", digest).stdout
    assert "kind        named, imported" in shown
    assert "named, imported" in run("snapshot", "ls").stdout


def test_archives_for_machines(run: Run, served: Served, tmp_path: Path) -> None:
    """One JSON document each."""
    file = str(tmp_path / "before.tar")
    made = run.json("snapshot", "export", BEFORE, file)
    assert (made["snapshot_id"], made["size_bytes"]) == (BEFORE, 1_000_018)
    run("snapshot", "rm", BEFORE, "--yes")
    view = run.json("snapshot", "import", file, "--digest", made["digest"])
    assert (view["snapshot_id"], view["imported"], view["complete"]) == (BEFORE, True, True)
    assert run.json("snapshot", "diff", BEFORE)["counts"][0]["changed"] == 1_200


def test_a_file_is_not_written_over_unasked(run: Run, tmp_path: Path) -> None:
    """Where nobody can be asked it takes --yes; a directory is never written over."""
    file = tmp_path / "before.tar"
    file.write_bytes(b"mine")
    refused = run("snapshot", "export", BEFORE, str(file))
    assert (refused.exit_code, file.read_bytes()) == (2, b"mine")
    assert f"{file} (4 bytes) is there already, and nobody is here" in refused.stderr
    assert '"Write over it?": say --yes' in refused.stderr
    done = run("snapshot", "export", BEFORE, str(file), "--yes")
    assert (done.exit_code, done.stderr) == (0, f"writing over {file} (4 bytes)\n")
    assert file.stat().st_size > 1_000_000
    assert "no file" in run("snapshot", "export", BEFORE, str(tmp_path), "--yes").stderr


def test_another_digest_is_refused(run: Run, served: Served, tmp_path: Path) -> None:
    """With the code for damage; without any digest the command is not one."""
    file = tmp_path / "before.tar"
    run("snapshot", "export", BEFORE, str(file))
    wrong = run("snapshot", "import", str(file), "--digest", "ab" * 32, "--json")
    assert wrong.exit_code == 1
    assert json.loads(wrong.stderr)["error"]["code"] == "snapshot_damaged"
    assert run("snapshot", "import", str(file)).exit_code == 2
    short = run("snapshot", "import", str(file), "--digest", "1234")
    assert (
        "digest is no SHA-256: give the 64 hexadecimal digits that `headrace snapshot"
        in short.stderr
    )
    assert run("snapshot", "import", str(tmp_path / "no"), "--digest", "ab" * 32).exit_code == 2


def test_a_comparison_counts_and_names(run: Run) -> None:
    """Kinds of rows with what became of them, then some of them, then what to know."""
    text = run("snapshot", "diff", BEFORE, BEFORE).stdout
    assert text.splitlines()[0] == f"from {BEFORE} to {BEFORE}"
    assert "to the state as it is now" in run("snapshot", "diff", BEFORE).stdout
    words = [line.split() for line in text.splitlines()]
    assert ["keys", "3", "1", "1,200"] in words
    assert ["key", "4711", "changed", "1"] in words
    assert "note: of 1 of 2 partitions" in text
