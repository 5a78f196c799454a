"""What a snapshot brings into the repository when one key in a hundred has changed since the last.

A store of 100,000 keys, its checkpoints and a repository on this disk, in a process of their own,
without a broker. RocksDB merges tables meanwhile, and all that it merges is counted, too: so there
are as many snapshots as it takes until all of the store has been written anew, and more.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from benchmarks.filled import BATCH, trained
from benchmarks.gates import Gate
from benchmarks.memory import META
from benchmarks.place import Place
from benchmarks.processes import MEASURED, child, say
from benchmarks.workload import SEED, spec_for

from headrace.models.slots import KEY_ROW
from headrace.models.spec import load_spec
from headrace.state.checkpoints import shard_files
from headrace.state.disk import TABLE
from headrace.state.store import ShardStore

KEYS = 100_000
CHANGED = KEYS // 100
SNAPSHOTS = 120
LOOK_S = 0.02
RATIO_MUST = 2.0


class Order(msgspec.Struct):
    """Where store and checkpoints are to be."""

    scratch: str


async def increments(place: Place) -> list[Gate]:
    """The mean of them, after a first one that brought all."""
    async with child("increments", Order(str(place.file("increments"))), MEASURED) as process:
        said = await process.says()
    ratios = [new / said["changed"] for new in said["new"]]
    beside = (
        f"{min(ratios):.1f} to {max(ratios):.1f}; {CHANGED:,} of {KEYS:,} keys changed before each "
        f"of {SNAPSHOTS}; the store took up to {said['space']:.1f} of what it took at first"
    )
    name = "snapshot.new_to_changed_bytes_1e5_keys"
    return [Gate(name, sum(ratios) / len(ratios), "<=", RATIO_MUST, beside)]


def main(order: str) -> None:
    """The process."""
    scratch = Path(msgspec.json.decode(order, type=Order).scratch)
    models = trained(load_spec(spec_for("bench", "events")))
    store = ShardStore.open(scratch / "shard", create=True)
    named = enumerate(sorted(KEY_ROW + f"k{number}".encode() for number in range(KEYS)))
    rows = ((name, models[number % len(models)]) for number, name in named)
    while batch := list(islice(rows, BATCH)):
        store.write(batch, META)
    random = np.random.default_rng(SEED)
    kept, new = tables(store, scratch / "first"), list[int]()
    changed, sizes = 0, [store.size_bytes()]
    for number in range(SNAPSHOTS):
        keys = random.choice(KEYS, size=CHANGED, replace=False).tolist()
        chosen = random.choice(len(models), size=CHANGED).tolist()
        written = [
            (KEY_ROW + f"k{key}".encode(), models[model])
            for key, model in zip(keys, chosen, strict=True)
        ]
        store.write(written, META)
        changed += sum(len(name) + len(data) for name, data in written)
        there = tables(store, scratch / f"snapshot-{number}")
        wait_for_merges(store)
        sizes.append(store.size_bytes())
        new.append(sum(size for file, size in there.items() if file not in kept))
        kept |= there
    space = max(sizes) / sizes[0]
    say({"new": new, "changed": changed / SNAPSHOTS, "space": space})
    os._exit(0)


def wait_for_merges(store: ShardStore) -> None:
    """A service has half a minute for them between two snapshots."""
    time.sleep(LOOK_S)
    while store._database.property_int_value("rocksdb.num-running-compactions"):  # noqa: SLF001
        time.sleep(LOOK_S)


def tables(store: ShardStore, path: Path) -> dict[int | str, int]:
    """The bytes of a checkpoint's files. A table is known by its inode: it is never altered; all
    other files are new each time.
    """
    store.checkpoint(path)
    return {
        file.stat().st_ino if file.suffix == TABLE else str(file): file.stat().st_size
        for file in shard_files(path)
    }
