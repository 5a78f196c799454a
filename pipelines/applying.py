"""What each command of the control log does to a shard, when its effect is yet to be logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from headrace.errors import BadDiskError, DiskFullError, StateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.changes import Change
from headrace.pipelines.forgetting import Forgetting
from headrace.pipelines.replacement import Replacement
from headrace.pipelines.rewind import Again
from headrace.pipelines.shard import ROOM_LOOK_S, Shard
from headrace.pipelines.site import Commands, Site
from headrace.pipelines.snapshotting import NamedSnapshot
from headrace.pipelines.unchanged import NOTHING_TO_UNDO, Unchanged
from headrace.pipelines.works import Work, Works
from headrace.views import Partition

log = logging.getLogger(__name__)
Effect = Callable[..., Awaitable[int]]

LEAVE_S = 2.0
"""After this what a rollback or a migration needs is left to come: a repository may be away."""
DUE_LOOK_S = 0.05
"""Between two looks at whether what a snapshot or a rollback of a shard has to follow is done."""


class Host(Protocol):
    """Whoever holds the shards."""

    @property
    def site(self) -> Site:
        """Where they are."""
        ...

    works: Works
    in_background: Callable[[Shard, Coroutine[Any, Any, None]], None]

    async def log_effect(
        self, accepted: control.Accepted, partition: Partition, offset: int, failed: str = ""
    ) -> int:
        """Log from which offset on a command counts there; returns which one does."""
        ...


class Applying:
    """Applies commands to the shards of one worker, one shard at a time or several at once.

    Order of calls, for each shard: `catch_up` while it is being opened; when it is open, `in_turn`
    with what that has returned, beside `or_leave` for each command that comes.
    """

    def __init__(self, host: Host, controls: Commands) -> None:
        self._host = host
        self._controls = controls
        self._replacing: set[tuple[Shard, int]] = set()  # by a command at that offset

    async def in_turn(self, shard: Shard, commands: Sequence[control.Accepted]) -> None:
        """Apply them one after the other, as `or_leave` does, until one fails."""
        for accepted in commands:
            if not shard.leaving:
                await self.or_leave(shard, accepted)

    async def or_leave(self, shard: Shard, accepted: control.Accepted) -> None:
        """Apply it. What has to wait for room on the disk, or long for a repository, is left to
        itself: the commands behind it go on, of which one may delete what takes the room.
        """
        clock = asyncio.get_running_loop().time
        began, work = clock(), self._host.works.of(accepted, shard.partition)
        applying = asyncio.ensure_future(self._one(shard, accepted, work))
        try:
            while not applying.done():
                await asyncio.wait({applying}, timeout=ROOM_LOOK_S)
                preparing = isinstance(work, Replacement) and work.preparing
                waits = shard.waits_for or (preparing and clock() - began > LEAVE_S)
                if waits and not (shard.leaving or applying.done()):
                    self._host.in_background(shard, _ended(applying))
                    return
        except asyncio.CancelledError:
            applying.cancel()
            await asyncio.wait({applying})
            raise
        applying.result()

    async def _one(self, shard: Shard, accepted: control.Accepted, work: Work | None) -> None:
        """Apply it; what may take as long as the log goes on beside the shard."""

        async def effect(offset: int, failed: str = "") -> int:
            return await self._host.log_effect(accepted, shard.partition, offset, failed)

        if shard.knows(accepted.offset):  # it was opened before all were told
            return
        if isinstance(work, Again):
            self._host.in_background(shard, self._replace(shard, accepted, work, effect))
        elif isinstance(work, Replacement):
            await self._replace(shard, accepted, work, effect)
        elif isinstance(work, Forgetting):  # it may have to wait for what is learned again
            self._host.in_background(shard, self._forget(shard, accepted, work))
        elif isinstance(work, NamedSnapshot) and shard.origin.epoch < accepted.epoch:
            self._host.in_background(shard, self._take(shard, accepted, work, effect))
        else:
            await shard.apply(accepted.kind, accepted.offset, effect, work.work if work else None)

    async def catch_up(
        self, shard: Shard, deployment: control.Deployment
    ) -> list[control.Accepted]:
        """Give a shard that is being opened the commands that came after its deploy, those without
        an effect last; returns those that are done beside it when it is open.

        Those that come meanwhile are told to open shards only: so it looks until there are none.
        """
        takes_long: list[control.Accepted] = []
        known = 1
        while known < len(deployment.commands):
            commands, known = deployment.commands[known:], len(deployment.commands)
            changes: list[Change] = []
            unapplied: list[control.Accepted] = []
            for command in commands:
                at = deployment.effect(command.control_id, shard.partition)
                if at is None:
                    unapplied.append(command)
                else:
                    changes.append(self._host.works.change(shard, command, at))
            await shard.schedule(changes)
            for command in unapplied:
                work = self._host.works.of(command, shard.partition)
                if isinstance(work, Replacement | Forgetting | NamedSnapshot):
                    takes_long.append(command)
                else:
                    await self._one(shard, command, work)
        return takes_long

    async def _replace(
        self, shard: Shard, accepted: control.Accepted, work: Replacement, effect: Effect
    ) -> None:
        """Apply a rollback or a migration, once: a shard that was opened before a command was told
        to all is told of it twice.
        """
        this = (shard, accepted.offset)
        if this in self._replacing:
            return
        self._replacing.add(this)
        try:
            await self._until_due(shard, accepted)
            # Who learns the log again takes long: others go first until that is done.
            again = isinstance(work, Again)
            with nullcontext() if again else self._host.site.precedence.held():
                await self._replace_once(shard, accepted, work, effect)
        finally:
            self._replacing.remove(this)

    async def _replace_once(
        self, shard: Shard, accepted: control.Accepted, work: Replacement, effect: Effect
    ) -> None:
        """What can be done before it counts holds up no event.

        One that cannot be done, because the snapshot is damaged, say, or where there is nothing to
        take back, changes nothing but the epoch, and its effect says why.
        """
        doing = work

        async def ready_effect(offset: int) -> int:
            nonlocal doing
            failed = NOTHING_TO_UNDO if isinstance(work, Unchanged) else ""
            try:
                if work.lacks is not None:  # to try once more could take long, under the turn
                    raise work.lacks
                await doing.ready(shard)
            except (DiskFullError, BadDiskError):  # it can be done, if not on this disk
                raise
            except StateError as error:
                failed = str(error)
                log.exception(
                    "replacement.failed", extra=fields(agent=accepted.agent, kind=accepted.kind)
                )
            counted = await effect(offset, failed)
            # Another worker's may have come first: whether it is done is what the log says.
            deployment = self._controls.registry.life(accepted.agent, accepted.life)
            if deployment and shard.partition in deployment.failed(accepted.control_id):
                doing = self._host.works.unchanged(accepted)
            return counted

        async def do(shard: Shard) -> bool:
            return await doing.work(shard)

        try:
            shard.flush_soon()
            await work.prepared(shard)
            if shard.leaving:  # who has it next does it
                return
            await shard.apply(accepted.kind, accepted.offset, ready_effect, do)
        finally:
            await work.end()

    async def _until_due(self, shard: Shard, accepted: control.Accepted) -> None:
        """Wait until the snapshots that were asked for before it count: one may just be waiting for
        the epoch that this ends. An undo also waits until the shard has learned again what it had
        decided on: the rollback that counts there takes again what this goes back to.
        """
        deployment = self._controls.registry.life(accepted.agent, accepted.life)
        if deployment is None:
            return
        waits_for = [
            each.control_id
            for each in deployment.commands
            if each.kind == "snapshot" and each.offset < accepted.offset
        ]
        undoes = isinstance(accepted.command, control.Rollback) and accepted.command.undoes

        def is_due() -> bool:
            taken = (deployment.effect(i, shard.partition) is not None for i in waits_for)
            return not (undoes and shard.relearns) and all(taken)

        while not (is_due() or shard.leaving):  # noqa: ASYNC110 - two things end it
            await asyncio.sleep(DUE_LOOK_S)

    async def _forget(self, shard: Shard, accepted: control.Accepted, work: Forgetting) -> None:
        async def ready_effect(offset: int) -> int:
            await work.ready(shard)
            return await self._host.log_effect(accepted, shard.partition, offset)

        await work.prepare(shard)
        await shard.apply(accepted.kind, accepted.offset, ready_effect, work.work)

    async def _take(
        self, shard: Shard, accepted: control.Accepted, work: NamedSnapshot, effect: Effect
    ) -> None:
        """A snapshot is of one epoch: it waits for what was to replace the state before it."""
        while shard.origin.epoch < accepted.epoch:
            if shard.leaving:
                return
            await asyncio.sleep(DUE_LOOK_S)
        await shard.apply(accepted.kind, accepted.offset, effect, work.work)


async def _ended(applying: asyncio.Future[None]) -> None:
    await applying
