"""A damaged repository: refused before anything is decoded, and an older snapshot is used.

`MUTATIONS=10000` tries as many; `make faults` does.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
import rocksdict

from headrace.errors import CorruptStateError, StateError
from headrace.state import manifest as manifests
from headrace.state.checkpoints import Checkpoints
from headrace.state.manifest import ShardRef
from headrace.state.publishing import publish
from headrace.state.repository import LocalRepository
from headrace.state.restoring import Sources, restore
from headrace.state.store import ShardStore
from headrace.state.sums import Sums
from tests.state.cuts import META, MINE, ROWS, cut
from tests.state.mutations import DAMAGES, emptied, mended

COUNT = int(os.environ.get("MUTATIONS", "200"))
SEED = 1


class Kept:
    """A repository with two snapshots of each of four shards: two agents, two partitions.

    `refs`: per shard, the newest first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "kept"
        self.sources = Sources(Checkpoints(root / "none"), LocalRepository(self.root))
        checkpoints = Checkpoints(root / "checkpoints")
        self.refs: list[list[ShardRef]] = []
        for agent in ("card-fraud", "heating"):
            for partition in (3, 4):
                self.refs.append([])
                store = ShardStore.open(root / f"{agent}-{partition}", create=True)
                for name, offset in (("s1", 500), ("s2", 1000)):
                    meta = msgspec.structs.replace(META, next_offset=offset)
                    more = {b"mine": f"{agent}@{partition}@{name}".encode()}
                    store.write((ROWS | more).items(), meta)
                    one = cut(
                        f"{agent}.{name}", agent=agent, partition=partition, next_offset=offset
                    )
                    path = checkpoints.take(store, one)
                    done = publish(one, path, self.sources.repository, Sums())
                    self.refs[-1].insert(0, done.vouched(one).ref)
                store.close()
        everything = [path for path in self.root.rglob("*") if path.is_file()]
        self.files = sorted(path for path in everything if path.name != "clock")
        self.needs = {ref: self._named_by(ref) for shard in self.refs for ref in shard}

    def _named_by(self, ref: ShardRef) -> list[Path]:
        """The manifest of that shard, and its files."""
        (path,) = [path for path in self.files if manifests.digest(path.read_bytes()) == ref.digest]
        found = manifests.decode(path.read_bytes(), ref.digest)
        blobs = self.root / "blobs"
        return [path, *(blobs / f.sha256[:2] / f.sha256 for f in found.files if f.size)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Made once: whoever damages it mends it."""
    return Kept(tmp_path_factory.mktemp("mutations"))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a database, and decoding a manifest that the log does not vouch for, is a failure."""

    def opened(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a store was opened")

    monkeypatch.setattr(rocksdict, "Rdict", opened)


def test_every_mutation_is_refused_before_it_is_decoded(
    kept: Kept, tmp_path: Path, no_decoding: None
) -> None:
    """The newest is refused and leaves nothing; the next older one, which shares no damaged file
    with it, comes back byte by byte.
    """
    chance = random.Random(SEED)
    draft = tmp_path / "draft"
    older = refused = 0
    for _ in range(COUNT):
        newest, before = chance.choice(kept.refs)
        mine = kept.needs[newest]
        path = chance.choice(mine) if chance.random() < 0.5 else mine[0]
        content = path.read_bytes()
        chance.choice(DAMAGES)(path, kept.files, chance)
        try:
            with pytest.raises(CorruptStateError):
                restore(newest, kept.sources, draft, MINE)
            refused += 1
            assert not draft.exists()
            if path in kept.needs[before]:
                continue
            done = restore(before, kept.sources, draft, MINE)
            assert manifests.digest(manifests.encode(done.manifest)) == before.digest
            older += 1
        finally:
            mended(path, content)
            emptied(draft)
    assert refused == COUNT
    assert older > COUNT / 2


def test_an_undamaged_one_is_restored(kept: Kept, tmp_path: Path) -> None:
    """The refusals above are for what was damaged."""
    for number, ref in enumerate(ref for shard in kept.refs for ref in shard):
        restore(ref, kept.sources, tmp_path / str(number), MINE)


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
    content, stolen = mine.read_bytes(), theirs.read_bytes()
    mended(mine, stolen)
    mended(theirs, content)
    try:
        for ref in (newest, other[which]):
            with pytest.raises(StateError):
                restore(ref, kept.sources, tmp_path / "draft", MINE)
            assert not (tmp_path / "draft").exists()
    finally:
        mended(mine, content)
        mended(theirs, stolen)
