"""Rollback in mode `rewind`: the snapshot's state, and the log learned again without some events.

A *twin* of the shard begins where the snapshot ends and learns what the log has had since, through
a reader of its own, while the shard goes on answering. Excluded records are left out as if the log
had never held them, pauses count where they did, and nothing is emitted: all that was decided below
X stays as it was decided. When the twin is close behind, the shard stops between two events, the
twin learns the rest, and its state is the new one.
"""

from __future__ import annotations

import abc
import asyncio
import functools
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, TypeAlias

from msgspec import structs

from headrace.errors import StateError, UnavailableError
from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.pipelines.changes import Change
from headrace.pipelines.exclusions import left_out
from headrace.pipelines.forgetting import Forgetting
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.order import Chunk
from headrace.pipelines.presence import patiently
from headrace.pipelines.reader import Logs
from headrace.pipelines.replacement import Replacement, learner_on
from headrace.pipelines.replay import IDLE_S, Replay
from headrace.pipelines.seams import Muted
from headrace.pipelines.shard import Shard
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.ports import Record
from headrace.state.store import ShardMeta, ShardStore, Store
from headrace.views import Partition

NEAR_RECORDS = 2_000
"""How far behind its shard a twin may be when the shard stops for it."""

Watch: TypeAlias = Callable[[Sequence[Record], Sequence[Record]], None]
"""Told of each piece of the log: the records that are learned again, and those left out."""


class _Twin(NamedTuple):
    """What learns, and what it learns from. `held` gives all of it back."""

    shard: Shard
    drafts: list[Path]  # its state, until that is taken over
    reader: _Reader
    is_left_out: Callable[[Record], bool]
    held: AsyncExitStack


