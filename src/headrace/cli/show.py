"""How results are shown to people."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.markup import escape as escape_markup

from headrace.cli.console import Console, as_yaml, grid, say
from headrace.cli.metric import baseline, measured
from headrace.cli.program import program
from headrace.counts import HAVE, counted
from headrace.views import (
    AgentView,
    Answer,
    DryRun,
    Effect,
    KeyView,
    Position,
    ShardView,
    Standing,
)

POSITIONS_SHOWN = 3  # of a command's effect
VALUE_SHOWN = 160  # characters of a quarantined event
KEY_SHOWN = 64  # characters of its key
REASON_SHOWN = 120  # characters of a reason in a dry run


def escape(text: str) -> str:
    """Text from outside as markup: it may not colour the terminal or move its cursor.

    >>> escape("two" + chr(10) + "lines, " + chr(27) + "[31mred")
    'two·lines, ·[31mred'
    """
    return escape_markup("".join(char if char.isprintable() else "·" for char in text))


def effect(done: Effect, verb: str) -> None:
    """What a command to an agent came to, and from where on."""
    if not done.changed:
        say(f"[bold]{done.agent}[/]: {escape(done.note or 'nothing to change')}")
        return
    lives = f"spec version {done.spec_version}, epoch {done.epoch}"
    say(f"[green]{verb}[/] [bold]{done.agent}[/] ({lives})")
    if done.positions:
        shown = ", ".join(map(place, done.positions[:POSITIONS_SHOWN]))
        others = len(done.positions) - POSITIONS_SHOWN
        say(f"  takes effect at {shown}" + (f" and {others} more" if others > 0 else ""))
    if done.note:
        say(f"  [yellow]note[/]: {escape(done.note)}")


def dry_run(found: DryRun) -> None:
    """«of the last 200 records 187 would be accepted; 13 refused:», then why, one reason a line."""
    if not found.read:
        if found.note:
            say(escape(found.note))
        say("nothing could be tried; the spec itself is good")
        return
    refused = found.read - found.accepted
    say(
        f"of the last {counted(found.read, 'record')} "
        f"[green]{found.accepted:,} would be accepted[/]; "
        + (f"[red]{refused:,} refused[/]:" if refused else "none refused")
    )
    for reason in found.refused:
        where = ", ".join(place(position) for position in reason.examples)
        said = f"{reason.count:,} × {escape(_clipped(reason.text, REASON_SHOWN))}"
        say(f"  {said} [dim]({escape(reason.code)}; {where})[/]")
    if found.note:
        say(f"[yellow]note[/]: {escape(found.note)}")


def agents(views: Sequence[AgentView]) -> None:
    """One line for each agent."""
    if not views:
        say(f"no agents yet; deploy one with `{escape(program())} deploy FILE`")
        return
    unlabelled = any(shard.unlabelled for view in views for shard in view.shards)
    grid(
        (
            *("agent", "state", ">learned", *_counted(unlabelled=unlabelled)),
            *(">lag", ">keys in memory", "metric", "baseline"),
        ),
        [_line(view, unlabelled=unlabelled) for view in views],
    )
    for view in views:
        for note in (view.note, _full(view), _lost(view)):
            if note:
                say(f"[bold]{view.name}[/]: {escape(note)}")


def agent(view: AgentView) -> None:
    """One agent: its line, its partitions, its spec."""
    agents([view])
    unlabelled = any(shard.unlabelled for shard in view.shards)
    counted = _counted(unlabelled=unlabelled)
    grid(
        ("partition", ">next", ">durable", ">end", ">accepted", ">learned", *counted),
        [
            (
                _partition(shard.topic, shard.partition),
                f"{shard.next_offset:,}",
                f"{shard.durable_offset:,}",
                "?" if shard.end_offset is None else f"{shard.end_offset:,}",
                f"{shard.accepted:,}",
                f"{shard.learned:,}",
                *_counts((shard,), unlabelled=unlabelled),
            )
            for shard in view.shards
        ],
    )
    former = range(view.first_spec_version, view.spec_version)
    if former:
        command = f"{program()} agents {view.name} --spec {former[-1]}"
        numbers = f"version {former[0]}" if len(former) == 1 else f"{former[0]} to {former[-1]}"
        say(f"former spec {escape(numbers)}: see `{escape(command)}`")
    say(
        f"spec version {view.spec_version}, epoch {view.epoch}, digest {view.digest[:16]}; "
        "the spec with every default:"
    )
    as_yaml(view.spec)


def doomed(view: AgentView, snapshots: int, on: Console) -> None:
    """What goes when the agent is deleted, and what stays; of that, what is of no use any more."""
    events = sum(shard.learned for shard in view.shards)
    topics = sorted({shard.topic for shard in view.shards} | _emits(view.spec))
    name = escape(view.name)
    rows = [
        ("goes", f"what {counted(events, 'event', HAVE)} taught, spec version {view.spec_version}"),
        ("stays", f"the topics {escape(', '.join(topics))}"),
    ]
    if snapshots:
        them = "it" if snapshots == 1 else "them"
        lost = f"{counted(snapshots, 'snapshot')}, but no later deploy can go back to {them}"
        rows.append(("stays", f"{lost}; a named one comes back if it is exported and imported"))
    grid((f"delete {name}", ""), rows, on=on)


def _emits(spec: Mapping[str, Any]) -> set[str]:
    topic = spec.get("emit", {}).get("topic")
    return {topic} if topic else set()


def answer(given: Answer, *, past: bool = False) -> None:
    """A prediction, and the state that it comes from; `past`: one that was."""
    at = given.standing
    rows: list[tuple[str, str]] = []
    if given.decision is not None:
        rows.append(("decision", f"[bold]{escape(given.decision)}[/]"))
    if given.value is not None:
        rows.append(("value", f"{given.value:.6g}"))
    if given.score is not None:
        rows.append(("score", f"{given.score:.6g}"))
    if given.label is not None:
        rows.append(("class", escape(given.label)))
    rows += [
        (f"{number}.", f"{escape(item.item)}  [dim]{item.score:.4f}[/]")
        for number, item in enumerate(given.items, 1)
    ]
    for name, value in rows:
        say(f"{name:<9} {value}")
    cold = "; [yellow]COLD: this key has not learned yet[/]" if at.cold else ""
    where = _partition(at.topic, at.partition) + f" offset {at.offset:,}"
    say(
        f"[dim]{at.agent} spec version {at.spec_version}, epoch {at.epoch}, {where}, "
        f"{counted(at.updates, 'update')}; {as_it_was(at) if past else staleness(at)}[/]{cold}"
    )


def staleness(at: Standing) -> str:
    """How stale the state may be, in words.

    >>> from msgspec.structs import replace
    >>> at = Standing(
    ...     agent="a", spec_version=1, epoch=1, partition=0, offset=7, cold=False, updates=2
    ... )
    >>> staleness(at), staleness(replace(at, behind=3, heard_ms=40))
    ('where the log ends is not known yet', 'lacked 3 records of the log 0.04 s ago')
    """
    if at.behind is None or at.heard_ms is None:
        return "where the log ends is not known yet"
    lacks = f"lacked {counted(at.behind, 'record of the log')}"
    return f"{lacks if at.behind else 'had all of the log'} {at.heard_ms / 1000:,.3g} s ago"


def as_it_was(at: Standing) -> str:
    """What has come since a state of the past, in words.

    >>> at = Standing(
    ...     agent="a", spec_version=1, epoch=1, partition=0, offset=7, behind=1, cold=False,
    ...     updates=2,
    ... )
    >>> as_it_was(at)
    'as it was; 1 record has come since'
    >>> from msgspec.structs import replace
    >>> as_it_was(replace(at, imported=True))
    'imported: epoch and offset are those of the log that it comes from'
    """
    if at.imported:
        return "imported: epoch and offset are those of the log that it comes from"
    if at.behind is None:
        return "as it was"
    return f"as it was; {counted(at.behind, 'record', HAVE)} come since"


def key(view: KeyView) -> None:
    """One key, then its model."""
    at = view.standing
    learned = "never" if view.last_learned_ms is None else moment(view.last_learned_ms)
    for name, value in (
        ("key", f"[bold]{escape(view.key)}[/]"),
        ("updates", f"{at.updates:,}" + (" [yellow](cold)[/]" if at.cold else "")),
        ("last learned", f"{learned} (log time)"),
        ("size", f"{view.size_bytes:,} bytes"),
        ("digest", view.digest[:16]),
        ("pending", f"{counted(view.pending_labels, 'label')} waited for"),
        ("state", f"epoch {at.epoch}, {_partition(at.topic, at.partition)} offset {at.offset:,}"),
        ("stale", staleness(at)),
    ):
        say(f"{name:<13} {value}")
    as_yaml(view.model)


def decision(record: Mapping[str, Any]) -> str:
    """A decision record in one line, under its id, which says where its event is, too."""
    said = [escape(str(record["decision"]))]
    if record.get("score") is not None:
        said.append(f"score {record['score']:.4g}")
    if record.get("value") is not None:
        said.append(f"value {record['value']:.4g}")
    if record.get("items"):
        said.append("items " + ", ".join(escape(item["item"]) for item in record["items"]))
    cold = " [yellow]cold[/]" if record.get("cold") else ""
    return (
        f"[dim]{escape(record['id'])}[/] [bold]{escape(record['key'])}[/] {'; '.join(said)}{cold}"
    )


def fated(record: Mapping[str, Any]) -> str:
    """What a rollback did to a decision, in one line; that it is told of all of them, too."""
    by = f"(epoch {record['epoch']}, control id {escape(record['control_id'])})"
    if record["fate"] == "complete":
        at = place(msgspec.convert(record["position"], Position))
        counts = f"{record['withdrawn']:,} withdrawn, {record['reinstated']:,} reinstated"
        return f"[dim]{at} complete: {counts} {by}[/]"
    return f"[bold]{escape(record['decision'])}[/] {escape(record['fate'])} [dim]{by}[/]"


def quarantined(record: Mapping[str, Any]) -> str:
    """A refused event in two lines: why, and what it was."""
    at = place(msgspec.convert(record["position"], Position))
    path = f" {escape(record['path'])}" if record.get("path") else ""
    key = _original(record.get("key"), "(none)", KEY_SHOWN)
    value = _original(record["value"], "(no value)", VALUE_SHOWN)
    return (
        f"[dim]{at}[/] [bold]{record['agent']}[/] [red]{record['reason']}[/]{path}: "
        f"{escape(record['text'])}\n    [dim]key {escape(key)}, value {escape(value)}[/]"
    )


def place(at: Position) -> str:
    """`topic[partition]@offset`, as markup."""
    return f"{_partition(at.topic, at.partition)}@{at.offset}"


def moment(ms: int, timespec: str = "milliseconds") -> str:
    """Milliseconds since 1970 as a date and a time in UTC; years that no calendar has as they are.

    >>> moment(1_700_000_000_123), moment(10**17)
    ('2023-11-14T22:13:20.123Z', '100000000000000000 ms')
    """
    try:
        text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec=timespec)
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
    return text.replace("+00:00", "Z")


def _partition(topic: str, partition: int) -> str:
    return escape(f"{topic}[{partition}]")


def _counted(*, unlabelled: bool) -> tuple[str, ...]:
    """The columns of events that taught nothing; those without a label only where there are any."""
    return (">unlabelled", ">refused") if unlabelled else (">refused",)


def _counts(shards: Sequence[ShardView], *, unlabelled: bool) -> tuple[str, ...]:
    refused = f"{sum(shard.quarantined for shard in shards):,}"
    without = f"{sum(shard.unlabelled for shard in shards):,}"
    return (without, refused) if unlabelled else (refused,)


def _line(view: AgentView, *, unlabelled: bool) -> tuple[str, ...]:
    state = {"running": "green", "failed": "red"}.get(view.state, "yellow")
    return (
        f"[bold]{view.name}[/]",
        f"[{state}]{view.state}[/]",
        f"{sum(shard.learned for shard in view.shards):,}",
        *_counts(view.shards, unlabelled=unlabelled),
        f"{sum(lag(shard) for shard in view.shards):,}",
        f"{sum(shard.keys_hot for shard in view.shards):,}",
        "\n".join(measured(metric) for metric in view.metrics) or "–",
        "\n".join(baseline(metric) for metric in view.metrics) or "–",
    )


def _full(view: AgentView) -> str:
    """That keys have stopped learning, which no column tells."""
    count = sum(shard.keys_full for shard in view.shards)
    most = view.spec.get("state", {}).get("row_bytes_max", 0)
    what = "1 key learns" if count == 1 else f"{count:,} keys learn"
    return f"{what} no more: larger than {most:,} bytes (state.row_bytes_max)" if count else ""


def _lost(view: AgentView) -> str:
    count = sum(shard.labels_lost for shard in view.shards)
    most = view.spec.get("state", {}).get("pending_max", 0)
    return (
        f"{count:,} waiting {'label was' if count == 1 else 'labels were'} dropped: "
        f"{most:,} a key (state.pending_max)"
        if count
        else ""
    )


def lag(shard: ShardView) -> int:
    """How many records a shard is behind, as far as is known."""
    return max((shard.end_offset or 0) - shard.next_offset, 0)


def _original(value: str | None, absent: str, shown: int) -> str:
    """What the base64 stands for, as text."""
    if value is None:
        return absent
    try:
        text = base64.b64decode(value).decode(errors="replace")
    except binascii.Error:
        return "(cannot be shown)"
    return _clipped(text, shown)


def _clipped(text: str, shown: int) -> str:
    return text if len(text) <= shown else text[:shown] + "…"
