"""Which snapshots are no longer kept: automatic ones thin out with age, undos go after some days.

What a user named or pinned stays until a user says otherwise, as does what somebody needs now, and
the newest complete snapshot of each agent. Everything here depends on the views and the time only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from headrace.views import SnapshotView

NEWEST_KEPT = 10
"""Complete automatic snapshots of an agent that are kept whatever their age: those that were taken
last, and those of the newest states. By a clock that was set back these are not the same."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURLY_MS = DAY_MS
"""So long the first complete automatic snapshot of each hour is kept ..."""
DAILY_MS = 30 * DAY_MS
"""... and so long the first of each day."""
INCOMPLETE_MS = HOUR_MS
"""An automatic snapshot that is not complete by then will not be, unless it is the newest."""
UNDO_MS = 7 * DAY_MS
"""So long a rollback can be taken back."""


def expired(snapshots: Iterable[SnapshotView], now_ms: int, in_use: AbstractSet[str]) -> list[str]:
    """The ids of those that are to be removed at `now_ms`, oldest first.

    `in_use`: ids that are kept besides, such as the base of a rollback under way. Removing what is
    expired makes nothing else so, and what is expired once is so at any later time.

    >>> from headrace.views import SnapshotShard
    >>> def taken(minutes_ago, kind="automatic", complete=True):
    ...     shard = SnapshotShard(
    ...         topic="t", partition=0, next_offset=100_000 - minutes_ago, size_bytes=1,
    ...         new_bytes=1,
    ...     )
    ...     return SnapshotView(
    ...         snapshot_id=f"fraud.{kind}-{minutes_ago}", agent="fraud", kind=kind, epoch=1,
    ...         spec_version=1, spec_digest="5f", created_ms=DAY_MS - minutes_ago * 60_000,
    ...         partitions=1, shards=(shard,) if complete else (),
    ...     )
    >>> every_5_minutes = [taken(minutes) for minutes in range(0, 125, 5)]
    >>> [id.removeprefix("fraud.automatic-") for id in expired(every_5_minutes, DAY_MS, set())]
    ['115', '110', '105', '100', '95', '90', '85', '80', '75', '70', '65', '55', '50']

    The newest ten are from 0 to 45 minutes old, and 60 and 120 minutes ago an hour began. Of
    others only age and kind count:

    >>> incomplete = taken(70, complete=False)
    >>> others = [taken(100_000, "named"), taken(9_000, "undo"), incomplete, taken(0)]
    >>> expired(others, 2 * DAY_MS, set())
    ['fraud.undo-9000', 'fraud.automatic-70']
    >>> expired(others, 2 * DAY_MS, {"fraud.undo-9000"})
    ['fraud.automatic-70']
    """
    agents: dict[str, list[SnapshotView]] = defaultdict(list)
    for view in snapshots:
        agents[view.agent].append(view)
    gone = [
        view
        for of_agent in agents.values()
        for view in _gone(sorted(of_agent, key=_age), now_ms)
        if view.snapshot_id not in in_use and not view.pinned
    ]
    return [view.snapshot_id for view in sorted(gone, key=_age)]


def _gone(views: Sequence[SnapshotView], now_ms: int) -> list[SnapshotView]:
    """What age alone removes of the snapshots of one agent, which come oldest first."""
    automatic = [view for view in views if view.kind == "automatic"]
    complete = [view for view in automatic if view.complete]
    kept = {view.snapshot_id for view in complete[-NEWEST_KEPT:]}
    kept |= {view.snapshot_id for view in sorted(complete, key=_state)[-NEWEST_KEPT:]}
    kept |= {view.snapshot_id for view in automatic[-1:]}
    kept |= {view.snapshot_id for view in [view for view in views if view.complete][-1:]}
    # The first of a day is the first of its hour, so what stays for an hour can stay for its day.
    for every_ms, upto_ms in ((HOUR_MS, HOURLY_MS), (DAY_MS, DAILY_MS)):
        firsts = {view.created_ms // every_ms: view for view in reversed(complete)}
        kept |= {v.snapshot_id for v in firsts.values() if now_ms - v.created_ms <= upto_ms}
    return [
        view
        for view in views
        if view.snapshot_id not in kept and now_ms - view.created_ms > _least_ms(view)
    ]


def _least_ms(view: SnapshotView) -> float:
    """How old it gets in any case."""
    if view.kind == "automatic":
        return 0 if view.complete else INCOMPLETE_MS
    return UNDO_MS if view.kind == "undo" else float("inf")


def _state(view: SnapshotView) -> tuple[int, int, int, str]:
    return view.epoch, sum(shard.next_offset for shard in view.shards), *_age(view)


def _age(view: SnapshotView) -> tuple[int, str]:
    return view.created_ms, view.snapshot_id
