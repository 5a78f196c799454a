"""Answers from states of the past: a snapshot's, or what a shard was at an offset or a time."""

from __future__ import annotations

import functools

from msgspec import structs

from headrace.clock import Clock, SystemClock
from headrace.errors import (
    ConflictError,
    CorruptStateError,
    ForeignStateError,
    RequestError,
    StateError,
    UnavailableError,
)
from headrace.pipelines import control
from headrace.pipelines.live import LiveShards
from headrace.pipelines.past.derivation import Derivation
from headrace.pipelines.past.making import Maker
from headrace.pipelines.past.moments import counted_ms, first_at
from headrace.pipelines.past.opened import Opened, State
from headrace.pipelines.past.reach import check_past, earliest, named, reach
from headrace.pipelines.past.timeline import Course, Start, Timeline
from headrace.pipelines.past.verifying import Verifier
from headrace.pipelines.reader import Logs
from headrace.pipelines.shard import Shard
from headrace.pipelines.snapshot_commands import SnapshotCommands
from headrace.pipelines.worker import Worker
from headrace.state.catalogue import Vouched
from headrace.views import Answer, AsOf, Partition, Question, SnapshotView, Verification

BEYOND = ("out_of_range", "log_too_short", "too_large")
"""Codes of a state that cannot be had, where others can."""


class Past:
    """Implements `ports.Past`. Order of calls: `start` when the worker has started, then questions;
    `stop` before it stops.
    """

    def __init__(
        self,
        worker: Worker,
        live: LiveShards,
        snapshots: SnapshotCommands,
        clock: Clock | None = None,
    ) -> None:
        self._worker = worker
        self._time = (clock or SystemClock()).time
        self._live = live
        self._snapshots = snapshots
        self._opened = Opened()
        self._logs: Logs  # these are made by `start`
        self._maker: Maker
        self._verifier: Verifier

    def start(self) -> None:
        worker = self._worker
        self._logs = worker.shards.site.logs
        self._maker = Maker(worker.shards.site, worker.vault)
        registry = worker.controls.registry
        self._verifier = Verifier(registry, self._logs, worker.shards, self._maker)

    async def stop(self) -> None:
        await self._maker.end()
        await self._opened.close()

    async def predict(self, question: Question, as_of: AsOf) -> Answer:
        """What the key's model said then. Changes nothing, and keeps no live shard waiting.

        Raises what `Predictor.predict` raises; NotFoundError `unknown_snapshot` or
        `snapshot_expired`, ConflictError `spec_mismatch`, `log_too_short` or `other_build`,
        RequestError `out_of_range`, `too_large` or `snapshot_damaged`, OverloadError.
        """
        shard = self._live.shard(question.agent, question.key)
        deployment = self._worker.controls.registry.get(question.agent)
        timeline = self._maker.timeline(deployment, shard.partition)
        try:
            past = await self._made(deployment, shard, timeline, as_of)
        except RequestError as error:
            if error.code not in BEYOND:
                raise
            raise await self._told(error, timeline, shard) from error
        found = past.shard.learner.predict(question, past.shard.next_offset)
        if past.course.start.imported:  # how far it is behind this log, nobody knows
            standing = structs.replace(found.standing, imported=True)
        else:
            standing = self._live.standing(found.standing, shard)
        return structs.replace(found, standing=standing)

    async def _made(
        self, deployment: control.Deployment, shard: Shard, timeline: Timeline, as_of: AsOf
    ) -> Derivation:
        """What the shard was then."""
        if as_of.snapshot_id is not None:
            course = self._snapshot(deployment, shard, as_of.snapshot_id)
            state = _state(deployment, shard, course.start, course.offset)
            make = functools.partial(self._of_snapshot, course)
        else:
            offset = await self._offset(timeline, shard, as_of)
            if as_of.time_ms is not None:
                timeline = await self._then(timeline, offset, as_of.time_ms)
            epoch = timeline.epoch_at(offset)
            state = _state(deployment, shard, Start(epoch, offset), offset)
            make = functools.partial(self._maker.nearest, timeline, offset)
        return await self._opened.at(state, functools.partial(self._maker.done, make))

    async def _told(self, error: RequestError, timeline: Timeline, shard: Shard) -> RequestError:
        """The same error, with the states that can be asked for."""
        try:
            deployed_ms = await self._deployed_ms(timeline)
            range_ = await reach(timeline, self._logs, shard.next_offset, deployed_ms)
        except UnavailableError:
            return error
        text, of = f"{error}; {range_}", error.context.get("agent", shard.origin.agent)
        return type(error)(error.code, text, violations=error.violations, agent=of)

    async def verify(self, decision_id: str | None, record: bytes | None) -> Verification:
        """See `Verifier.verify`."""
        self._worker.check_ready()
        return await self._verifier.verify(decision_id, record)

    # -- which state -------------------------------------------------------------------------

    def _snapshot(self, deployment: control.Deployment, shard: Shard, snapshot_id: str) -> Course:
        """The state of a snapshot, with nothing learned since."""
        view = self._snapshots.get(snapshot_id)
        if view.agent != deployment.agent:
            agent = deployment.agent
            raise ConflictError(
                "spec_mismatch",
                f"{snapshot_id!r} is a snapshot of {view.agent!r}: `headrace snapshot ls {agent}` "
                f"lists those of {agent!r}",
            )
        _check_spec(deployment, view, shard.partition)
        vouched = self._worker.vault.catalogue.shards(snapshot_id).get(shard.partition)
        if vouched is None:
            raise ConflictError(
                "snapshot_incomplete",
                f"{snapshot_id!r} has no partition {shard.partition.partition}, which has that "
                "key: it is not published yet, or a worker was lost",
                snapshot=snapshot_id,
            )
        start = Start(vouched.epoch, vouched.next_offset, vouched)
        return Course(deployment, shard.partition, start, vouched.next_offset)

    async def _of_snapshot(self, course: Course) -> Derivation:
        vouched = course.start.vouched
        assert vouched is not None
        try:
            return await self._maker.made(course)
        except (ForeignStateError, CorruptStateError) as error:
            raise _unusable(vouched, error) from error

    async def _offset(self, timeline: Timeline, shard: Shard, as_of: AsOf) -> int:
        """The next offset of the state. Raises RequestError, ConflictError."""
        if as_of.offset is not None:
            offset = as_of.offset
        elif as_of.time_ms is not None:
            offset = await self._at_time(timeline, shard, as_of.time_ms)
        else:
            raise RequestError("invalid_request", "as_of names no state")
        began, here = timeline.began, shard.next_offset
        assert began is not None
        if not began <= offset <= here:
            topic, partition = shard.partition
            when = "" if as_of.time_ms is None else f"{named(as_of.time_ms)}, "
            raise RequestError(
                "out_of_range",
                f"there is no state at {when}offset {offset} of {topic}[{partition}]: agent "
                f"{shard.origin.agent!r} began at {began} there, and has learned up to {here}",
            )
        return offset

    async def _at_time(self, timeline: Timeline, shard: Shard, time_ms: int) -> int:
        """The first offset of that time or later: all records below it came before."""
        check_past(time_ms, int(self._time() * 1000))
        indexed = self._worker.broker.can_start_at_timestamp
        found = await first_at(self._logs, shard.partition, time_ms, indexed=indexed)
        if (shard.next_offset if found is None else found) == timeline.began:
            await self._check_begun(timeline, time_ms)
        if found is None:
            return shard.next_offset
        begin = (await self._logs.span(shard.partition)).begin
        retired = begin > (timeline.began or 0)  # and how late that was, nobody knows
        if retired and found <= begin:
            raise ConflictError(
                "log_too_short",
                f"the log holds no record from before {named(time_ms)} any more: it begins at "
                f"offset {begin}",
                agent=shard.origin.agent,
            )
        return found

    async def _then(self, timeline: Timeline, offset: int, time_ms: int) -> Timeline:
        """What had counted by that time. A rollback may have come later and counted at the same
        offset, as no record came in between.
        """
        control_log = Partition(self._worker.control_topic, 0)
        while (last := timeline.began_at(offset)) is not None:
            at_ms = await counted_ms(self._logs, control_log, last, timeline.partition)
            if at_ms is None or at_ms <= time_ms:
                break
            timeline = timeline.before(last)
        return timeline

    async def _check_begun(self, timeline: Timeline, time_ms: int) -> None:
        """Of a time before all that was learned: the state of the deploy was there since then, or,
        if that is earlier, since the first event. Raises RequestError `out_of_range`.
        """
        assert timeline.began is not None
        begin = (await self._logs.span(timeline.partition)).begin
        first = await self._logs.record_at(timeline.partition, timeline.began)
        deployed_ms = await self._deployed_ms(timeline)
        since = earliest(first, deployed_ms)
        if begin > timeline.began or since is None or time_ms >= since // 1000 * 1000:
            return  # times are told to the second
        text = f"{named(time_ms)} is before agent {timeline.deployment.agent!r} began"
        if deployed_ms is not None:
            text += f": it was deployed at {named(deployed_ms)}, and has no event of before"
        raise RequestError("out_of_range", text)

    async def _deployed_ms(self, timeline: Timeline) -> int | None:
        """When the deploy was written into the control log; None: that record is there no more."""
        deploy = timeline.deployment.commands[0]
        log = Partition(self._worker.control_topic, 0)
        record = await self._logs.record_at(log, deploy.offset)
        return None if record is None else record.timestamp


