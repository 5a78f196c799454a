"""How snapshots and rollbacks are shown to people."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec
from rich.filesize import decimal

from headrace.cli.console import Console, grid, out, say
from headrace.cli.following import somewhere
from headrace.cli.program import program
from headrace.cli.show import escape, moment, place
from headrace.counts import counted
from headrace.views import (
    Exclusion,
    MetricChange,
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotDiff,
    SnapshotShard,
    SnapshotView,
)

KEYS_SHOWN = 3  # of a rollback's
POSITIONS_SHOWN = 3
ROW_KINDS = {"key": "keys", "user": "users", "item": "items", "shard": "rows of shards as a whole"}


def plain(view: SnapshotView | RollbackView) -> dict[str, object]:
    """For JSON: its fields, and whether all partitions are in it."""
    fields: dict[str, object] = msgspec.to_builtins(view)
    if isinstance(view, SnapshotView):
        return {**fields, "complete": view.complete}
    return {**fields, "done": view.done}


def snapshots(
    views: Sequence[SnapshotView], on: Console | None = None, gone: AbstractSet[str] = frozenset()
) -> None:
    """One line for each. `gone`: agents that are deployed no more."""
    if not views:
        say(f"no snapshots yet; make one with `{escape(program())} snapshot create AGENT NAME`")
        return
    grid(
        ("snapshot", "kind", "made", ">shards", ">size", ">new"),
        [
            (
                f"[bold]{escape(view.snapshot_id)}[/]",
                _kind(view, gone=view.agent in gone) + (", pinned" if view.pinned else ""),
                moment(view.created_ms, "seconds"),
                _part(len(view.shards), view.partitions),
                _size(view.shards),
                _new(view.shards),
            )
            for view in views
        ],
        on=on,
    )


def snapshot(view: SnapshotView) -> None:
    """One snapshot, then its partitions."""
    kept = {"automatic": "until it is thinned out with age", "undo": "to take a rollback back"}
    how_long = kept.get(view.kind, "until it is deleted")
    for name, value in (
        ("snapshot", f"[bold]{escape(view.snapshot_id)}[/]"),
        ("agent", escape(view.agent)),
        ("kind", _kind(view)),
        ("kept", "pinned: until it is deleted" if view.pinned else how_long),
        ("made", moment(view.created_ms)),
        ("state", f"spec version {view.spec_version}, epoch {view.epoch}"),
        ("spec", f"digest {view.spec_digest[:16]}"),
        ("partitions", _part(len(view.shards), view.partitions)),
        ("size", f"{_size(view.shards)}, {_new(view.shards)} of it new"),
    ):
        say(f"{name:<11} {value}")
    if not view.complete:
        say("[yellow]not complete yet: nothing can be rolled back to it[/]")
    if view.former:
        say("[yellow]the agent was deleted since: nothing can be rolled back to it[/]")
    if view.shards:
        grid(
            ("partition", ">next", ">size", ">new"),
            [
                (
                    escape(f"{shard.topic}[{shard.partition}]"),
                    f"{shard.next_offset:,}",
                    decimal(shard.size_bytes),
                    decimal(shard.new_bytes),
                )
                for shard in view.shards
            ],
        )


def diff(found: SnapshotDiff) -> None:
    """How many rows differ, by kind, then some of them."""
    later = found.later or "the state as it is now"
    say(f"from [bold]{escape(found.earlier)}[/] to [bold]{escape(later)}[/]")
    if found.counts:
        grid(
            ("", ">added", ">removed", ">changed"),
            [
                (
                    ROW_KINDS.get(each.kind, each.kind),
                    f"{each.added:,}",
                    f"{each.removed:,}",
                    f"{each.changed:,}",
                )
                for each in found.counts
            ],
        )
        grid(
            ("such as", "change", "partition"),
            [
                (f"{escape(row.kind)} {escape(row.name)}", row.how, str(row.partition))
                for row in found.first
            ],
        )
    else:
        say("nothing differs")
    if found.note:
        say(f"[yellow]note[/]: {escape(found.note)}")


def preview(found: RollbackPreview, wanted: RollbackRequest, on: Console | None = None) -> None:
    """What a rollback of one agent would change, one figure a line; `wanted` as it was asked."""
    whose = " (of all keys)" if wanted.keys else ""
    back = "not known (imported)" if found.imported else f"{found.events_back:,}{whose}"
    rows = [
        ("goes back to", f"[bold]{escape(found.snapshot_id)}[/]"),
        ("events since then", back),
        *(_learned_again(found, wanted.exclude) if found.mode == "rewind" else []),
        *_fates(found, whose),
        ("keys whose model changes", f"{found.keys_changed:,} of {found.keys_total:,}"),
        ("newest decisions that flip", _flipped(found)),
        *(
            (f"{m.name} of the newest {counted(m.events, 'event')}", _change(m))
            for m in found.metrics
        ),
    ]
    # A note on keys that were named begins with those that nobody knows: then all figures are of
    # a mistake.
    first = bool(wanted.keys)
    if found.note and first:
        (on or out).print(f"[bold yellow]note[/]: {escape(found.note)}", soft_wrap=True)
    grid((f"{found.mode} {escape(found.agent)}", ""), rows, on=on)
    if found.note and not first:
        (on or out).print(f"[yellow]note[/]: {escape(found.note)}", soft_wrap=True)


def _learned_again(found: RollbackPreview, exclude: Exclusion | None) -> list[tuple[str, str]]:
    """What becomes of the events since, in a rewind."""
    left_out, earlier = found.events_excluded, found.events_excluded_earlier
    by_whom = [
        ("- by what this rewind excludes", f"{left_out - earlier:,}"),
        ("- by earlier rewinds alone", f"{earlier:,}"),
    ]
    return [
        *_span(exclude),
        ("events left out", f"{left_out:,}"),
        *(by_whom if earlier else []),
        ("events learned again", f"{max(found.events_back - left_out, 0):,}"),
    ]


def _span(exclude: Exclusion | None) -> list[tuple[str, str]]:
    """The time that is left out, as it was read."""
    if exclude is None or (exclude.from_ms, exclude.to_ms) == (None, None):
        return []
    begin = "" if exclude.from_ms is None else f"from {moment(exclude.from_ms)} "
    end = "on" if exclude.to_ms is None else f"until before {moment(exclude.to_ms)}"
    return [("leaves out records", begin + end)]


def _fates(found: RollbackPreview, whose: str) -> list[tuple[str, str]]:
    """What becomes of decisions that were made; nothing of those of which nothing does."""
    see = f"(`{escape(program())} watch withdrawn`)"
    rows = (
        ("decisions withdrawn", found.withdrawn_most),
        ("decisions reinstated", found.reinstated_most),
    )
    return [(name, f"up to {most:,}{whose} {see}") for name, most in rows if most]


def previews(found: Sequence[RollbackPreview], on: Console | None = None) -> None:
    """What rollbacks of many agents would change, one agent a line."""
    if not found:
        return
    grid(
        (
            *("agent", "back to", ">events", ">left out", ">withdrawn"),
            *(">keys", ">flipped", "metric"),
        ),
        [
            (
                f"[bold]{escape(each.agent)}[/]",
                escape(each.snapshot_id),
                f"{each.events_back:,}",
                f"{each.events_excluded:,}",
                f"up to {each.withdrawn_most:,}",
                f"{each.keys_changed:,} of {each.keys_total:,}",
                _flipped(each),
                "\n".join(f"{metric.name} {_change(metric)}" for metric in each.metrics) or "–",
            )
            for each in found
        ],
        on=on,
    )
    for each in found:
        if each.note:
            (on or out).print(f"[bold]{escape(each.agent)}[/]: {escape(each.note)}", soft_wrap=True)


def rollback(view: RollbackView, address: str | None) -> None:
    """What was rolled back, from where on, and how to take it back; or what failed, and why."""
    agent, after = escape(view.agent), f" --address {escape(address)}" if address else ""
    nowhere = not somewhere(view)
    what = f"{escape(view.undoes)} of [bold]{agent}[/]" if view.undoes else f"[bold]{agent}[/]"
    lives = f"{view.mode}, epoch {view.epoch}"
    say(f"{_state(view)} {what}{_but_for_left(view)} to {escape(view.snapshot_id)} ({lives})")
    if view.keys and not nowhere:
        say(f"  keys {_keys(view)}; all other keys stay as they are")
    if nowhere:
        say(f"  {agent} goes on with the state that it had")
    elif view.positions:
        shown = ", ".join(map(place, view.positions[:POSITIONS_SHOWN]))
        others = len(view.positions) - POSITIONS_SHOWN
        say(f"  counts from {shown}" + (f" and {others} more" if others > 0 else ""))
    if view.note:
        say(f"  [yellow]note[/]: {escape(view.note)}")
    command = escape(program())
    if not view.done:
        part = _part(len(view.positions), view.partitions)
        say(f"  {part} partitions so far; it goes on: `{command} rollbacks {agent}{after}`")
    elif view.failed:
        say(f"  {_way_on(view, after)}")
    if not nowhere:
        undo = f"{command} undo {agent} {escape(view.control_id)}{after}"
        say(f"  to take it back: `{undo}`")


def _state(view: RollbackView) -> str:
    """What became of it, to begin a line with."""
    if not view.done:
        return "[yellow]on its way[/]:"
    if not somewhere(view):
        return "[bold red]could not be done[/]:"
    if view.failed:
        return f"[yellow]done{_in_how_many(view)}[/]:"
    return f"[green]{'took back' if view.undoes else 'rolled back'}[/]"


def _but_for_left(view: RollbackView) -> str:
    """Where it is a whole success, and yet not done in all partitions: in how many."""
    return _in_how_many(view) if view.done and view.left and not view.failed else ""


def _in_how_many(view: RollbackView) -> str:
    done = view.partitions - view.failed - view.left
    return f" in {done} of {counted(view.partitions, 'partition')}"


def _way_on(view: RollbackView, after: str) -> str:
    """What to do where some partition has failed. `after`: what a command must end with."""
    command, agent = escape(program()), escape(view.agent)
    if view.undoes:
        again = f"`{command} undo {agent} {escape(view.undoes)}{after}`"
        where = "; where it is done, that changes nothing" if somewhere(view) else ""
        return f"when that is mended, ask again: {again}{where}"
    others = f"`{command} snapshot ls {agent}{after}`"
    where = "those partitions go on as they were; " if somewhere(view) else ""
    return f"{where}mend that and ask again, or take another snapshot: {others}"


def rollbacks(views: Sequence[RollbackView]) -> None:
    """One line for each, newest first; which of them was taken back."""
    if not views:
        say("nothing was rolled back")
        return
    grid(
        (
            *("rollback", "asked", "mode", "back to", "keys"),
            *(">epoch", ">partitions", ">withdrawn", "note"),
        ),
        [
            (
                f"[bold]{escape(view.control_id)}[/]",
                moment(view.asked_ms, "seconds") if view.asked_ms else "–",
                view.mode,
                escape(view.snapshot_id),
                _keys(view) if view.keys else "all",
                str(view.epoch),
                _done_in(view),
                _withdrawn(view),
                _note(view),
            )
            for view in views
        ],
    )


def _kind(view: SnapshotView, *, gone: bool = False) -> str:
    """`gone`: its agent is deployed no more."""
    why = "no such agent now" if gone else "former life" if view.former else ""
    return ", ".join(filter(None, (view.kind, "imported" if view.imported else "", why)))


def _note(view: RollbackView) -> str:
    """What it takes back, what took it back, and what else there is to say."""
    said = [
        f"takes back {view.undoes}" if view.undoes else "",
        f"taken back by {view.undone_by}" if view.undone_by else "",
        view.note,
    ]
    return escape("; ".join(text for text in said if text))


def _withdrawn(view: RollbackView) -> str:
    """How many decisions it has withdrawn; with the partitions of which that is told so far."""
    text = f"{view.withdrawn:,}"
    if view.reinstated:
        text += f" (+{view.reinstated:,})"
    if view.published < view.partitions:
        text = f"[yellow]{text}, {view.published}/{view.partitions} published[/]"
    return text


def _done_in(view: RollbackView) -> str:
    """In how many of its partitions it is done, in how many it could not be, and in how many there
    was nothing to take back.
    """
    done = len(view.positions) - view.failed - view.left
    text = _part(done, view.partitions, short=done + view.left < view.partitions)
    if view.failed:
        text += f", [red]{view.failed} failed[/]"
    return f"{text}, {view.left} left" if view.left else text


def _part(there: int, all_of_them: int, *, short: bool | None = None) -> str:
    """`short`: whether more are to come, or should; None: unless all are there."""
    text = f"{there}/{all_of_them}"
    if short is None:
        short = there != all_of_them
    return f"[yellow]{text}[/]" if short else text


def _size(shards: Sequence[SnapshotShard]) -> str:
    return decimal(sum(shard.size_bytes for shard in shards))


def _new(shards: Sequence[SnapshotShard]) -> str:
    return decimal(sum(shard.new_bytes for shard in shards))


def _flipped(found: RollbackPreview) -> str:
    """How many of how many; none of none is no answer, and the note says why there is none."""
    if not found.decisions_compared:
        return "not compared"
    return f"{found.decisions_flipped:,} of {found.decisions_compared:,}"


def _change(metric: MetricChange) -> str:
    """From and to, green where it gets better, red where it gets worse."""
    text = f"{metric.now:.4f} → {metric.then:.4f}"
    if not metric.events:
        return "–"
    if metric.then == metric.now:
        return text
    better = (metric.then > metric.now) == metric.bigger_is_better
    return f"[{'green' if better else 'red'}]{text}[/]"


def _keys(view: RollbackView) -> str:
    """`a, b, c and 7 more`."""
    shown = ", ".join(escape(key) for key in view.keys[:KEYS_SHOWN])
    others = len(view.keys) - KEYS_SHOWN
    return shown + (f" and {others:,} more" if others > 0 else "")
