"""What a rollback would change, found out on copies: nothing of the service is touched."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.errors import RequestError
from headrace.models import exclusion, reverting
from headrace.models.comparison import (
    Comparison,
    KeyChanges,
    changed_keys,
    compare,
    is_changed,
)
from headrace.models.slots import KEY_ROW
from headrace.models.spec import Spec
from headrace.pipelines import control, reader
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import spec_of
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.pipelines.validity import Prospect, Validity
from headrace.pipelines.worker import Worker
from headrace.ports import Record, Rows
from headrace.state.store import ShardMeta, ShardStore
from headrace.views import Exclusion, MetricChange, Partition, RollbackPreview

RECORDS = 2_000
"""Newest events, over all partitions, of which both states are asked; those that a rewind leaves
out are none, so it looks as far back as it learns again."""

REWIND_EVENTS_MAX = 100_000
"""Events since the snapshot that a preview learns again, over all partitions; of more it says only
how many they are."""

KEYS_TOLD = 3
"""Keys that a note names."""


class _Tally:
    """What a rewind learns again of one partition, and what it leaves out. See `rewind.Watch`."""

    def __init__(self, command: control.Rollback, partition: Partition, share: int) -> None:
        self.kept: deque[Record] = deque(maxlen=share)  # the newest
        self.left_out = 0
        self.earlier = 0  # of these, by earlier rewinds alone
        self._only = {key.encode() for key in command.keys}
        exclude = command.exclude or Exclusion()
        self._named = exclusion.matcher(exclude, topic=partition.topic, partition=partition[1])

    def __call__(self, kept: Sequence[Record], left_out: Sequence[Record]) -> None:
        self.kept.extend(kept)
        self.left_out += len(left_out)
        self.earlier += sum(not self._is_own(record) for record in left_out)

    def _is_own(self, record: Record) -> bool:
        """Whether the request's own options leave it out, whatever earlier rewinds do."""
        return self._named(record) and (not self._only or record.key in self._only)


class _Found(NamedTuple):
    """Of one partition."""

    events_back: int
    tally: _Tally
    asked: int  # events of which both states were asked
    keys: KeyChanges
    known: frozenset[str]  # of the keys that go back, those that either state has
    comparison: Comparison
    prospect: Prospect