def _check_spec(deployment: control.Deployment, view: SnapshotView, partition: Partition) -> None:
    """Raises ConflictError unless the snapshot is of this life, or imported, and of a spec that the
    agent has had.
    """
    agent, id_ = view.agent, view.snapshot_id
    if view.imported:
        if deployment.version_of(view.spec_digest) is None:
            raise ConflictError(
                "spec_mismatch",
                f"{id_!r} was imported, and agent {agent!r} has not had its spec "
                f"({view.spec_digest[:12]}): deploy that first",
                snapshot=id_,
            )
        return
    version = deployment.version_at(view.epoch, partition)
    if view.epoch < deployment.life or view.spec_digest != version.digest:
        raise ConflictError(
            "spec_mismatch",
            f"{id_!r} was taken before agent {agent!r} was deleted and deployed again",
            snapshot=id_,
        )


def _state(deployment: control.Deployment, shard: Shard, start: Start, offset: int) -> State:
    """Of that offset, in the epoch of the start."""
    of = (deployment.agent, deployment.life, shard.partition)
    foreign = start.vouched.snapshot_id if start.imported and start.vouched else ""
    return State(*of, start.epoch, offset, shard.forgotten.newest, foreign)


def _unusable(vouched: Vouched, error: StateError) -> RequestError:
    foreign = isinstance(error, ForeignStateError)
    kind = ConflictError if foreign else RequestError
    code = "other_build" if foreign else "snapshot_damaged"
    return kind(code, str(error), snapshot=vouched.snapshot_id)
