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
from collections.abc import Awaitable, Callable, Iterable, Sequence

from headrace.errors import DiskFullError, StateError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner, Outcome
from headrace.pipelines.applied import applied
from headrace.pipelines.changes import Change, Changes, Work, in_order
from headrace.pipelines.control import Kind
from headrace.pipelines.forgotten import NOTHING, Forgotten
from headrace.pipelines.keeper import Keeper
from headrace.pipelines.seams import Chunk
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.pipelines.slices import Slices
from headrace.pipelines.sweeping import Sweep, is_due
from headrace.pipelines.threads import in_a_thread
from headrace.pipelines.turn import Turn
from headrace.pipelines.wakeup import Wakeup
from headrace.ports import Record
from headrace.state.store import AppliedRecord, ShardMeta, Store
from headrace.views import Partition

ROOM_RETRY_MAX_S = 5.0
"""Between two tries to flush to a disk without room, after shorter ones."""
ROOM_LOOK_S = 0.1
"""How often who else waits for room on the disk looks whether it goes on."""


class Shard:
    """Order of calls: `process` for each chunk in offset order, `flush` by size and by timer,
    `apply` for a command at any time, `close` at the end. Reading is allowed at any time.
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
        self.life = at.life
        self.paused = False
        self.opening = False  # it is told of what was commanded, and nobody has it yet
        self.apart = False  # it learns through a reader of its own: see `pipelines.catchup`
        self.forgotten: Forgotten = NOTHING  # the keys that its state is to know nothing of
        self._deleted = False  # the delete counts from `next_offset` on: no event any more
        self._at = at
        self._store = store
        self._keeper = Keeper(store, self.origin)
        self._outlets = outlets
        self._changes = Changes()
        self._applied: AppliedRecord | Record | None = store.meta.applied if store.meta else None
        # What the log was seen to hold: at first what is before it, or is learned; see `LogWatch`.
        self.anchor = self.applied or (store.meta and store.meta.anchor) or at.anchor
        self._broken = False
        self._slices = Slices(busy)
        self._swept_at = learner.log_time
        self._turn = Turn()
        self._leaving = False  # somebody wants to close it
        self._closing = asyncio.Event()
        self._timer = Wakeup()

    @property
    def leaving(self) -> bool:
        """Whether somebody wants to close it."""
        return self._leaving or self._at.over()

    @property
    def must_end(self) -> bool:
        """Whether who has the turn is to wait for nothing more: somebody wants to close the shard,
        or waits for the chunk that it is about to learn.
        """
        return self.leaving or not self._turn.holds()

    @property
    def relearns(self) -> bool:
        """Whether it may have decided already, in an earlier life, on what it learns now."""
        return self.next_offset < self._at.decided_below

    def knows(self, control_offset: int) -> bool:
        """Whether it has been told of that command."""
        return self._changes.knows(control_offset)

    @property
    def store(self) -> Store:
        """Its durable rows, as of the last flush."""
        return self._store

    @property
    def applied(self) -> AppliedRecord | None:
        """The record that was applied last."""
        return applied(self._applied)

    @property
    def waits_for(self) -> str:
        """Why the last flush did not succeed, and nothing more may be learned; empty: it did."""
        return self._keeper.waits_for

    async def _room(self, waiting: Callable[[], bool]) -> bool:
        """Wait until it may learn on, or is closed; False: it may not, and `waiting` has ended."""
        while self.waits_for and not self._closing.is_set():
            if not waiting():
                return False
            await asyncio.sleep(ROOM_LOOK_S)
        return True

    async def schedule(self, changes: Sequence[Change]) -> None:
        """Commands that the control log placed at positions: those at or below the shard's next
        offset are applied at once, in order, the others when it comes there.
        """
        async with self._turn:
            for change in in_order(changes):
                self._changes.add(change)
            await self._take_changes(self.next_offset)

    async def apply(
        self,
        kind: Kind,
        control_offset: int,
        effect: Callable[[int], Awaitable[int]],
        work: Work | None = None,
    ) -> None:
        """Apply a command between two slices of a chunk.

        `effect(offset)` logs the position and returns the one that counts after it was read
        back. Until then this shard handles no event, so a crash replays the command at the
        same place. Events that are learned again after a crash have decisions out, which must
        come out the same: the command counts from behind them. One known already changes nothing.
        Raises StateError if a position counts that it has left behind.
        """
        async with self._turn:
            if self._changes.knows(control_offset) or self._closing.is_set() or self._broken:
                return
            if self._deleted and kind in ("rollback", "migrate"):  # nothing is there to replace
                return
            if kind == "delete":
                # Nobody learns these events again: their decisions must be in the log by then.
                await self._outlets.sink.drain()
            counted = await effect(
                self._changes.behind(max(self.next_offset, self._at.decided_below))
            )
            if counted < self.next_offset:
                raise StateError(
                    f"{kind} of {self.origin.agent!r} counts from offset {counted} on, but this "
                    f"worker has learned up to {self.next_offset}: another one held the shard. "
                    f"Stop the worker, remove shards/{self.origin.agent} from its state directory "
                    "and start it again: the agent is learned anew from its log"
                )
            self._changes.add(Change(counted, kind, control_offset, work))
            await self._take_changes(self.next_offset)

    async def process(self, chunk: Chunk, flowing: Callable[[], bool] = lambda: True) -> None:
        """Learn from a chunk and emit its decisions. Records that were learned are skipped; so is a
        chunk before which some are missing: it was on its way when the shard was opened, and is
        read again. So is what is left of a chunk when `flowing` has ended: besides a flush, nothing
        else ends a wait for room on the disk. A command has the turn between two slices.

        What it raises is a failure of the infrastructure, or a bug. The live models may then be
        ahead of `next_offset`, so this shard is never flushed again.
        """
        ended = False
        # Who has the turn may wait for room on the disk, and a stop waits for the chunks in work.
        while not ended and await self._room(flowing) and await self._turn.taken_while(flowing):
            try:
                ended = await self._learn(chunk, flowing)
            finally:
                self._turn.release()

    async def _learn(self, chunk: Chunk, flowing: Callable[[], bool]) -> bool:
        """Whether it is over; if not, others want the turn, or have left the disk without room."""
        has_next = chunk.begins <= self.next_offset < chunk.next_offset
        if not has_next or self._deleted or self._closing.is_set():
            return True
        if self.waits_for:
            return False
        try:
            ended = await self._process(chunk, flowing)
        except BaseException:
            self._broken = self._leaving = True  # nobody does anything to it any more but close it
            raise
        if self.learner.dirty_keys >= self.learner.spec.state.flush_keys:
            await self._flush()
        return ended

    async def flush(self) -> None:
        """Make the state durable, in the order that the module's docstring lists."""
        async with self._turn:
            if not self._closing.is_set():
                await self._flush()

    async def flush_by_timer(self) -> None:
        """Flush again and again until the shard is closed; without it a quiet log stays dirty.

        It is never cancelled: a cancelled flush could leave a write under way in its thread.
        """
        pause = 0.0
        while not self._closing.is_set():
            pause = max(pause, self.learner.spec.state.flush_ms / 1000)
            await self._timer.sleep(pause)
            await self.flush()
            pause = min(2 * pause, ROOM_RETRY_MAX_S) if self.waits_for else 0.0
            if is_due(self.learner, self._swept_at) and not self.waits_for:
                await self.sweep()

    def flush_soon(self) -> None:
        """Have the timer flush now: then little is left to flush while events wait."""
        self._timer.wake()

    def leave(self) -> None:
        """Say that it will be closed: what waits for room on the disk waits no longer."""
        self._leaving = True

    async def close(self, *, flush: bool) -> None:
        """Release the store; with `flush`, all that was learned is in it if the disk has room."""
        self.leave()
        async with self._turn:
            if self._closing.is_set():
                return
            try:
                if flush:
                    await self._flush()
            finally:
                self._closing.set()
                self._timer.wake()
                await in_a_thread(self._store.close)

    async def sweep(self) -> None:
        """Delete the rows of keys that have been idle too long."""
        if self._closing.is_set():
            return
        self._swept_at = self.learner.log_time
        sweep = Sweep(self.learner, self._store, self._keeper)
        while True:
            async with self._turn:
                renewed = self._keeper is not sweep.keeper
                if self._closing.is_set() or renewed or not await sweep.step():
                    return
            await asyncio.sleep(0)

    # -- for the work of a change, and of a snapshot -------------------------------------------

    async def settle(self) -> bool:
        """Make the state durable as it is now, waiting for room on the disk; False: it is not, and
        the shard is being closed. Whoever calls it has the shard's turn.
        """
        while not await self._flush(always=True):
            if self._broken or not await self.waits_on(self.waits_for):
                return False
        return True

    async def waits_on(self, reason: str) -> bool:
        """Wait a moment before a disk without room is tried again; False: it `must_end`.
        Raises DiskFullError while it is being opened: others wait behind that, who may make room.
        """
        if self.opening:
            raise DiskFullError(reason)
        await asyncio.sleep(0.0 if self.must_end else ROOM_LOOK_S)
        return not self.must_end

    async def erase(self, rows: Sequence[bytes], keys: Iterable[str]) -> bool:
        """Delete rows of keys, and their bytes from all files, waiting for room on the disk; False:
        not done, and the shard is being closed. Whoever calls it has the turn, and has settled.
        """
        self.learner.forget(keys)
        changed = [*self.learner.changed(), *((row, None) for row in rows)]
        while not (
            self._keeper.has_room() and await self._keeper.erase(changed, rows, self.meta())
        ):
            if self._broken or not await self.waits_on(self.waits_for):
                return False
        self.learner.flushed()
        return True

    def renew(self, learner: Learner, store: Store) -> Store:
        """Go on with another state, under the turn; returns the former store, still open."""
        assert store.meta is not None
        assert store.meta.next_offset == self.next_offset
        former = self._store
        self._at = self._at._replace(spec_digest=store.meta.spec_digest)
        self.learner, self.origin = learner, learner.origin
        self._store, self._keeper = store, Keeper(store, learner.origin)
        self._swept_at = learner.log_time
        return former

    async def between_events(self, work: Work) -> bool:
        """Do this when the shard has come to rest, unless it is being closed.

        It is finished also if the caller is cancelled meanwhile: a flush may be under way.
        """
        working = asyncio.create_task(self._at_rest(work))
        return await asyncio.shield(working)

    async def _at_rest(self, work: Work) -> bool:
        async with self._turn:
            if self._closing.is_set() or self._broken:
                return False
            return await work(self)

    async def _process(self, chunk: Chunk, flowing: Callable[[], bool]) -> bool:
        begins, left_out = self.next_offset, self._at.left_out
        records = [r for r in chunk.records if r.offset >= begins and not left_out(r)]
        clock = asyncio.get_running_loop().time
        done = 0
        while done < len(records):
            if done and (self._turn.wanted or not flowing()):
                return not self._turn.wanted
            if not await self._take_changes(records[done].offset) or self._deleted:
                return True
            upto = self._slices.end(records, done, self._changes.next_offset)
            began = clock()
            outcome = self._step(records[done:upto])
            self._outlets.emit(records[done:upto], outcome, self._at, self.origin)
            self._slices.took(upto - done, clock() - began)
            self.next_offset = records[upto - 1].offset + 1
            self._applied = records[upto - 1]
            self.anchor = self.anchor or applied(records[done])
            done = upto
            await self._outlets.sink.flow()
            await self._slices.turns()
        # Past the last record there may be transaction markers and compacted offsets.
        self.next_offset = chunk.next_offset
        await self._outlets.sink.send()
        await self._take_changes(self.next_offset)  # no event may come for long
        return True

    def _step(self, records: Sequence[Record]) -> Outcome:
        forgotten = self.forgotten.among(records)
        return self.learner.step(records, learning=not self.paused, forgotten=forgotten)

    async def _take_changes(self, offset: int) -> bool:
        """Apply what counts before the record at `offset`; False: one was not done."""
        while (change := self._changes.due(offset)) is not None:
            # Where it counts, though offsets before it may hold no record: an undo goes back there.
            self.next_offset = max(self.next_offset, change.offset)
            if change.work is not None and not await change.work(self):
                return False
            self._changes.took()
            if change.kind in ("pause", "resume"):
                self.paused = change.kind == "pause"
            elif change.kind == "delete":
                self._deleted = True
        return True

    async def _flush(self, *, always: bool = False) -> bool:
        """Whether all is durable. `always`: write also a position that nothing was learned at."""
        if self._broken or not self._keeper.has_room():
            return False
        # By its anchor a log is known again that has taught it nothing yet.
        unwritten = self._store.meta is None and (always or self.anchor is not None)
        if self.next_offset == self.durable_offset and not unwritten:
            return True
        await self._outlets.sink.drain()
        rows = await self._slices.drawn(self.learner.changed())
        self._applied = applied(self._applied)
        if not await self._keeper.write(rows, self.meta()):
            return False
        spent = self.learner.flushed()
        self.durable_offset = self.next_offset
        await self._slices.let_go(spent)
        return True

    def meta(self, epoch: int | None = None) -> ShardMeta:
        """Where it stands, as it is written beside the rows; in another epoch, if one is given."""
        return ShardMeta(
            next_offset=self.next_offset,
            epoch=self.origin.epoch if epoch is None else epoch,
            spec_digest=self._at.spec_digest,
            control_offset=self._changes.control_offset,
            cluster_id=self._at.cluster_id,
            applied=self.applied,
            anchor=self.anchor,
            forgotten=self.forgotten.newest,
        )
