"""From which start a state is made, and what speaks against it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headrace.errors import (
    AwayStateError,
    BadDiskError,
    ConflictError,
    CorruptStateError,
    DiskFullError,
    GoneStateError,
    NotFoundError,
    OverloadError,
    RequestError,
    StateError,
    UnavailableError,
)
from headrace.pipelines import control
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.timeline import Course, Start, Stretch, Timeline, events
from headrace.pipelines.seams import Sink
from headrace.pipelines.site import Site
from headrace.pipelines.vault import Vault
from headrace.state.manifest import Versions
from headrace.views import Partition

EVENTS_MAX = 100_000
"""Events that are learned again for one state, those of rewinds on the way included."""
MAKING_MAX = 2
"""States that are made at a time, to answer or to verify."""
RETRY_S = 1.0
_T = TypeVar("_T")


class Maker:
    """Makes states of the past. Order of calls: `timeline` at any time, `nearest` and `made` within
    `done`; `end` once.
    """

    def __init__(self, site: Site, vault: Vault) -> None:
        self._site = site
        self._vault = vault
        self._afar = vault.afar()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._at_work: set[Derivation] = set()
        self._over = False

    @property
    def versions(self) -> Versions:
        """Of the build that makes them."""
        return self._vault.probing.versions

    async def done(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do something that makes a state, if there is a place for it. It is finished also if the
        caller goes away: files are opened in threads. Raises OverloadError, UnavailableError.
        """
        if self._over:
            raise UnavailableError("stopping", "the worker is going down")
        if len(self._tasks) >= MAKING_MAX:
            raise OverloadError(
                "overloaded",
                f"{MAKING_MAX} states of the past are being made already: ask again in a moment",
                retry_s=RETRY_S,
            )
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def timeline(self, deployment: control.Deployment, partition: Partition) -> Timeline:
        """The states that the shard had."""
        published = self._vault.catalogue.newest(deployment.agent, *partition)
        return Timeline(deployment, partition, published)

    async def nearest(
        self, timeline: Timeline, offset: int, sink: Sink | None = None
    ) -> Derivation:
        """The state at that offset, from the nearest start that can be used; with a `sink`, which
        gets what is decided on the record there, that one is learned, too, and nothing is taken
        from this disk.

        Raises ConflictError `log_too_short`, RequestError `too_large`, UnavailableError,
        NotFoundError `snapshot_expired`, if what a rollback or migration on the way went back to
        has been removed, or the start itself just now, and StateError if there are starts near
        enough, and none can be used.
        """
        failure: StateError | None = None
        for start in await self._starts(timeline, offset, sink):
            derivation = self._derivation(timeline.course(start, offset), sink)
            try:
                return await self._made(derivation, sink)
            except StateError as error:
                if not derivation.begun:
                    error = self._blamed(start, timeline.partition, error)
                failure = failure or error
        assert failure is not None
        if isinstance(failure, GoneStateError):
            raise NotFoundError("snapshot_expired", str(failure)) from failure
        raise failure

    async def made(self, course: Course, sink: Sink | None = None) -> Derivation:
        """The state at the end of that course, open; whoever gets it ends it. `sink` as above.

        Raises CorruptStateError, ForeignStateError, StateError, UnavailableError.
        """
        return await self._made(self._derivation(course, sink), sink)

    def _derivation(self, course: Course, sink: Sink | None) -> Derivation:
        return Derivation(self._site, self._vault if sink is None else self._afar, course, sink)

    async def _made(self, derivation: Derivation, sink: Sink | None) -> Derivation:
        self._at_work.add(derivation)
        try:
            await derivation.begin()
            if self._over:
                raise UnavailableError("stopping", "the worker is going down")
            await derivation.learn(derivation.course.offset + (sink is not None))
        except BaseException:
            await derivation.end()
            raise
        finally:
            self._at_work.discard(derivation)
        return derivation

    def _blamed(self, start: Start, partition: Partition, error: StateError) -> StateError:
        """What is to be told of a start that could not be begun from. Nothing is wrong with one
        that a disk or the repository has not given, nor with one that has just been removed.
        """
        vouched = start.vouched
        if vouched is None or isinstance(error, AwayStateError | BadDiskError | DiskFullError):
            return error
        snapshot_id, digest = vouched.snapshot_id, vouched.digest
        removed = self._vault.was_removed(partition, snapshot_id, digest)
        if removed and isinstance(error, CorruptStateError):
            return GoneStateError(str(error))
        self._vault.refused(snapshot_id, partition, error)
        return error

    async def end(self) -> None:
        """Let those who are at work be told that the worker is going down."""
        self._over = True
        for derivation in list(self._at_work):
            await derivation.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _starts(self, timeline: Timeline, offset: int, sink: Sink | None) -> list[Start]:
        """Those that the log reaches back to, not too many events away: the nearest first."""
        starts = timeline.starts(offset)
        begin = (await self._site.logs.span(timeline.partition)).begin
        itself = [] if sink is None else [Stretch(offset, offset + 1)]

        def learned(start: Start) -> list[Stretch]:
            return [*timeline.stretches(start, offset), *itself]

        if itself and offset < begin:
            raise _event_retired(timeline, offset, begin)
        reached = [
            start for start in starts if all(stretch.begin >= begin for stretch in learned(start))
        ]
        if not reached:
            raise _log_too_short(timeline, starts[0], offset, begin)
        near = [start for start in reached if events(learned(start)) <= EVENTS_MAX]
        if not near:
            raise _too_far(timeline, reached[0], offset, events(learned(reached[0])))
        return near


def _log_too_short(timeline: Timeline, start: Start, offset: int, begin: int) -> ConflictError:
    topic, partition = timeline.partition
    return ConflictError(
        "log_too_short",
        f"{topic}[{partition}] reaches back to offset {begin} only, and the nearest state before "
        f"offset {offset} is {_named(start)}: what came in between cannot be learned again",
        agent=timeline.deployment.agent,
    )


def _event_retired(timeline: Timeline, offset: int, begin: int) -> ConflictError:
    topic, partition = timeline.partition
    return ConflictError(
        "log_too_short",
        f"{topic}[{partition}] reaches back to offset {begin} only: the event at offset {offset} "
        "cannot be learned again",
        agent=timeline.deployment.agent,
    )


def _too_far(timeline: Timeline, start: Start, offset: int, count: int) -> RequestError:
    return RequestError(
        "too_large",
        f"{count:,} events have to be learned again to come from {_named(start)} to offset "
        f"{offset}: at most {EVENTS_MAX:,} are. Ask for an offset nearer to a snapshot",
        agent=timeline.deployment.agent,
    )


def _named(start: Start) -> str:
    if start.vouched is None:
        return f"that of the deploy, at offset {start.next_offset}"
    return f"{start.vouched.snapshot_id!r}, at offset {start.next_offset}"
