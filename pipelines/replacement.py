"""Putting another state in place of a shard's, between two events.

The steps of a rollback or a migration, each of which may be the last one before a crash:

1. the effect is in the control log and has been read back: it counts from here, position X;
2. what was learned below X is durable, in the old epoch, and its decisions are acknowledged;
3. a checkpoint of that is on this disk: the undo snapshot, which is published by and by;
4. a draft has the new state, its position X and the new epoch, synced;
5. the boundary of the new epoch is acknowledged, in the topic of decisions;
6. the draft takes its place under the new epoch: renamed, and the directory synced;
7. the shard goes on with it, and the old epoch's directory is removed.

After a crash before 6, the old epoch is learned up to X again and the rest is done then; after it,
the new epoch is there. So it is always all of the old state or all of the new one.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from headrace import interpreter
from headrace.errors import AwayStateError, DiskFullError, StateError, UnavailableError
from headrace.logs import fields
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec
from headrace.pipelines import boundaries, control
from headrace.pipelines.forgetting import honour
from headrace.pipelines.forgotten import NOTHING, Forgotten
from headrace.pipelines.shard import Shard
from headrace.pipelines.site import Site, origin_of, spec_of
from headrace.pipelines.threads import in_a_thread, remove_drafts
from headrace.pipelines.vault import Vault, undo_id
from headrace.state.checkpoints import link_or_copy
from headrace.state.store import ShardMeta, ShardStore, Store
from headrace.views import Partition

log = logging.getLogger(__name__)

LACK_WAIT_S = 20.0
"""How long a rollback or a migration waits for what it lacks, before it counts: a repository that
is away, or room on the disk."""
LACK_LOOK_S = 0.5
"""Between two looks at whether it is there."""
ROOM_PAUSE_S = 5.0
"""Before what found no room is tried again: until it finds none, it takes what others need."""
COOL_KEYS = 50
"""Live models of the former state that are let go of between two turns of the event loop."""


class Replacement(abc.ABC):
    """One rollback or migration in one shard. Order of calls: `prepared` before the command counts,
    as far as that is possible, `ready` when it is about to count, `work` when it does, both under
    the shard's turn; `end` in any case. Or `on_copy` alone, for a state of the past.

    What each kind makes is its `_new_state`; `prepare`, `ready` and `end` are for what it needs.
    """

    def __init__(
        self,
        site: Site,
        vault: Vault,
        deployment: control.Deployment,
        accepted: control.Accepted,
    ) -> None:
        assert isinstance(accepted.command, control.Rollback | control.Migrate)
        self._site = site
        self._vault = vault
        self._deployment = deployment
        self._accepted = accepted
        self._command: control.Rollback | control.Migrate = accepted.command
        self.preparing = True  # until `prepared` has ended
        self.lacks: AwayStateError | DiskFullError | None = None  # what `prepared` has given up for
        self._working = False
        self._drafts: list[Path] = []  # made, and not in their place

    async def prepared(self, shard: Shard) -> None:
        """Have ready what takes long, while the shard goes on. A repository that is away is waited
        for, as what the log once says could not be done, no return of it mends; and so is room on
        the disk, as it would have to be made ready under the shard's turn.
        """
        clock = asyncio.get_running_loop().time
        deadline: float | None = None  # from when it is first lacking: to fetch may take longer
        self.preparing = not shard.leaving
        while self.preparing:
            self.lacks = None
            try:
                await self.prepare(shard)
            except (AwayStateError, DiskFullError) as error:
                self.lacks = error
                deadline = deadline or clock() + LACK_WAIT_S
            except StateError:  # `ready` says so, or it can be had by the time that it counts
                pass
            in_time = deadline is None or clock() < deadline
            self.preparing = self.lacks is not None and in_time and not shard.leaving
            if self.preparing:
                await self._pause(shard)

    async def _pause(self, shard: Shard) -> None:
        clock = asyncio.get_running_loop().time
        away = isinstance(self.lacks, AwayStateError)
        until = clock() + (LACK_LOOK_S if away else ROOM_PAUSE_S)
        while clock() < until and not shard.leaving:  # noqa: ASYNC110 - two things end it
            await asyncio.sleep(LACK_LOOK_S)

    async def prepare(self, shard: Shard) -> None:  # noqa: B027 - most need none
        """The same, tried once. Raises StateError."""

    async def ready(self, shard: Shard) -> None:  # noqa: B027
        """Have ready all that is needed where the shard stands, under its turn.

        Raises StateError if it cannot be had, because the snapshot is damaged, say, and
        UnavailableError `stopping` if the shard is being closed.
        """

    @abc.abstractmethod
    async def _new_state(self, shard: Shard, undo: Path, meta: ShardMeta) -> Path:
        """Step 4: a closed store with the new state and that meta, in one of the `_drafts`."""

    async def end(self) -> None:  # noqa: B027
        """Give back what `prepare` has made; `work` makes it again if it comes later."""

    def _going_on(self, shard: Shard) -> tuple[Spec, Origin]:
        """Under which spec, and as whom: as the log has it where the command counts. Until then the
        shard may learn again what came before a migration.
        """
        epoch, partition = self._accepted.epoch, shard.partition
        return self._spec(partition), origin_of(self._deployment, epoch, partition)

    def _spec(self, partition: Partition) -> Spec:
        return spec_of(self._deployment, self._version(partition))

    def _version(self, partition: Partition) -> control.Version:
        return self._deployment.version_at(self._accepted.epoch, partition)

    def _meta(self, shard: Shard) -> ShardMeta:
        """Where the new state stands."""
        digest = self._version(shard.partition).digest
        return structs.replace(shard.meta(self._accepted.epoch), spec_digest=digest)

    async def work(self, shard: Shard) -> bool:
        """Do it, from step 2 on; False: the shard is being closed, or is about to be.

        Raises StateError, and UnavailableError `broker_away` while the shard is being opened.
        """
        self._working = True
        try:
            with self._site.precedence.held():
                return await self._replaced(shard)
        except UnavailableError:
            if shard.must_end:
                return False
            raise
        finally:
            self._working = False
            await self.end()
            await self._drop_drafts()

    async def _replaced(self, shard: Shard) -> bool:
        await self.ready(shard)
        if not await shard.settle():
            return False
        undo = await self._vault.take(
            shard,
            undo_id(self._command.agent, self._command.id),
            "undo",
            self._command.partitions,
            self._accepted.offset,
        )
        former_epoch, sink = shard.origin.epoch, self._site.sink
        # It is on its way while the draft is written; step 5 is over when the sink is drained.
        await boundaries.send(sink, self._deployment, self._accepted, shard.partition)
        draft = await self._new_state(shard, undo, self._meta(shard))
        await sink.drain()
        spec, origin = self._going_on(shard)
        adopted = functools.partial(self._adopted, draft, origin)
        learner, store = await learner_on(adopted, spec, origin)
        former_learner, former = shard.learner, shard.renew(learner, store)
        interpreter.keep()
        former_path = self._site.shard_path(self._command.agent, former_epoch, shard.partition)
        # In a thread: answers of the new state must not wait until the old one has been put away.
        await in_a_thread(lambda: self._put_away(former, former_path))
        while former_learner.cool(COOL_KEYS):  # noqa: ASYNC110 - to free them all takes long
            await asyncio.sleep(0)
        return True

    async def on_copy(self, shard: Shard) -> Path:
        """Do to a shard that is nobody's what it did to the live one where it counted: only the new
        state matters, so nothing is kept of the old one. Whoever calls it has the shard's turn.

        Returns where the new store lies, a draft. Raises StateError, UnavailableError.
        """
        old = self._new_draft()
        try:
            await self.ready(shard)
            if not await shard.settle():
                raise UnavailableError("stopping", "the worker is going down")
            await in_a_thread(lambda: shard.store.checkpoint(old))
            draft = await self._new_state(shard, old, self._meta(shard))
            opened = functools.partial(self._store_at, draft)
            learner, store = await learner_on(opened, *self._going_on(shard))
            self._drafts.remove(draft)  # it is the caller's
        finally:
            await self.end()
            await self._drop_drafts()
        shard.renew(learner, store).close()
        return draft

    def _new_draft(self) -> Path:
        """A path of its own, of which nothing is left when the work is done."""
        draft = self._site.directory.draft()
        self._drafts.append(draft)
        return draft

    async def _drop_drafts(self) -> None:
        drafts, self._drafts = self._drafts, []
        await remove_drafts(*drafts)

    def _put_away(self, former: Store, path: Path) -> None:
        """Step 7, in a thread. The new state has counted: whatever is left of the old one, the next
        opening removes.
        """
        try:
            former.close()
            self._site.directory.drop_shard(path)
        except StateError as error:
            log.warning("epoch.not_removed", extra=fields(path=str(path), error=str(error)))

    async def _fetched(self, partition: Partition) -> Path:
        """The files of the snapshot, verified, at a draft. Raises StateError."""
        base = self._command.base(partition.partition)
        return await self._vault.base(partition, self._command.snapshot_id, base)

    def _adopted(self, draft: Path, origin: Origin) -> Store:
        """Step 6, and the state open, in a thread."""
        partition = Partition(origin.topic, origin.partition)
        path = self._site.shard_path(origin.agent, origin.epoch, partition)
        self._site.directory.adopt(draft, path)
        return self._site.open_store(path)

    @contextmanager
    def _copy_of(self, undo: Path, forgotten: Forgotten) -> Iterator[ShardStore]:
        """A store at a draft with what the shard had, in a thread. Its checkpoint may be of a
        former try, and some keys be forgotten since.
        """
        draft = self._new_draft()
        link_or_copy(undo, draft)
        with self._store_at(draft) as store:
            honour(store, forgotten)
            yield store

    def _store_at(self, draft: Path, *, create: bool = False) -> ShardStore:
        """The store at a draft, which is closed again soon."""
        return ShardStore.open(draft, create=create, options=self._site.stores, compact=False)


async def learner_on(
    opened: Callable[[], Store], spec: Spec, origin: Origin, forgotten: Forgotten = NOTHING
) -> tuple[Learner, Store]:
    """A learner that goes on with the state that `opened` opens, in a thread; the state is to know
    nothing of some keys. It is closed again if it cannot be read, which raises StateError, or if
    the caller is cancelled meanwhile.
    """
    stores: list[Store] = []

    def work() -> Learner:
        stores.append(store := opened())
        honour(store, forgotten)
        return Learner(spec, origin, store)

    try:
        return await in_a_thread(work), stores[0]
    except BaseException:
        for store in stores:
            store.close()
        raise
