"""A repository on a disk, whole and sound, to be damaged one file at a time and mended again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import msgspec

from headrace.errors import CorruptStateError
from headrace.state import manifest as manifests
from headrace.state.checkpoints import Checkpoints
from headrace.state.manifest import ShardRef
from headrace.state.publishing import publish
from headrace.state.repositories import LocalRepository
from headrace.state.restoring import Sources, restore
from headrace.state.store import ShardStore
from headrace.state.sums import Sums
from tests.state.cuts import META, MINE, ROWS, cut
from tests.state.mutations import Files, damage, emptied, what

Kinds = Counter[tuple[str, str]]
"""How many mutations, by what was done and to what kind of file."""


class Kept:
    """A repository with two snapshots of each of four shards: two agents, two partitions.

    `refs`: per shard, the newest first. `needs`: the manifest of each, and its files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "kept"
        repository = LocalRepository(self.root)
        self.sources = Sources(Checkpoints(root / "none"), repository)
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
                    done = publish(one, path, repository, Sums())
                    self.refs[-1].insert(0, done.vouched(one).ref)
                store.close()
        self.files = Files(self.root)
        self.needs = {ref: self._named_by(ref) for shard in self.refs for ref in shard}

    def _named_by(self, ref: ShardRef) -> list[Path]:
        content = self.files.content.items()
        (path,) = [path for path, data in content if manifests.digest(data) == ref.digest]
        return [path, *self.files.named_by(path)]


def mutate(kept: Kept, count: int, draft: Path, seed: int) -> Kinds:
    """Damage a file that the newest snapshot of some shard needs, `count` times: it is refused and
    leaves nothing at `draft`; the next older one, if it is whole, comes back byte by byte.

    AssertionError if not.
    """
    chance = random.Random(seed)
    tried, older = Kinds(), 0
    for _ in range(count):
        newest, before = chance.choice(kept.refs)
        mine = kept.needs[newest]
        path = kept.files.some(mine, chance) if chance.random() < 0.5 else mine[0]
        kind = damage(path, kept.files, chance)
        hurt = kept.files.damaged()
        try:
            assert is_refused(newest, kept, draft), f"{kind} {path} is not noticed"
            if hurt.isdisjoint(kept.needs[before]):
                done = restore(before, kept.sources, draft, MINE)
                assert manifests.digest(manifests.encode(done.manifest)) == before.digest
                older += 1
            else:
                assert is_refused(before, kept, draft), f"{kind} {path} is not noticed in an older"
        finally:
            kept.files.mend(hurt)
            emptied(draft)
        tried[kind, what(path)] += 1
    assert older > count / 2
    return tried


def is_refused(ref: ShardRef, kept: Kept, draft: Path) -> bool:
    """Whether it is, as corrupt, and without anything left."""
    try:
        restore(ref, kept.sources, draft, MINE)
    except CorruptStateError:
        return not draft.exists()
    return False
