"""What a fault has left: all of the old state or all of the new; and the exact fold after it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.errors import StateError
from headrace.state.catalogue import Catalogue
from headrace.state.checkpoints import Checkpoints
from headrace.state.directory import StateDirectory
from headrace.state.manifest import Manifest
from headrace.state.restoring import Sources, restore
from headrace.state.store import ShardStore
from headrace.views import Partition
from tests.faults.journal import JournalBroker
from tests.faults.life import AGENT, ORACLE, ROWS, WHERE, Life, run
from tests.faults.operations import Operation, Stand
from tests.fold import compare
from tests.fold.control import Course, lives
from tests.fold.control import Life as Told
from tests.fold.fold import fold
from tests.fold.oracle import Origin
from tests.fold.state import Folded
from tests.simulation.broker import CATALOGUE
from tests.simulation.controls import CONTROL
from tests.simulation.plan import Plan
from tests.simulation.verdict import differences
from tests.simulation.worker import IDENTITY

_PLAN = Plan(
    seed=0,
    agents={AGENT: ORACLE},
    records=(tuple((0.0, row) for row in ROWS),),
    commands=(),
    faults=(),
)
Found = Literal["old", "new", "older", "neither"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `broken`: sentences that say what must not be; `failed`: what effects say of
    rollbacks that could not be done and changed nothing but the epoch.
    """

    found: Found
    broken: list[str]
    failed: list[str] = []


def judge(root: Path, operation: Operation) -> None:
    """Look at a copy of what is there, then go on with it to the end of the log and compare.

    The verdict is written to `root`.verdict.
    """
    copied = root.with_name(f"{root.name}-copy")
    shutil.copytree(root, copied)
    found, broken = _found(copied, operation)
    shutil.rmtree(copied)
    try:
        run(_gone_on(root))
    except StateError as error:
        broken.append(f"it cannot go on: {error}")
    else:
        broken += _left(root)
    failed = list(lives(_values(JournalBroker(root), CONTROL))[0].failures.values())
    broken = [text for text in broken if text not in failed]
    verdict = Verdict(found=found, broken=broken, failed=failed)
    root.with_name(f"{root.name}.verdict").write_bytes(msgspec.json.encode(verdict))


def _found(root: Path, operation: Operation) -> tuple[Found, list[str]]:
    broker = JournalBroker(root)
    there = _catalogue(broker)
    broken = [*_snapshots(root, broker), *_manifests(root)]
    stands, told = _stand(root), lives(_values(broker, CONTROL))[0]
    for control_id, (_, epoch, _) in told.replaced.items():
        begun = stands is not None and epoch <= stands[0]
        if begun and (control_id, WHERE) not in told.effects:
            broken.append(f"epoch {epoch} is on the disk, and no effect of its command in the log")
    done = not operation.named or operation.named in {v.snapshot_id for v in there.snapshots(AGENT)}
    if stands == operation.new and done:
        return "new", broken
    if stands in operation.old:
        return "old", broken
    if stands is not None and stands == operation.older:
        return "older", broken
    return "neither", [*broken, f"the disk has {stands}, neither old nor new"]


def _stand(root: Path) -> Stand | None:
    with StateDirectory.open(root / "state", IDENTITY) as directory:
        epochs = directory.epochs(AGENT, *WHERE)
        if not epochs:
            return None
        store = ShardStore.open(directory.shard_path(AGENT, epochs[-1], *WHERE), create=False)
        meta = store.meta
        store.close()
        return None if meta is None else (epochs[-1], meta.next_offset)


async def _gone_on(root: Path) -> None:
    life = Life(root)
    await life.start()
    await continued(life)


async def continued(life: Life) -> None:
    """Go on to the end of the log, and end."""
    await life.learn(len(ROWS))
    await life.published()
    await life.withdrawn()
    await life.stop()


def differences_from_fold(root: Path) -> list[str]:
    """How what is left in the end differs from the fold of the logs."""
    return differences(_PLAN, JournalBroker(root), root / "state")


def _left(root: Path) -> list[str]:
    broker = JournalBroker(root)
    found = [*differences_from_fold(root), *_snapshots(root, broker)]
    there = {view.snapshot_id for view in _catalogue(broker).snapshots(AGENT)}
    owed = {told["snapshot_id"] for told in _commands(broker) if told["type"] == "snapshot"}
    found += [f"snapshot {snapshot_id} was asked for" for snapshot_id in sorted(owed - there)]
    rolled = sum(told["type"] == "rollback" for told in _commands(broker))
    if sum(".undo-" in snapshot_id for snapshot_id in there) != rolled:
        found.append("there is no snapshot to undo the rollback with")
    return found + _manifests(root)


def _snapshots(root: Path, broker: JournalBroker) -> list[str]:
    """What is wrong with what the catalogue vouches for, as another worker would see it."""
    found = []
    draft = root.with_name(f"{root.name}-restored")
    sources = Sources(Checkpoints(root.with_name(f"{root.name}-none")), broker.repository)
    for ref in _catalogue(broker).refs():
        try:
            manifest = restore(ref, sources, draft, IDENTITY.versions).manifest
        except StateError as error:
            found.append(f"{ref.snapshot_id} is vouched for and cannot be restored: {error}")
        else:
            found += [f"{ref.snapshot_id}: {text}" for text in _rows(draft, manifest, broker)]
        shutil.rmtree(draft, ignore_errors=True)
    return found


def _rows(path: Path, manifest: Manifest, broker: JournalBroker) -> list[str]:
    life = lives(_values(broker, CONTROL))[0]
    folded = _folded(life, manifest.epoch, manifest.next_offset)
    store = ShardStore.open(path, create=False)
    try:
        return compare.rows(folded, store)
    finally:
        store.close()


def _folded(life: Told, epoch: int, next_offset: int) -> Folded:
    """What must be there in that epoch at that offset."""
    whole = life.course(WHERE)
    done = tuple(each for each in whole.replacements if each.epoch <= epoch)
    return _fold(life.origin(WHERE), replace(whole, replacements=done), next_offset)


@cache
def _fold(origin: Origin, course: Course, next_offset: int) -> Folded:
    return fold(ORACLE, origin, ROWS[:next_offset], course)


def reckon() -> None:
    """Have ready what every judgement needs: what was learned before any rollback."""
    for next_offset in (20, 40, 60):
        _fold(Origin(AGENT, 1, 1, *WHERE), Course(), next_offset)


def _manifests(root: Path) -> list[str]:
    """Files that a manifest names come before it."""
    found = []
    for path in sorted((root / "repository" / "manifests").glob("*/*.json")):
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        for entry in manifest.files:
            blob = root / "repository" / "blobs" / entry.sha256[:2] / entry.sha256
            if not blob.exists() or blob.stat().st_size != entry.size:
                found.append(f"{manifest.snapshot_id} names {entry.name}, which is not there")
    return found


def _catalogue(broker: JournalBroker) -> Catalogue:
    catalogue = Catalogue()
    for row in broker.logs[CATALOGUE].rows():
        catalogue.apply(row.key, row.value, row.offset)
    return catalogue


def _commands(broker: JournalBroker) -> list[dict[str, Any]]:
    return [msgspec.json.decode(value) for value in _values(broker, CONTROL)]


def _values(broker: JournalBroker, where: Partition) -> list[bytes]:
    return [row.value for row in broker.logs[where].rows() if row.value is not None]
