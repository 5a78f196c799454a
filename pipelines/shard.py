"""A shard: all state of one (agent, input-log partition), with one writer.

The shard owns a learner (live models), a store (durable rows) and its place in the log. It turns
chunks of records into decisions and quarantined events, and makes its state durable by a flush
whose order is sacred:

1. Kafka has acknowledged every decision and quarantined event of the records so far;
2. one atomic, synced write puts the changed rows, the next offset and the log's identity on disk;
3. only now does `durable_offset` rise, and with it what Faust may commit to the group.

When the disk has no room, step 2 fails as a whole: nothing is committed, what was learned stays in
memory and is answered from, no more is learned (`waits_for`), and the flush is tried again until it
succeeds. A disk that fails otherwise is not trusted again: the shard ends with StateError.

So durable state implies durable decisions, and a committed offset implies durable state. A crash
between any two steps repeats work whose results are byte-identical, and loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from headrace.errors import StateError
from headrace.models.decisions import Origin, encode_decision
from headrace.models.learner import Learner, Outcome
from headrace.models.slots import KEY_ROW
from headrace.pipelines import quarantine
from headrace.pipelines.applied import applied
from headrace.pipelines.control import Kind
from headrace.pipelines.keeper import Keeper
from headrace.pipelines.slices import Slices
from headrace.ports import Record
from headrace.state.store import AppliedRecord, ShardMeta, Store
from headrace.views import Partition, ShardView

SWEEPS_PER_TTL = 8
"""Idle rows are looked for whenever log time has advanced by this part of `idle_ttl`."""

SWEEP_ROWS = 500
"""Rows looked at in one go; the shard's turn is given up in between."""

ROOM_RETRY_MAX_S = 5.0
"""Between two tries to flush to a disk without room, after shorter ones."""

ROOM_LOOK_S = 0.1
"""How often an intake that waits for room on the disk looks whether it goes on."""


class Chunk(Protocol):
    """Records of one partition in offset order: all that there are from `begins` on; the next chunk
    begins at `next_offset`.
    """

    @property
    def begins(self) -> int: ...

    @property
    def records(self) -> Sequence[Record]: ...

    @property
    def next_offset(self) -> int: ...


class Sink(Protocol):
    """Where decisions and quarantined events go; see `pipelines.emit.Emitter`."""

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None: ...

    async def flow(self) -> None: ...

    async def send(self) -> None: ...

    async def drain(self) -> None: ...


class Change(NamedTuple):
    """A command that takes effect before the record at `offset` is handled.

    `control_offset` is its place in the control log.
    """

    offset: int
    kind: Kind
    control_offset: int


class Outlets(NamedTuple):
    """Where a shard's output goes."""

    sink: Sink
    decisions: Partition
    quarantine: Partition


class ShardStart(NamedTuple):
    """Where a shard begins: from its store, or from the effect of its deployment."""

    next_offset: int
    decided_below: int  # events below this offset may have decisions out already
    cluster_id: str
    spec_digest: str
    flush_keys: int


