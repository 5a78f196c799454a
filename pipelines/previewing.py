"""What a rollback would change, found out on copies: nothing of the service is touched."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.errors import RequestError
from headrace.models import reverting
from headrace.models.comparison import Comparison, KeyChanges, changed_keys, compare
from headrace.models.slots import KEY_ROW
from headrace.models.spec import Spec
from headrace.pipelines import control, reader
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.worker import Worker
from headrace.ports import Record, Rows
from headrace.state.store import ShardStore
from headrace.views import MetricChange, RollbackPreview

RECORDS = 2_000
"""Newest events, over all partitions, of which both states are asked."""


REWIND_EVENTS_MAX = 100_000
"""Events since the snapshot that a preview learns again, over all partitions; of more it says only
how many they are."""


class _Found(NamedTuple):
    """Of one partition."""

    events_back: int
    events_excluded: int
    keys: KeyChanges
    comparison: Comparison


class Preview:
    """One preview. Order of calls: `made`, once."""

    def __init__(self, worker: Worker, command: control.Rollback) -> None:
        self._worker = worker
        self._command = command
        deployment = worker.controls.registry.get(command.agent)
        self._spec: Spec = spec_of(deployment)

    async def made(self) -> RollbackPreview:
        """What would change in the partitions that this worker holds. Raises StateError."""
        command = self._command
        shards = self._worker.shards.of_agent(command.agent)
        self._check_length(shards)
        found = await asyncio.gather(*(self._of(shard) for shard in shards))
        notes = {one.comparison.note for one in found if one.comparison.note}
        if command.mode == "rewind" and command.exclude is not None:
            notes.add("decisions and metrics are of events that are not left out")
        if len(shards) < len(command.bases):
            notes.add(f"of {len(shards)} of {len(command.bases)} partitions: others hold the rest")
        if not all(one.keys.complete for one in found):
            notes.add("there are more keys than were looked at: so many at least")
        return RollbackPreview(
            agent=command.agent,
            mode=command.mode,
            snapshot_id=command.snapshot_id,
            events_back=sum(one.events_back for one in found),
            events_excluded=sum(one.events_excluded for one in found),
            keys_changed=sum(one.keys.changed for one in found),
            keys_total=sum(one.keys.total for one in found),
            decisions_compared=sum(one.comparison.decisions_compared for one in found),
            decisions_flipped=sum(one.comparison.decisions_flipped for one in found),
            metrics=_merged([one.comparison for one in found]),
            note="; ".join(sorted(notes)),
        )

    def _check_length(self, shards: Sequence[Shard]) -> None:
        """Raises RequestError `too_large` if a rewind has too much to learn for a preview."""
        bases = {base.partition: base.next_offset for base in self._command.bases}
        events = sum(s.next_offset - bases[s.partition.partition] for s in shards)
        if self._command.mode == "rewind" and events > REWIND_EVENTS_MAX:
            raise RequestError(
                "too_large",
                f"{events:,} events came since {self._command.snapshot_id!r}: a preview learns at "
                f"most {REWIND_EVENTS_MAX:,} again. Take a newer snapshot, or rewind without a "
                "preview: it can be undone",
            )

    async def _of(self, shard: Shard) -> _Found:
        worker, command = self._worker, self._command
        base = command.base(shard.partition.partition)
        events_back = max(shard.next_offset - base.next_offset, 0)
        share = max(RECORDS // len(command.bases), 1)
        recent = await reader.recent(worker.broker.bootstrap, [shard.partition], share)
        records = [record for _, record in recent if record.offset < shard.next_offset]
        then, excluded, is_left_out = await self._other(shard)
        # What a rewind takes for no event is none to be judged by either, on neither side.
        records = [r for r in records if r.offset < base.next_offset or not is_left_out(r)]
        now = await worker.vault.copy(shard)
        try:
            keys, comparison = await asyncio.to_thread(self._compared, now, then, records)
        finally:
            for path in (now, then):
                shutil.rmtree(path, ignore_errors=True)
        return _Found(events_back, excluded, keys, comparison)

    async def _other(self, shard: Shard) -> tuple[Path, int, Callable[[Record], bool]]:
        """The snapshot's state, or what a rewind would make of it; how many records it leaves out,
        and which.
        """
        command = self._command
        if command.mode == "revert":
            base = command.base(shard.partition.partition)
            vault = self._worker.vault
            path = await vault.base(shard.partition, command.snapshot_id, base)
            return path, 0, lambda _: False
        rewind = self._worker.shards.rewind(command)
        try:
            return await rewind.state(shard), rewind.excluded, rewind.leaves_out
        finally:
            await rewind.end()

    def _compared(
        self, now: Path, then: Path, records: Sequence[Record]
    ) -> tuple[KeyChanges, Comparison]:
        keys, spec = self._command.keys, self._spec
        present = ShardStore.open(now, create=False, compact=False)
        base = ShardStore.open(then, create=False, compact=False)
        try:
            other: Rows = base
            if keys and self._command.mode == "revert":
                other = Overlaid(present, dict(reverting.of_keys(spec, keys, base, present)))
                changes = _changes_of(other, present, keys)
            elif keys:
                names = [KEY_ROW + key.encode() for key in keys]
                other = Overlaid(present, {name: base.get(name) for name in names})
                changes = _changes_of(other, present, keys)
            else:
                changes = changed_keys(present, base)
            return changes, compare(spec, present, other, records)
        finally:
            present.close()
            base.close()


class Overlaid:
    """Rows, and others in their place; None for one that is not there. See `ports.Rows`."""

    def __init__(self, rows: Rows, instead: dict[bytes, bytes | None]) -> None:
        self._rows = rows
        self.instead = instead

    def get(self, row: bytes) -> bytes | None:
        return self.instead[row] if row in self.instead else self._rows.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        there = {row: data for row, data in self._rows.scan(prefix) if row not in self.instead}
        others = {row: data for row, data in self.instead.items() if row.startswith(prefix)}
        there.update((row, data) for row, data in others.items() if data is not None)
        return iter(sorted(there.items()))


def _changes_of(other: Overlaid, present: Rows, keys: Sequence[str]) -> KeyChanges:
    changed = sum(present.get(row) != data for row, data in other.instead.items())
    return KeyChanges(changed, len(set(keys)), complete=True)


def _merged(comparisons: Sequence[Comparison]) -> tuple[MetricChange, ...]:
    """The metrics over all partitions, each weighed by its events."""
    by_name: dict[str, list[MetricChange]] = {}
    for comparison in comparisons:
        for metric in comparison.metrics:
            by_name.setdefault(metric.name, []).append(metric)
    return tuple(_mean(metrics) for metrics in by_name.values())


def _mean(metrics: list[MetricChange]) -> MetricChange:
    events = sum(metric.events for metric in metrics)
    first = metrics[0]
    return MetricChange(
        name=first.name,
        now=sum(m.now * m.events for m in metrics) / max(events, 1),
        then=sum(m.then * m.events for m in metrics) / max(events, 1),
        bigger_is_better=first.bigger_is_better,
        events=events,
    )
