"""A damaged repository: refused before anything is decoded, and an older snapshot is used.

`make faults` tries 10,000, some of them through a whole start (`tests.faults.mutated`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
import rocksdict

from headrace.state.restoring import restore
from tests.state.cuts import MINE
from tests.state.kept import Kept, is_refused, mutate
from tests.state.mutations import DAMAGES

COUNT = 200
SEED = 1


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Made once: whoever damages it mends it."""
    return Kept(tmp_path_factory.mktemp("mutations"))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a database is a failure."""

    def opened(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a store was opened")

    monkeypatch.setattr(rocksdict, "Rdict", opened)


def test_every_mutation_is_refused_before_it_is_decoded(
    kept: Kept, tmp_path: Path, no_decoding: None
) -> None:
    """The newest is refused and leaves nothing; the next older one, which shares no damaged file
    with it, comes back byte by byte.
    """
    tried = mutate(kept, COUNT, tmp_path / "draft", SEED)
    assert tried.total() == COUNT
    for of in ("manifest", "file of a shard"):
        assert {kind for kind, file in tried if file == of} == {d.__name__ for d in DAMAGES}


def test_an_undamaged_one_is_restored(kept: Kept, tmp_path: Path) -> None:
    """The refusals above are for what was damaged."""
    for number, ref in enumerate(ref for shard in kept.refs for ref in shard):
        done = restore(ref, kept.sources, tmp_path / str(number), MINE)
        assert done.source == "repository"


@pytest.mark.parametrize("which", ["agent", "partition", "snapshot"])
def test_an_exchanged_manifest_is_refused(
    kept: Kept, tmp_path: Path, no_decoding: None, which: str
) -> None:
    """Another agent's, another partition's, or an old one under the newest id: valid each, and
    not the one that is vouched for.
    """
    newest = kept.refs[0][0]
    other = {"partition": kept.refs[1][0], "agent": kept.refs[2][0], "snapshot": kept.refs[0][1]}
    mine, theirs = kept.needs[newest][0], kept.needs[other[which]][0]
    mine.write_bytes(kept.files.content[theirs])
    theirs.write_bytes(kept.files.content[mine])
    try:
        assert is_refused(newest, kept, tmp_path / "draft")
        assert is_refused(other[which], kept, tmp_path / "draft")
    finally:
        kept.files.mend([mine, theirs])
