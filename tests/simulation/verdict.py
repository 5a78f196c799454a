"""At the end of a world: what the fold says of everything that was left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.models.spec import load_spec
from headrace.state.directory import StateDirectory
from headrace.state.store import ShardStore
from headrace.views import Partition
from tests.fold import compare
from tests.fold.boundaries import boundaries
from tests.fold.control import Life, Where, lives
from tests.fold.fold import fold
from tests.fold.oracle import Oracle
from tests.fold.state import Folded
from tests.fold.withdrawn import expected, withdrawn
from tests.simulation.broker import QUARANTINE, WITHDRAWN, SimBroker
from tests.simulation.controls import CONTROL
from tests.simulation.plan import Plan
from tests.simulation.worker import IDENTITY


def differences(plan: Plan, broker: SimBroker, state_dir: Path) -> list[str]:
    """Sentences; none if every row, decision and quarantined event is what it must be."""
    found: list[str] = []
    with StateDirectory.open(state_dir, IDENTITY) as directory:
        for life in lives(_values(broker, CONTROL)):
            versions = plan.versions(life.agent)
            if not life.deleted and len(life.partitions()) < len(plan.records):
                found.append(f"{life.agent}, epoch {life.epoch}, has not begun everywhere")
            # Retention may have cut what a rewind needs, and a forget have removed what a rollback
            # that was just asked for goes back to; then nothing is there to take back.
            allowed = ("does not reach back", "has been removed", "to take back")
            failures = life.failures.values()
            found += [why for why in failures if not any(text in why for text in allowed)]
            found += life.undone_wrongly()
            for where in life.partitions():
                folded = folded_upto(broker, versions, life, where, life.end(where))
                told = _topics(broker, life, where, folded)
                told += [f"{forget} is not honoured" for forget in life.not_forgotten(where)]
                path = directory.shard_path(life.agent, life.last_epoch, *where)
                if not life.deleted:
                    told += _rows(path, folded)
                elif path.exists():
                    told.append("it was deleted, and its state is still there")
                found += [f"{life.agent}, epoch {life.epoch}, {where}: {text}" for text in told]
                _count(broker, folded)
    return found


def folded_upto(
    broker: SimBroker, versions: Sequence[Oracle], life: Life, where: Where, end: int | None
) -> Folded:
    """What one shard must be when it stands at `end`; None: at the end of its log."""
    rows = broker.logs[Partition(*where)].rows()
    return fold(
        versions[0],
        life.origin(where),
        [row for row in rows if end is None or row.offset < end],
        life.course(where, end),
        {load_spec(version.spec).digest: version for version in versions},
    )


def _topics(broker: SimBroker, life: Life, where: Where, folded: Folded) -> list[str]:
    origin = life.origin(where)
    end = life.end(where)
    cut_well = end is not None and (life.agent, life.epoch, where, end) in broker.whole
    whole = not life.deleted or cut_well
    broker.counts["deletes that left nothing out"] += life.deleted and whole
    decided = _values(broker, Partition(life.emit_topic, where[1]))
    refused = _values(broker, QUARANTINE)
    for rollback in expected(life, where, decided):
        for fate, ids in rollback.ids.items():
            broker.counts[f"decisions {fate}"] += len(ids)
    broker.counts["decisions delivered again"] += len(decided) - len(set(decided))
    return [
        *compare.decisions(folded, decided, origin, whole=whole, epochs=life.epochs),
        *compare.quarantined(folded, refused, origin, whole=whole, epochs=life.epochs),
        *boundaries(life, where, decided),
        *withdrawn(life, where, decided, _values(broker, WITHDRAWN)),
    ]


def _rows(path: Path, folded: Folded) -> list[str]:
    if not (path / "CURRENT").exists():
        return ["there is no state"]
    store = ShardStore.open(path, create=False)
    try:
        return compare.rows(folded, store)
    finally:
        store.close()


def _values(broker: SimBroker, where: Partition) -> list[bytes]:
    return [row.value for row in broker.logs[where].rows() if row.value is not None]


def _count(broker: SimBroker, folded: Folded) -> None:
    counts = broker.counts
    counts["events learned"] += folded.learned
    counts["decisions"] += len(folded.decisions)
    counts["bad events"] += len(folded.refused)
    counts["rollbacks and migrations that counted in a shard"] += folded.replaced
    counts["forgets that counted in a shard"] += folded.forgets
    counts["events of forgotten keys"] += folded.uncertain
    counts["keys that came back expired"] += folded.expired
    counts["labels lost"] += folded.labels_lost