class Preview:
    """One preview. Order of calls: `made`, once."""

    def __init__(self, worker: Worker, command: control.Rollback) -> None:
        self._worker = worker
        self._command = command
        self._deployment = worker.controls.registry.get(command.agent)
        self._spec: Spec = spec_of(self._deployment)
        goal = worker.vault.catalogue.get(command.snapshot_id)
        self._imported = goal is not None and goal.imported
        self._given_up = False  # nobody waits for it any more

    async def made(self) -> RollbackPreview:
        """What would change in the partitions that this worker holds. It comes to its end also if
        the caller goes away, though soon: files are open in threads.

        Raises RequestError `too_large`, StateError, UnavailableError.
        """
        making = asyncio.create_task(self._made())
        self._worker.spawn(_end_of(making))  # the stop waits for it
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._given_up = True
            raise

    async def _made(self) -> RollbackPreview:
        command = self._command
        shards = self._worker.shards.of_agent(command.agent)
        self._check_length(shards)
        found = await self._of_all(shards)
        excluded = sum(one.tally.left_out for one in found)
        keys_total = sum(one.keys.total for one in found)
        return RollbackPreview(
            agent=command.agent,
            mode=command.mode,
            snapshot_id=command.snapshot_id,
            events_back=sum(one.events_back for one in found),
            events_excluded=excluded,
            events_excluded_earlier=sum(one.tally.earlier for one in found),
            keys_changed=sum(one.keys.changed for one in found),
            keys_total=len(set(command.keys)) or keys_total,
            decisions_compared=sum(one.comparison.decisions_compared for one in found),
            decisions_flipped=sum(one.comparison.decisions_flipped for one in found),
            metrics=_merged([one.comparison for one in found]),
            note="; ".join([*self._first(found), *sorted(self._notes(found))]),
            imported=self._imported,
            withdrawn_most=sum(one.prospect.withdrawn for one in found),
            reinstated_most=sum(one.prospect.reinstated for one in found),
        )

    def _first(self, found: Sequence[_Found]) -> Iterator[str]:
        """What may be a mistake of whoever asks."""
        command = self._command
        missing = set(command.keys).difference(*(one.known for one in found))
        if missing and len(found) == len(command.bases):
            told = ", ".join(map(repr, sorted(missing)[:KEYS_TOLD]))
            more = len(missing) - KEYS_TOLD
            yield f"no state has a key {told}" + (f" and {more:,} more" if more > 0 else "")
        own = sum(one.tally.left_out - one.tally.earlier for one in found)
        if command.exclude is not None and not own:
            back = sum(one.events_back for one in found)
            text = f"what this rewind excludes matches none of the {back:,} events since then"
            if any(one.tally.left_out for one in found):
                text += ": all that is left out, earlier rewinds leave out"
            elif len(found) == len(command.bases) and any(one.prospect.withdrawn for one in found):
                text += ": the same is learned again, and decisions are withdrawn all the same"
            yield text

    def _notes(self, found: Sequence[_Found]) -> set[str]:
        """What one has to know to read the figures."""
        command = self._command
        notes = {one.comparison.note for one in found if one.comparison.note}
        if not any(one.comparison.decisions_compared for one in found):
            notes.add(_why_none(found))
        elif any(one.tally.left_out for one in found):
            notes.add("decisions and metrics are of events that are not left out")
        if command.keys:
            notes.add("the events are those of all keys")
        if len(found) < len(command.bases):
            notes.add(f"of {len(found)} of {len(command.bases)} partitions: others hold the rest")
        if not all(one.keys.complete for one in found):
            notes.add("there are more keys than were looked at: so many at least")
        return notes

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

    async def _of_all(self, shards: Sequence[Shard]) -> list[_Found]:
        """Raises what the first of them raises, when all have come to their end."""
        outcomes = await asyncio.gather(*map(self._of, shards), return_exceptions=True)
        found: list[_Found] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            found.append(outcome)
        return found

    async def _of(self, shard: Shard) -> _Found:
        worker, command = self._worker, self._command
        base = command.base(shard.partition.partition)
        tally = _Tally(command, shard.partition, max(RECORDS // len(command.bases), 1))
        # First: the other state is made up to there, whatever the shard learns meanwhile.
        drafts = [now := await worker.vault.copy(shard)]
        try:
            at = await in_a_thread(lambda: _meta_of(now))
            drafts.append(then := await self._other(shard, tally, at))
            upto = at.next_offset
            events_back = 0 if self._imported else max(upto - base.next_offset, 0)
            validity = Validity(self._deployment, shard.partition)
            prospect = await in_a_thread(lambda: validity.prospect(base, command.keys, upto))
            records = await self._asked(shard, tally, upto)
            keys, known, comparison = await in_a_thread(lambda: self._compared(now, then, records))
        finally:
            await remove_drafts(*drafts)
        return _Found(events_back, tally, len(records), keys, known, comparison, prospect)

    async def _other(self, shard: Shard, tally: _Tally, at: ShardMeta) -> Path:
        """The snapshot's state, or what a rewind would make of it, which the tally watches, if it
        counted where the shard stood with that meta.
        """
        command = self._command
        if command.mode == "revert":
            base = command.base(shard.partition.partition)
            return await self._worker.vault.base(shard.partition, command.snapshot_id, base)
        rewind = self._worker.shards.works.rewind(command, tally)
        rewind.over = lambda: self._given_up
        try:
            return await rewind.state(shard, at)
        finally:
            await rewind.end()

    async def _asked(self, shard: Shard, tally: _Tally, upto: int) -> list[Record]:
        """The newest events below that offset; what a rewind takes for none is none to be judged
        by, on either side: then older ones are taken.
        """
        command, count = self._command, tally.kept.maxlen or 0
        bootstrap = self._worker.broker.bootstrap
        if command.mode == "revert":
            return await reader.below(bootstrap, shard.partition, upto, count)
        kept = list(tally.kept)
        if len(kept) == count:
            return kept
        base = command.base(shard.partition.partition).next_offset
        return [
            *await reader.below(bootstrap, shard.partition, base, count - len(kept)),
            *kept,
        ]

    def _compared(
        self, now: Path, then: Path, records: Sequence[Record]
    ) -> tuple[KeyChanges, frozenset[str], Comparison]:
        keys, spec = self._command.keys, self._spec
        with (
            ShardStore.open(now, create=False, compact=False) as present,
            ShardStore.open(then, create=False, compact=False) as base,
        ):
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
            known = frozenset(key for key in keys if _has(present, key) or _has(base, key))
            return changes, known, compare(spec, present, other, records)


def _meta_of(copy: Path) -> ShardMeta:
    """Where the shard stood when it was copied."""
    with ShardStore.open(copy, create=False, compact=False) as store:
        assert store.meta is not None, "it has settled"
        return store.meta


async def _end_of(making: asyncio.Task[RollbackPreview]) -> None:
    """Whatever it is: what it raises is its caller's business, or nobody's if he has gone."""
    await asyncio.wait({making})
    if not making.cancelled():
        making.exception()


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
    changed = sum(is_changed(row, present.get(row), data) for row, data in other.instead.items())
    return KeyChanges(changed, len(set(keys)), complete=True)


def _has(rows: Rows, key: str) -> bool:
    return rows.get(KEY_ROW + key.encode()) is not None


def _why_none(found: Sequence[_Found]) -> str:
    """Why no decision could be compared."""
    left_out = sum(one.tally.left_out for one in found)
    recent = sum(one.asked for one in found) + left_out
    if not recent:
        return "no decision was compared: the log holds no event of before any more"
    reasons = (
        (left_out, "left out"),
        (sum(one.comparison.refused for one in found), "refused by the spec"),
        (sum(one.comparison.failed for one in found), "such that both states fail on them"),
    )
    told = ", ".join(f"{count:,} are {what}" for count, what in reasons if count)
    return f"no decision was compared: of the newest {recent:,} events {told}"


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
