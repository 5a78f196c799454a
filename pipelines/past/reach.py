"""Which states can be asked for: told to somebody who asked for one that cannot."""

from __future__ import annotations

from datetime import UTC, datetime

from headrace.errors import RequestError
from headrace.pipelines.past.timeline import Timeline
from headrace.pipelines.reader import Logs
from headrace.ports import Record

IDS_NAMED = 3
"""Snapshots of which the id is told; there may be hundreds."""
SKEW_MS = 60_000
"""How far the clock of whoever asks may be ahead of ours."""


async def reach(timeline: Timeline, logs: Logs, here: int, deployed_ms: int | None = None) -> str:
    """From where to where the states reach that can be made, and which snapshots there are beside.

    What is named can be made unless too many events lie in between. `here`: the shard's next
    offset; `deployed_ms`: when the agent was deployed, if that is known. Raises UnavailableError.
    """
    partition = timeline.partition
    log = await logs.span(partition)
    starts = timeline.starts(here)
    within = [start.next_offset for start in starts if start.next_offset >= log.begin]
    ids = [s.vouched.snapshot_id for s in starts if s.vouched is not None]
    where = f"{partition.topic}[{partition.partition}]"
    if not within:
        said = [f"no offset can be asked for: the log of {where} begins at {log.begin}"]
    else:
        lowest = min(within)
        said = [f"what can be asked for are offsets {lowest} to {here} of {where}"]
        first = last = None
        if here > lowest:
            first = await logs.record_at(partition, lowest)
            last = await logs.record_at(partition, here - 1)
        since = earliest(first, deployed_ms if lowest == timeline.began else None)
        if since is not None:
            said[0] += f", times from {named(since)} on"
        if last is not None:
            said[0] += f" (its last one is of {named(last.timestamp)})"
    if ids:
        more = f" and {len(ids) - IDS_NAMED} more" if len(ids) > IDS_NAMED else ""
        said.append(f"the snapshots {', '.join(ids[:IDS_NAMED])}{more}")
    return ", and ".join(said)


def earliest(first: Record | None, deployed_ms: int | None) -> int | None:
    """From when on there is a state: the deploy, or the first event if that is older."""
    times = [] if first is None else [first.timestamp]
    return min([*times, *([] if deployed_ms is None else [deployed_ms])], default=None)


def check_past(time_ms: int, now_ms: int) -> None:
    """Raises RequestError `out_of_range` for a time to come."""
    if time_ms > now_ms + SKEW_MS:
        text = f"{named(time_ms)} is not past: here it is {named(now_ms)}"
        raise RequestError("out_of_range", text)


def named(ms: int) -> str:
    """A time as people write it; a year that no calendar has as it is.

    >>> named(1_700_000_000_123), named(10**17)
    ('2023-11-14T22:13:20Z', '100000000000000000 ms')
    """
    try:
        text = datetime.fromtimestamp(ms // 1000, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
    return text.replace("+00:00", "Z")
