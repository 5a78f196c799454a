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
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import structs

from headrace.errors import StateError, UnavailableError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.slots import KEY_ROW
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.changes import Change
from headrace.pipelines.exclusions import left_out
from headrace.pipelines.forgetting import Forgetting, honour
from headrace.pipelines.forgotten import Forgotten
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.replay import Replay
from headrace.pipelines.shard import Outlets, Shard, ShardStart
from headrace.ports import Record
from headrace.state.checkpoints import link_or_copy
from headrace.state.store import ShardMeta, ShardStore, Store
from headrace.views import Partition

NEAR_RECORDS = 2_000
"""How far behind its shard a twin may be when the shard stops for it."""
IDLE_S = 0.02
"""Before a twin that has learned all that its shard has looks again."""
ROOM_LOOK_S = 0.5


class Muted:
    """A sink of which nothing comes; see `pipelines.shard.Sink`."""

    def append(self, to: Partition, key: bytes | None, value: bytes) -> None:
        """It was decided before."""

    async def flow(self) -> None:
        """Never full."""

    async def send(self) -> None:
        """Nothing."""

    async def drain(self) -> None:
        """Nothing."""


class Again(Replacement):
    """A part of the log, learned again from the first state on."""

    excluded = 0  # records that were left out

    def __init__(self, *whose: object) -> None:
        super().__init__(*whose)  # type: ignore[arg-type]
        self._held = AsyncExitStack()
        self._twin: Shard | None = None
        self._path: Path | None = None
        self._replay: Replay
        self._is_left_out: Callable[[Record], bool]

    async def prepare(self, shard: Shard) -> None:
        """Let the twin learn until it is close behind."""
        try:
            while shard.relearns or shard.next_offset - self._stands() > NEAR_RECORDS:
                await self._learn_some(shard)
        except StateError:  # `ready` begins once more, and says so
            await self.end()

    async def end(self) -> None:
        if self._twin is not None:
            await self._twin.close(flush=False)
        await self._held.aclose()
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
        self._twin = self._path = None

    def leaves_out(self, record: Record) -> bool:
        """Whether the record is excluded; known once the twin has begun."""
        return self._is_left_out(record)

    async def ready(self, shard: Shard) -> None:
        offset = shard.next_offset
        while self._stands() < offset:
            await self._learn_some(shard)
        assert self._twin is not None
        await self._tell(self._twin)  # also what counts from here on

    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        return await self._closed(meta)

    async def _closed(self, meta: ShardMeta) -> Path:
        assert self._twin is not None
        assert self._path is not None
        if not await self._twin.settle():
            raise AssertionError("nobody closes a twin but its rewind")
        self._twin.store.write((), meta)
        await self._twin.close(flush=False)
        path, self._path = self._path, None
        return path

    # -- the twin ----------------------------------------------------------------------------

    def _stands(self) -> int:
        """Up to where the twin has learned; -1: there is none yet."""
        return -1 if self._twin is None else self._twin.next_offset

    @abc.abstractmethod
    async def _first(self, partition: Partition) -> Path:
        """The state that the twin begins with, a closed store at a draft. Raises StateError."""

    async def _begin(self, shard: Shard) -> None:
        try:
            await self._begun(shard)
        except BaseException:
            await self.end()
            raise

    async def _begun(self, shard: Shard) -> None:
        partition = shard.partition
        base = self._command.base(partition.partition)
        self._replay = await self._held.enter_async_context(
            self._site.logs.replay(partition, base.next_offset)
        )
        self._path = await self._first(partition)
        epoch = max(base.epoch, self._deployment.life)  # a refold has no base
        forgotten = self._vault.forgotten(self._command.agent, partition, epoch)
        learner, store = await asyncio.to_thread(
            self._learner, self._path, self._going_on(shard), forgotten
        )
        start = ShardStart(
            next_offset=base.next_offset,
            decided_below=0,
            cluster_id=self._site.cluster_id,
            spec_digest=self._meta(shard).spec_digest,
            life=self._deployment.life,
        )
        outlets = Outlets(Muted(), partition, partition)
        self._twin = Shard(learner, store, outlets, start, busy=self._site.busy)
        self._twin.forgotten = forgotten
        self._is_left_out = left_out(self._deployment, self._accepted, partition)

    def _learner(
        self, path: Path, going_on: tuple[Spec, Origin], forgotten: Forgotten
    ) -> tuple[Learner, Store]:
        """Of the state there, open, in a thread. Raises StateError; then it is closed."""
        store = ShardStore.open(path, create=False, options=self._site.stores)
        try:
            honour(store, forgotten)
            return Learner(*going_on, store), store
        except BaseException:
            store.close()
            raise

    async def _learn_some(self, shard: Shard) -> None:
        """One piece of the log, below what the shard has learned: what counted there is known.

        Raises StateError, and UnavailableError `stopping` if the shard is being closed.
        """
        if shard.leaving:
            raise UnavailableError("stopping", "the shard is being closed")
        if self._twin is None:
            await self._begin(shard)
        twin = self._twin
        assert twin is not None
        chunk = await self._replay.upto(shard.next_offset)
        if chunk is None:
            await asyncio.sleep(IDLE_S)
            return
        await self._tell(twin)
        kept = [record for record in chunk.records if not self._is_left_out(record)]
        self.excluded += len(chunk.records) - len(kept)
        await twin.process(structs.replace(chunk, records=kept))
        while twin.waits_for and not shard.leaving:
            await asyncio.sleep(ROOM_LOOK_S)
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
        await twin.schedule(sorted(changes, key=lambda change: change.offset))


class Rewind(Again):
    """The log since the snapshot, learned again; for `keys`, only theirs is taken over."""

    _command: control.Rollback

    async def _first(self, partition: Partition) -> Path:
        return await self._fetched(partition)

    async def state(self, shard: Shard) -> Path:
        """The new state about where the shard is now, as a closed store; for a preview.

        Raises StateError, UnavailableError.
        """
        await self.ready(shard)
        return await self._closed(shard.meta(self._accepted.epoch))

    async def _draft(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        path = await self._closed(meta)
        if not self._command.keys:
            return path
        honoured = functools.partial(honour, forgotten=shard.forgotten)
        return await asyncio.to_thread(self._merged, path, undo, meta, honoured)

    def _merged(
        self, learned: Path, undo: Path, meta: ShardMeta, honoured: Callable[[Store], None]
    ) -> Path:
        """The old state with the rows of some keys as the twin has them, in a thread."""
        draft = self._site.directory.draft()
        link_or_copy(undo, draft)
        options = self._site.stores
        state = ShardStore.open(draft, create=False, options=options, compact=False)
        twin = ShardStore.open(learned, create=False, options=options, compact=False)
        try:
            honoured(state)  # the checkpoint may be of a former try
            names = [KEY_ROW + key.encode() for key in self._command.keys]
            # To delete what is not there would write its name.
            changed = [name for name in names if twin.get(name) != state.get(name)]
            state.write([(name, twin.get(name)) for name in changed], meta)
        finally:
            state.close()
            twin.close()
        shutil.rmtree(learned, ignore_errors=True)
        return draft
