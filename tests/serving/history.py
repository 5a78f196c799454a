"""Snapshots and rollbacks of a small real backend: kept in a dict, done one partition at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from headrace.counts import counted
from headrace.errors import (
    ConflictError,
    NotFoundError,
    OtherBuildError,
    RequestError,
    UnavailableError,
)
from headrace.views import (
    MetricChange,
    Position,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotShard,
    SnapshotView,
)

BEGAN_MS = 1_700_000_000_000
MINUTE_MS = 60_000
PARTITIONS = 2
BEFORE = "card-fraud.before"
Check = Callable[..., None]
"""Raises the fault that a test asked for, and NotFoundError for an agent that is not there."""


def to(snapshot_id: str = BEFORE, **given: Any) -> RollbackRequest:
    """A rollback of the whole agent to a snapshot, unless it says otherwise."""
    asked: dict[str, Any] = {"agent": "card-fraud", "snapshot_id": snapshot_id, **given}
    return RollbackRequest(**asked)


class Kept:
    """Implements `ports.Snapshots`. One is taken each minute, and holds 10 records more."""

    def __init__(self, check: Check) -> None:
        self.views: dict[str, SnapshotView] = {}
        self.expired: set[str] = set()  # removed by retention
        self.damaged: set[str] = set()
        self.foreign: set[str] = set()  # of another build
        self.in_use: Callable[[str], bool] = lambda _: False
        self._check = check
        self._taken = 0

    async def create(self, agent: str, name: str) -> SnapshotView:
        self._check(agent)
        snapshot_id = f"{agent}.{name}"
        if snapshot_id in self.views:
            text = f"there is a snapshot {snapshot_id} already; give another name"
            raise ConflictError("snapshot_exists", text, snapshot=snapshot_id)
        return self.take(agent, name, "named")

    def take(self, agent: str, name: str, kind: str, *, shards: int = PARTITIONS) -> SnapshotView:
        """Put one there; with fewer shards it is not complete."""
        self._taken += 1
        view = SnapshotView(
            snapshot_id=f"{agent}.{name}",
            agent=agent,
            kind=kind,
            epoch=3,
            spec_version=1,
            spec_digest="d" * 64,
            created_ms=BEGAN_MS + self._taken * MINUTE_MS,
            partitions=PARTITIONS,
            shards=tuple(
                SnapshotShard(
                    topic="transactions",
                    partition=number,
                    next_offset=10 * self._taken,
                    size_bytes=3_000,
                    new_bytes=1_000,
                )
                for number in range(shards)
            ),
        )
        self.views[view.snapshot_id] = view
        return view

    def list(self, agent: str | None) -> Sequence[SnapshotView]:
        self._check()
        found = [view for view in self.views.values() if agent in (None, view.agent)]
        return sorted(found, key=lambda view: view.created_ms, reverse=True)

    def get(self, snapshot_id: str) -> SnapshotView:
        self._check()
        if snapshot_id in self.expired:
            text = f"snapshot {snapshot_id} was removed with its age"
            raise NotFoundError("snapshot_expired", text, snapshot=snapshot_id)
        if snapshot_id not in self.views:
            text = f"there is no snapshot {snapshot_id}"
            raise NotFoundError("unknown_snapshot", text, snapshot=snapshot_id)
        return self.views[snapshot_id]

    async def pin(self, snapshot_id: str, *, pinned: bool) -> SnapshotView:
        self.views[snapshot_id] = replace(self.get(snapshot_id), pinned=pinned)
        return self.views[snapshot_id]

    async def delete(self, snapshot_id: str) -> None:
        self.get(snapshot_id)
        if self.in_use(snapshot_id):
            text = f"a rollback to {snapshot_id} is under way; wait until it is done"
            raise ConflictError("snapshot_in_use", text, snapshot=snapshot_id)
        del self.views[snapshot_id]


class Done:
    """Implements `ports.Rollbacks`. With `slow`, a partition is done each time somebody looks."""

    def __init__(self, check: Check, kept: Kept) -> None:
        self.views: dict[str, RollbackView] = {}
        self.changed = 40  # keys, for all that a preview finds
        self.slow = False
        self.lost = False  # what is begun is not answered
        self.stuck = False  # whatever is slow does not go on
        self.log_start = 0  # of both partitions: what retention has left
        self.shared: set[str] = set()  # agents whose keys share one model
        self.asked: list[RollbackRequest] = []  # what was rolled back, and previewed
        self.ids: list[str | None] = []  # that callers gave what they asked for
        self.unseen: RequestError | OtherBuildError | None = None  # raised by previews
        self.compared = 200  # decisions, by a preview
        self.earlier = 0  # of what a preview leaves out
        self.note = ""  # of a preview
        self.fates = (0, 0)  # withdrawn and reinstated at most, by a preview
        self._check = check
        self._kept = kept
        kept.in_use = self._stands_on

    async def preview(self, request: RollbackRequest) -> RollbackPreview:
        goal = self._goal(request)
        if self.unseen is not None:
            raise self.unseen
        self.asked.append(request)
        back = sum(90 - shard.next_offset for shard in goal.shards)
        f1 = MetricChange(name="F1", now=0.5, then=0.75, bigger_is_better=True, events=120)
        return RollbackPreview(
            agent=request.agent,
            mode=request.mode,
            snapshot_id=goal.snapshot_id,
            events_back=back,
            events_excluded=7 if request.exclude else 0,
            events_excluded_earlier=self.earlier,
            keys_changed=len(request.keys) or self.changed,
            keys_total=1_000,
            decisions_compared=self.compared,
            decisions_flipped=min(self.compared, 31),
            metrics=(f1,),
            note=self.note,
            imported=goal.imported,
            withdrawn_most=self.fates[0],
            reinstated_most=self.fates[1],
        )

    async def rollback(
        self, request: RollbackRequest, request_id: str | None = None
    ) -> RollbackView:
        self.ids.append(request_id)
        goal = self._goal(request)
        self._check_alone(request.agent)
        self.asked.append(request)
        return self._begin(request, goal.snapshot_id)

    async def undo(
        self, agent: str, control_id: str | None, request_id: str | None = None
    ) -> RollbackView:
        self.ids.append(request_id)
        self._check(agent)
        self._check_alone(agent)
        for view in self.list(agent):
            stands = not view.undone_by and view.failed + view.left < view.partitions
            last = not view.undoes and stands
            if view.control_id == control_id or (control_id is None and last):
                request = RollbackRequest(agent=agent, keys=view.keys)
                return self._begin(request, view.undo_snapshot_id, undone=view)
        text = f"{agent} has no rollback {control_id or 'to take back'}"
        raise NotFoundError("unknown_rollback", text, rollback=control_id or "")

    def get(self, control_id: str) -> RollbackView:
        self._check()
        if control_id not in self.views:
            text = f"there is no rollback {control_id}"
            raise NotFoundError("unknown_rollback", text, rollback=control_id)
        agent = self.views[control_id].agent
        seen = next(view for view in self.list(agent) if view.control_id == control_id)
        if not seen.done and not self.stuck:
            self.views[control_id] = replace(seen, positions=_counts(len(seen.positions) + 1))
        return seen

    def list(self, agent: str) -> Sequence[RollbackView]:
        self._check()
        undone: dict[str, str] = {}
        views = []
        for view in reversed(self.views.values()):
            if view.agent == agent:
                undone_by = undone.get(view.control_id, "")
                if not undone_by and not view.failed and view.left < view.partitions:
                    undone[view.undoes] = view.control_id
                views.append(replace(view, undone_by=undone_by))
        return views

    def _begin(
        self, request: RollbackRequest, goal: str, undone: RollbackView | None = None
    ) -> RollbackView:
        number = len(self.views) + 1
        left = 0 if undone is None else self._left(undone)
        undo = self._kept.take(request.agent, f"undo-r{number}", "undo")
        view = RollbackView(
            control_id=(self.lost and self.ids[-1]) or f"r{number}",
            agent=request.agent,
            mode=request.mode,
            snapshot_id=goal,
            undo_snapshot_id=undo.snapshot_id,
            undoes=undone.control_id if undone else "",
            keys=request.keys,
            epoch=3 + number,
            partitions=PARTITIONS,
            positions=_counts(0 if self.slow else PARTITIONS),
            note=f"there was nothing to take back in {counted(left, 'partition')}" if left else "",
            left=left,
            asked_ms=1_764_000_000_000 + number,
        )
        self.views[view.control_id] = view
        if self.lost:
            raise UnavailableError("broker_away", "it did not answer in time")
        return view

    def _left(self, undone: RollbackView) -> int:
        """In how many partitions it does not hold: not done there, or taken back there already."""
        undos = [each for each in self.list(undone.agent) if each.undoes == undone.control_id]
        back = [u.partitions - u.failed - u.left for u in undos if not u.undone_by]
        return min(undone.failed + undone.left + sum(back), undone.partitions)

    def _check_alone(self, agent: str) -> None:
        running = [view for view in self.list(agent) if not view.done]
        if running:
            text = f"rollback {running[0].control_id} is not done yet; wait for it"
            raise ConflictError("rollback_running", text, rollback=running[0].control_id)

    def _goal(self, request: RollbackRequest) -> SnapshotView:
        """The snapshot that is meant, if it can be used."""
        self._check(request.agent)
        if request.keys and request.agent in self.shared:
            raise ConflictError("not_per_key", "all keys share one model", agent=request.agent)
        goal = self._meant(request)
        at = goal.snapshot_id
        if goal.agent != request.agent:
            raise RequestError("invalid_request", f"{at} is of another agent", snapshot=at)
        if not goal.complete:
            text = f"{len(goal.shards)} of {goal.partitions} partitions are in {at}"
            raise ConflictError("snapshot_incomplete", text, snapshot=at)
        if goal.spec_digest != "d" * 64:
            raise ConflictError("spec_mismatch", f"{at} is of another spec", snapshot=at)
        if at in self._kept.foreign:
            raise ConflictError("other_build", f"{at} is of another River", snapshot=at)
        if at in self._kept.damaged:
            raise RequestError("snapshot_damaged", f"{at} is damaged", snapshot=at)
        oldest = min(shard.next_offset for shard in goal.shards)
        if request.mode == "rewind" and oldest < self.log_start:
            text = f"the log reaches back to offset {self.log_start}, and {at} needs {oldest}"
            raise ConflictError("log_too_short", text, snapshot=at)
        return goal

    def _meant(self, request: RollbackRequest) -> SnapshotView:
        if request.snapshot_id is not None:
            return self._kept.get(request.snapshot_id)
        assert request.before_ms is not None
        for view in self._kept.list(request.agent):
            if view.created_ms < request.before_ms and view.complete and view.kind != "undo":
                return view
        text = f"{request.agent} has no complete snapshot from before that"
        raise NotFoundError("unknown_snapshot", text, agent=request.agent)

    def _stands_on(self, snapshot_id: str) -> bool:
        running = [view for view in self.views.values() if not view.done]
        return any(view.snapshot_id == snapshot_id for view in running)


def _counts(partitions: int) -> tuple[Position, ...]:
    """Where it counts, in the partitions that have done it."""
    return tuple(Position("transactions", number, 90) for number in range(partitions))