class Shard:
    """Order of calls: `process` for each chunk in offset order, `flush` by size and by timer,
    `apply` for a command between two chunks, `close` at the end. Reading is allowed at any time.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        outlets: Outlets,
        at: ShardStart,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.learner = learner
        self.origin: Origin = learner.origin
        self.partition = Partition(self.origin.topic, self.origin.partition)
        self.next_offset = at.next_offset
        self.durable_offset = at.next_offset
        self.paused = False
        self._deleted = False  # the delete counts from `next_offset` on: no event any more
        self._at = at
        self._store = store
        self._keeper = Keeper(store, self.origin)
        self._outlets = outlets
        self._changes: deque[Change] = deque()
        # A record that the log was seen to hold; the log watch moves it on.
        self.anchor = store.meta.applied if store.meta else None
        self._applied: AppliedRecord | Record | None = self.anchor
        self._control_offset = -1  # commands up to here are applied, or in `_changes`
        self._broken = False
        self._slices = Slices(busy)
        self._swept_at = learner.log_time
        self._turn = asyncio.Lock()
        self._closing = asyncio.Event()

    @property
    def applied(self) -> AppliedRecord | None:
        """The record that was applied last."""
        return applied(self._applied)

    @property
    def waits_for(self) -> str:
        """Why the last flush did not succeed, and nothing more may be learned; empty: it did."""
        return self._keeper.waits_for

    async def has_room(self, waiting: Callable[[], bool]) -> bool:
        """Wait until the shard may learn on. False: it may not, and `waiting` has ended. One that
        was closed keeps nobody.
        """
        while self.waits_for and not self._closing.is_set():
            if not waiting():
                return False
            await asyncio.sleep(ROOM_LOOK_S)
        return True

    def schedule(self, changes: Sequence[Change]) -> None:
        """Commands that the control log placed at positions this shard has yet to reach.

        Those at or below its next offset are applied at once, in order.
        """
        assert list(changes) == sorted(changes, key=lambda c: c.control_offset)
        for change in changes:
            self._append(change)
        self._take_changes(self.next_offset)

    async def apply(
        self,
        kind: Kind,
        control_offset: int,
        effect: Callable[[int], Awaitable[int]],
    ) -> None:
        """Apply a command between two chunks.

        `effect(offset)` logs the position and returns the one that counts after it was read
        back. Until then this shard handles no event, so a crash replays the command at the
        same place. Events that are learned again after a crash have decisions out, which must
        come out the same: the command counts from behind them. One that `schedule` knew already
        changes nothing.
        Raises StateError if a position counts that this shard has left behind.
        """
        async with self._turn:
            if control_offset <= self._control_offset or self._closing.is_set():
                return
            if kind == "delete":
                # Nobody learns these events again: their decisions must be in the log by then.
                await self._outlets.sink.drain()
            at = max([self.next_offset, self._at.decided_below, *(c.offset for c in self._changes)])
            counted = await effect(at)
            if counted < self.next_offset:
                raise StateError(
                    f"{kind} of {self.origin.agent!r} counts from offset {counted} on, but this "
                    f"worker has learned up to {self.next_offset}: another one held the shard. "
                    f"Stop the worker, remove shards/{self.origin.agent} from its state directory "
                    "and start it again: the agent is learned anew from its log"
                )
            self._append(Change(counted, kind, control_offset))
            self._take_changes(self.next_offset)

    async def process(self, chunk: Chunk, flowing: Callable[[], bool] = lambda: True) -> None:
        """Learn from a chunk and emit its decisions. Records that were learned are skipped; so is a
        chunk before which some are missing: it was on its way when the shard was opened, and is
        read again. So is what is left of a chunk when `flowing` has ended.

        What it raises is a failure of the infrastructure, or a bug. The live models may then be
        ahead of `next_offset`, so this shard is never flushed again.
        """
        async with self._turn:
            over = self._closing.is_set() or self._deleted
            if over or not chunk.begins <= self.next_offset < chunk.next_offset:
                return
            try:
                await self._process(chunk, flowing)
            except BaseException:
                self._broken = True
                raise
            if self.learner.dirty_keys >= self._at.flush_keys:
                await self._flush()

    async def flush(self) -> None:
        """Make the state durable, in the order that the module's docstring lists."""
        async with self._turn:
            if not self._closing.is_set():
                await self._flush()

    async def flush_by_timer(self, every_s: float) -> None:
        """Flush again and again until the shard is closed; without it a quiet log stays dirty.

        It is never cancelled: a cancelled flush could leave a write under way in its thread.
        """
        pause = every_s
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause)
            await self.flush()
            pause = min(2 * pause, max(every_s, ROOM_RETRY_MAX_S)) if self.waits_for else every_s
            if self._sweep_is_due() and not self.waits_for:
                await self.sweep()

    async def close(self, *, flush: bool) -> None:
        """Release the store. With `flush`, nothing that was learned is repeated later, unless the
        disk has no room: then it is learned again.
        """
        async with self._turn:
            if self._closing.is_set():
                return
            try:
                if flush:
                    await self._flush()
            finally:
                self._closing.set()
                self._store.close()

    async def sweep(self) -> None:
        """Delete the rows of keys that have been idle too long: nobody can see the difference."""
        if self._closing.is_set():
            return
        self._swept_at = self.learner.log_time
        names = (name for name, _ in self._store.scan(KEY_ROW))
        recovered = self._keeper.recovered
        while True:
            async with self._turn:
                # With the database its walks have ended; the next one begins anew.
                ended = self.waits_for or self._keeper.recovered != recovered
                if ended or self._closing.is_set():
                    return
                part = list(itertools.islice(names, SWEEP_ROWS))
                if not part:
                    return
                meta = self._store.meta
                assert meta is not None, "there are rows, so there is a position"
                # The walk sees the rows as they were when it began; what counts is what they
                # are now, because a key may have come back meanwhile.
                rows = ((name, row) for name in part if (row := self._store.get(name)) is not None)
                idle = self.learner.sweep(rows)
                if idle:
                    await self._keeper.write([(name, None) for name in idle], meta)
            await asyncio.sleep(0)

    def view(self, end_offset: int | None, heard_ms: int | None) -> ShardView:
        """The shard as it stands; `end_offset` of its partition, and its age, when known."""
        learner = self.learner
        return ShardView(
            topic=self.partition.topic,
            partition=self.partition.partition,
            next_offset=self.next_offset,
            durable_offset=self.durable_offset,
            end_offset=end_offset,
            heard_ms=heard_ms,
            keys_hot=learner.keys_hot,
            accepted=learner.accepted,
            quarantined=learner.quarantined,
            learned=learner.learned,
            paused=self.paused,
            unlabelled=learner.unlabelled,
            labels_lost=learner.labels_lost,
            keys_full=learner.keys_full,
            waits_for=self.waits_for,
        )

    async def _process(self, chunk: Chunk, flowing: Callable[[], bool]) -> None:
        records = [r for r in chunk.records if r.offset >= self.next_offset]
        clock = asyncio.get_running_loop().time
        done = 0
        while done < len(records):
            self._take_changes(records[done].offset)
            if self._deleted:
                return
            changes_at = self._changes[0].offset if self._changes else None
            upto = self._slices.end(records, done, changes_at)
            began = clock()
            self._emit(records[done:upto], self._step(records[done:upto]))
            self._slices.took(upto - done, clock() - began)
            self.next_offset = records[upto - 1].offset + 1
            self._applied = records[upto - 1]
            done = upto
            await self._outlets.sink.flow()
            await self._slices.turns()
            if done < len(records) and not flowing():
                return
        # Past the last record there may be transaction markers and compacted offsets.
        self.next_offset = chunk.next_offset
        await self._outlets.sink.send()

    def _step(self, records: Sequence[Record]) -> Outcome:
        return self.learner.step(records, learning=not self.paused)

    def _append(self, change: Change) -> None:
        self._changes.append(change)
        self._control_offset = change.control_offset

    def _take_changes(self, offset: int) -> None:
        while self._changes and self._changes[0].offset <= offset:
            change = self._changes.popleft()
            if change.kind in ("pause", "resume"):
                self.paused = change.kind == "pause"
            elif change.kind == "delete":
                self._deleted = True

    def _emit(self, records: Sequence[Record], outcome: Outcome) -> None:
        sink, decisions, to_quarantine = self._outlets
        for decision in outcome.decisions:
            sink.append(decisions, decision.key.encode(), encode_decision(decision))
        if not outcome.refusals:
            return
        by_offset = {record.offset: record for record in records}
        for refusal in outcome.refusals:
            refused = quarantine.quarantined(refusal, by_offset[refusal.offset], self.origin)
            sink.append(to_quarantine, None, quarantine.encode(refused))

    def _sweep_is_due(self) -> bool:
        ttl = self.learner.spec.state.idle_ttl_ms
        since = self.learner.log_time - self._swept_at
        return ttl is not None and since >= ttl // SWEEPS_PER_TTL

    async def _flush(self) -> None:
        if self._broken or not self._keeper.has_room():
            return
        if self.next_offset == self.durable_offset:
            return
        await self._outlets.sink.drain()
        rows = await self._slices.drawn(self.learner.changed())
        self._applied = applied(self._applied)
        meta = ShardMeta(
            next_offset=self.next_offset,
            epoch=self.origin.epoch,
            spec_digest=self._at.spec_digest,
            control_offset=self._control_offset,
            cluster_id=self._at.cluster_id,
            applied=self._applied,
        )
        if await self._keeper.write(rows, meta):
            spent = self.learner.flushed()
            self.durable_offset = meta.next_offset
            await self._slices.let_go(spent)