class Again(Replacement):
    """A part of the log, learned again from the first state on.

    A broker that is away is waited for, with what has been learned, as long as nobody has to know:
    a preview raises UnavailableError at once, and so does a shard that is being opened. Others wait
    behind that, and it is opened again.
    """

    watch: Watch | None = None  # is told what is learned, and what is left out, for a preview
    over: Callable[[], bool] | None = None  # whether nobody wants that preview any more
    upto: int | None = None  # where that preview's twin ends; None: where the shard stands

    _twin: _Twin | None = None

    async def prepare(self, shard: Shard) -> None:
        """Let the twin begin, and learn until it is close behind."""
        try:
            await self._learn_more(shard)
            while shard.relearns or shard.next_offset - self._stands() > NEAR_RECORDS:
                await self._learn_more(shard)
        except StateError:  # it begins once more
            await self.end()
            raise

    async def end(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            await twin.held.aclose()

    async def ready(self, shard: Shard) -> None:
        offset = self._end(shard)
        while self._stands() < offset:
            await self._learn_more(shard)
        assert self._twin is not None
        await self._tell(self._twin.shard)  # also what counts from here on
        self._check_wanted(shard)  # a forget is not done in a twin that is over

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await self._closed(meta)

    async def _closed(self, meta: ShardMeta) -> Path:
        assert self._twin is not None
        twin, drafts = self._twin.shard, self._twin.drafts
        await twin.flush()
        await self._has_room(twin)
        assert twin.durable_offset == twin.next_offset, "nobody closes a twin but its rewind"
        await in_a_thread(lambda: twin.store.write((), meta))
        await twin.close(flush=False)
        self._drafts.append(path := drafts.pop())
        return path

    # -- the twin ----------------------------------------------------------------------------

    def _stands(self) -> int:
        """Up to where the twin has learned; -1: there is none yet."""
        return -1 if self._twin is None else self._twin.shard.next_offset

    def _end(self, shard: Shard) -> int:
        """Up to where the twin may learn now."""
        return shard.next_offset if self.upto is None else self.upto

    @abc.abstractmethod
    async def _first(self, partition: Partition) -> Path:
        """A draft with the state that the twin begins with; nothing is there: with a new one.
        Raises StateError.
        """

    async def _begun(self, shard: Shard) -> _Twin:
        partition = shard.partition
        base = self._command.base(partition.partition)
        drafts = [await self._first(partition)]
        async with AsyncExitStack() as held:
            held.push_async_callback(lambda: remove_drafts(*drafts))
            epoch = max(base.epoch, self._deployment.life)  # a refold has no base
            forgotten = self._vault.forgotten(self._command.agent, partition, epoch)
            opened = functools.partial(self._twins_store, *drafts)
            learner, store = await learner_on(opened, *self._going_on(shard), forgotten)
            is_left_out = left_out(self._deployment, self._accepted, partition)
            start = ShardStart(
                next_offset=base.next_offset,
                decided_below=0,
                cluster_id=self._site.cluster_id,
                spec_digest=self._meta(shard).spec_digest,
                life=self._deployment.life,
                left_out=is_left_out,
                over=functools.partial(self._is_over, shard),
            )
            outlets = Outlets(Muted(), partition, partition)
            twin = Shard(learner, store, outlets, start, busy=self._site.busy)
            held.push_async_callback(twin.close, flush=False)
            twin.forgotten = forgotten
            twin.opening = shard.opening  # then neither waits for room
            reader = _Reader(self._site.logs, partition)
            held.push_async_callback(reader.close)
            return _Twin(twin, drafts, reader, is_left_out, held.pop_all())

    def _twins_store(self, path: Path) -> Store:
        # Its tables are merged: it may learn for hours.
        return ShardStore.open(path, create=not path.exists(), options=self._site.stores)

    async def _learn_more(self, shard: Shard) -> None:
        """The same as `_learn_some`, but a broker that is away is waited for."""

        def waits_not() -> bool:
            return self.watch is not None or shard.opening or self._is_over(shard)

        await patiently(lambda: self._learn_some(shard), waits_not)

    async def _learn_some(self, shard: Shard) -> None:
        """One piece of the log, below what the shard has learned: what counted there is known.

        Raises StateError, UnavailableError `broker_away`, and `stopping` if the shard is being
        closed.
        """
        self._check_wanted(shard)
        if self._twin is None:
            self._twin = await self._begun(shard)
        twin, _, reader, is_left_out, _ = self._twin
        chunk = await reader.chunk(twin.next_offset, self._end(shard))
        if chunk is None:
            await asyncio.sleep(IDLE_S)
            return
        await self._tell(twin)
        if self.watch is not None:
            self.watch(*_split(chunk.records, is_left_out))
        await twin.process(chunk, lambda: not twin.leaving)
        await self._has_room(twin)

    def _is_over(self, shard: Shard) -> bool:
        """Whether nothing is to be learned any more: the shard is being closed, or nobody asks."""
        # Whoever is at work has the shard's turn.
        ends = shard.must_end if self._working else shard.leaving
        return ends or (self.over is not None and self.over())

    def _check_wanted(self, shard: Shard) -> None:
        if self._is_over(shard):
            raise UnavailableError("stopping", "the shard is being closed")

    async def _has_room(self, twin: Shard) -> None:
        """Wait for room on the disk, if the twin does, as its shard would."""
        while twin.waits_for:
            if not await twin.waits_on(twin.waits_for):
                raise UnavailableError("stopping", "the shard is being closed")
            await twin.flush()

    async def _tell(self, twin: Shard) -> None:
        """Pauses, resumes and forgets, where they counted."""
        changes = []
        for accepted in self._deployment.commands:
            forget = accepted.kind == "forget"
            if accepted.kind not in ("pause", "resume", "forget") or twin.knows(accepted.offset):
                continue
            if forget and accepted.offset <= twin.forgotten.newest:
                continue  # it is honoured from the beginning
            effect = self._deployment.effect(accepted.control_id, twin.partition)
            if effect is not None:
                work = Forgetting(self._vault, self._deployment, accepted).work if forget else None
                changes.append(Change(effect, accepted.kind, accepted.offset, work))
            elif not forget:
                break
        await twin.schedule(changes)


class _Reader:
    """Reads the log for a twin. When the broker was away, it is read again from where the twin
    stands: what a replay had fetched may be lost with it.
    """

    def __init__(self, logs: Logs, partition: Partition) -> None:
        self._logs = logs
        self._partition = partition
        self._replay: Replay | None = None
        self._held = AsyncExitStack()

    async def chunk(self, begins: int, below: int) -> Chunk | None:
        """As `Replay.upto`, from where the twin stands."""
        if self._replay is None:
            replay = self._logs.replay(self._partition, begins)
            self._replay = await self._held.enter_async_context(replay)
        try:
            return await self._replay.upto(below)
        except UnavailableError:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        self._replay = None
        await self._held.aclose()


def _split(
    records: Sequence[Record], is_left_out: Callable[[Record], bool]
) -> tuple[list[Record], list[Record]]:
    """Those that are learned, and those that are left out."""
    parts: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        parts[is_left_out(record)].append(record)
    return parts


class Rewind(Again):
    """The log since the snapshot, learned again; for `keys`, only theirs is taken over."""

    _command: control.Rollback

    async def _first(self, partition: Partition) -> Path:
        return await self._fetched(partition)

    async def state(self, shard: Shard, at: ShardMeta) -> Path:
        """The new state at the place of that meta, where the shard stood, as a closed store; for a
        preview. What the shard learns meanwhile is not in it.

        Raises StateError, UnavailableError.
        """
        self.upto = at.next_offset
        await self.ready(shard)
        return await self._closed(structs.replace(at, epoch=self._accepted.epoch))

    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        path = await self._closed(meta)
        if not self._command.keys:
            return path
        return await in_a_thread(lambda: self._merged(path, undo, meta, shard.forgotten))

    def _merged(self, learned: Path, undo: Path, meta: ShardMeta, forgotten: Forgotten) -> Path:
        """The old state with the rows of some keys as the twin has them, in a thread."""
        with self._copy_of(undo, forgotten) as state, self._store_at(learned) as twin:
            names = [KEY_ROW + key.encode() for key in self._command.keys]
            # To delete what is not there would write its name.
            changed = [name for name in names if twin.get(name) != state.get(name)]
            state.write([(name, twin.get(name)) for name in changed], meta)
        return state.path
