"""One state of a shard made again: a snapshot's files, and what the log has had since.

A *twin* of the shard begins at the snapshot, in a draft of its own, and learns through a reader of
its own what the shard learned then: pauses, resumes and rollbacks count where they did, and a
rewind leaves out what it left out. It is the same step, so it comes to the same state. What it
decides goes into a sink that keeps it from everybody.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec import structs

from headrace.errors import DiskFullError, UnavailableError
from headrace.models.learner import Learner
from headrace.models.spec import Spec
from headrace.pipelines import control
from headrace.pipelines.changes import Change, Work
from headrace.pipelines.forgetting import honour
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.past.timeline import Counted, Course
from headrace.pipelines.replay import IDLE_S
from headrace.pipelines.seams import Muted, Sink
from headrace.pipelines.shard import Shard
from headrace.pipelines.shardstart import Outlets, ShardStart
from headrace.pipelines.site import Site, origin_of, spec_of
from headrace.pipelines.threads import remove_drafts
from headrace.pipelines.vault import Vault
from headrace.pipelines.works import replacement
from headrace.state.store import ShardStore, Store
from headrace.views import Partition

MODELS_BYTES_MAX = 16 << 20
"""Live models of a state that is being made; beyond it they are written into its draft."""
COOLED_AT_ONCE = 200
"""Keys that are let go of between two turns of the event loop."""
TIME_MAX_S = 60.0
"""How long the log may take to bring what is learned again."""
NOWHERE = Partition("", 0)


class Derivation:
    """Order of calls: `begin`, `learn` with offsets that do not fall, `end` in any case.

    Between `begin` and `end`, `shard` stands where it has been learned up to and may be asked.
    `begun`: the start's state was as it should be; what fails then is met on the way.
    """

    def __init__(self, site: Site, vault: Vault, course: Course, sink: Sink | None = None) -> None:
        self.shard: Shard
        self.course = course
        self._site = site
        self._vault = vault
        self._sink = sink or Muted()
        self._version = course.version
        self._spec: Spec = spec_of(course.deployment, self._version)
        self._path: Path | None = None
        self.begun = False

    async def begin(self) -> None:
        """Open the start's state. Raises CorruptStateError, ForeignStateError, StateError: then it
        may be begun from another start.
        """
        course, site = self.course, self._site
        self._path = await self._files()
        store = await asyncio.to_thread(self._opened, self._path)
        try:
            if store.meta is not None and course.start.next_offset < course.offset:
                await check_log(site.logs, site.cluster_id, course.partition, store.meta)
            epoch = 0 if course.start.imported else course.start.epoch
            forgotten = self._vault.forgotten(course.deployment.agent, course.partition, epoch)
            await asyncio.to_thread(honour, store, forgotten)
            origin = structs.replace(
                origin_of(course.deployment, course.start.epoch, course.partition),
                spec_version=self._version.number,
            )
            learner = await asyncio.to_thread(Learner, self._spec, origin, store)
        except BaseException:
            store.close()
            raise
        at = ShardStart(
            next_offset=course.start.next_offset,
            decided_below=0,
            cluster_id=site.cluster_id,
            spec_digest=self._version.digest,
            life=course.deployment.life,
            told_below=course.offset,  # what was decided on the way is nobody's business,
            refused_below=course.offset,  # nor what was refused
        )
        outlets = Outlets(self._sink, course.partition, NOWHERE)
        self.shard = Shard(learner, store, outlets, at, busy=site.busy)
        self.shard.forgotten = forgotten
        self.begun = True
        await self.shard.schedule([self._change(counted) for counted in course.counted])

    async def learn(self, offset: int) -> None:
        """Up to there, which the log has.

        Raises StateError, also if there was no room on the disk for too long, UnavailableError.
        """
        shard = self.shard
        clock = asyncio.get_running_loop().time
        deadline = clock() + TIME_MAX_S
        if shard.next_offset >= offset:
            return
        begin = shard.next_offset
        async with self._site.logs.replay(self.course.partition, begin) as replay:
            while shard.next_offset < offset:
                if shard.leaving:
                    raise UnavailableError("stopping", "the worker is going down")
                if clock() > deadline:
                    raise UnavailableError(
                        "broker_away", f"the log was not read again within {TIME_MAX_S:g} s"
                    )
                chunk = await replay.upto(offset)
                if chunk is None:
                    await asyncio.sleep(IDLE_S)
                    continue
                await self._has_room(deadline)
                await shard.process(chunk, lambda: not shard.leaving and clock() <= deadline)
                await self._cool()

    async def stop(self) -> None:
        """Tell who begins or learns that the worker is going down."""
        if self.begun:
            await self.shard.close(flush=False)

    async def end(self) -> None:
        """Give everything back. Nobody begins, learns or asks any more."""
        await self.stop()
        path, self._path = self._path, None
        if path is not None:
            await remove_drafts(path)

    async def _files(self) -> Path:
        start = self.course.start
        if start.vouched is None:
            return self._site.directory.draft()
        vouched = start.vouched
        return await self._vault.fetch(self.course.partition, vouched.snapshot_id, vouched.digest)

    def _opened(self, path: Path) -> Store:
        new = self.course.start.vouched is None
        return ShardStore.open(path, create=new, options=self._site.stores, compact=False)

    async def _has_room(self, deadline: float) -> None:
        """Wait for room on the disk, which nothing but a flush finds out about."""
        clock = asyncio.get_running_loop().time
        while reason := self.shard.waits_for:
            if clock() > deadline:
                raise DiskFullError(reason)
            if not await self.shard.waits_on(reason):
                raise UnavailableError("stopping", "the worker is going down")
            await self.shard.flush()

    async def _cool(self) -> None:
        learner = self.shard.learner
        if learner.hot_bytes > MODELS_BYTES_MAX:
            await self.shard.flush()
            while learner.cool(COOLED_AT_ONCE):  # noqa: ASYNC110 - to free them all takes long
                await asyncio.sleep(0)

    def _change(self, counted: Counted) -> Change:
        accepted, offset = counted
        work = self._work(accepted) if accepted.kind in ("rollback", "migrate") else None
        return Change(offset, accepted.kind, accepted.offset, work)

    def _work(self, accepted: control.Accepted) -> Work:
        """What the rollback or the migration did, done to the twin."""

        async def work(shard: Shard) -> bool:
            course = self.course
            done = replacement(
                self._site, self._vault, course.deployment, accepted, course.partition
            )
            former, self._path = self._path, await done.on_copy(shard)
            if former is not None:
                await remove_drafts(former)
            return True

        return work
