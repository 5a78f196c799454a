"""Sending events to an agent's input log: one by hand, or a file of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from headrace.cli import show
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.failure import FAILED
from headrace.cli.show import escape
from headrace.clock import SystemClock
from headrace.counts import WERE, counted
from headrace.errors import RequestError, UnavailableError
from headrace.views import Position

if TYPE_CHECKING:
    from headrace.models.event_file import EventFile
    from headrace.serving.client import Client

REFUSALS_SHOWN = 10
PARTITIONS_SHOWN = 3
UNSURE = ("deadline", "no_worker", "cancelled", "internal")
"""Codes of a call that leave open whether the worker did what was asked."""


class Line(msgspec.Struct, frozen=True):
    """An event of a file, and on which line it begins."""

    number: int
    key: str
    event: bytes


class Refused(msgspec.Struct, frozen=True):
    """A line that was not appended, and why."""

    line: int
    code: str
    text: str


class Sent(msgspec.Struct):
    """What has come of a file so far."""

    accepted: int = 0
    refused: int = 0
    upto_line: int = 0  # of the last event that was answered for
    unsure: str = ""  # which lines may be in the log or not
    behind_line: int = 0  # the last of these
    seconds: float = 0.0
    first: list[Position] = []  # by partition
    last: list[Position] = []
    refusals: list[Refused] = []  # the first ones

    def add(self, at: Position) -> None:
        """An event that is in the log there."""
        self.accepted += 1
        for number, last in enumerate(self.last):
            if (last.topic, last.partition) == (at.topic, at.partition):
                self.last[number] = at
                return
        self.first.append(at)
        self.last.append(at)


def send(
    agent: str = Agent,
    key: str | None = typer.Argument(
        None,
        metavar="[KEY]",
        help="The key: a user, card or machine. With --from it is read from each event, where the "
        "spec's `source.key` says.",
        show_default=False,
    ),
    event: str | None = typer.Argument(
        None,
        metavar="[EVENT]",
        help="The whole event as JSON, its label in it; `-` reads it from standard input.",
        show_default=False,
    ),
    file: str | None = typer.Option(
        None,
        "--from",
        metavar="FILE",
        help="Many events: .csv, .jsonl or .jsonl.gz; `-` reads JSON lines from standard input.",
        show_default=False,
    ),
    skip: int = typer.Option(
        0, min=0, metavar="LINES", help="With --from: begin behind so many lines of the file."
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Append events to an agent's input log, which it learns from: one by hand, or a file of them.

    A line that the agent would quarantine is not appended; it is told with its number, and the
    others are (exit code 1). If the worker or the broker goes away, it stops, and says how many
    events were accepted, which may be in the log or not, and how to go on. It sends nothing twice
    by itself. A file goes in pieces of 500 events, each when the log has the one before:
    `headrace send card-fraud --from payments.csv`.

    Changes the agent's input log, and by that what every agent learns that reads it.

    Example: `headrace send card-fraud 4711 '{"card_id": "4711", "at": "2026-03-01T14:07:00Z",
    "amount": 12.5, "hour": 14, "merchant": "grocer", "fraud": false}'`
    """
    if (file is None) == (event is None):
        raise RequestError("invalid_request", "name a KEY and an EVENT, or --from FILE")
    if file is not None:
        with connect(address) as client:
            _send_file(client, agent, key, file, skip, json=json)
        return
    assert key is not None
    assert event is not None
    data = sys.stdin.buffer.read() if event == "-" else event.encode()
    with connect(address) as client:
        at = client.submit_feedback(agent, key=key, event=data)
    as_json(at) if json else say(f"appended at {show.place(at)}")


def _send_file(
    client: Client, agent: str, key: str | None, file: str, skip: int, *, json: bool
) -> None:
    """Raises typer.Exit if an event was refused, RequestError where it stops."""
    spec = client.agent(agent).spec
    with waiting("loading models"):
        from headrace.models.event_file import EventFile
        from headrace.models.spec import load_spec

        checked = load_spec(msgspec.json.encode(spec))
    events = EventFile(checked, sys.stdin.buffer if file == "-" else Path(file))
    sent, clock = Sent(), SystemClock()
    began = clock.monotonic()
    lines = _lines(events, key, skip)
    total = events.expected() if file != "-" and not skip else None
    try:
        with _progress(agent, total) as (progress, task):
            for piece in _pieces(lines):
                _send_piece(client, agent, piece, sent, json=json)
                progress.update(task, completed=sent.accepted + sent.refused)
    except RequestError as error:
        raise _stopped(error, sent) from None
    except KeyboardInterrupt:
        err.print(f"interrupted: {_so_far(sent)}", soft_wrap=True, markup=False)
        raise
    sent.seconds = clock.monotonic() - began
    as_json(sent) if json else _show(agent, sent)
    if sent.refused:
        raise typer.Exit(FAILED)


def _lines(events: EventFile, key: str | None, skip: int) -> Iterator[Line]:
    for number, row in events.numbered():
        if number > skip:
            own = (row.key or b"").decode("utf-8", "replace")
            yield Line(number, own if key is None else key, row.value or b"")


def _pieces(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """As many as one call takes."""
    from headrace.serving.calls import BATCH_BYTES, BATCH_ROWS

    piece: list[Line] = []
    size = 0
    try:
        for line in lines:
            if piece and (len(piece) == BATCH_ROWS or size + len(line.event) > BATCH_BYTES):
                yield piece
                piece, size = [], 0
            piece.append(line)
            size += len(line.event)
    except RequestError:
        if piece:
            yield piece  # what can be read of the file is sent
        raise
    if piece:
        yield piece


def _send_piece(client: Client, agent: str, piece: list[Line], sent: Sent, *, json: bool) -> None:
    """One call. Raises RequestError."""
    between = f"lines {piece[0].number:,} to {piece[-1].number:,}"
    events = [(line.key, line.event) for line in piece]
    sent.behind_line, sent.unsure = piece[-1].number, f"{between} may be in the log or not"
    try:
        outcomes = list(client.submit_many(agent, events))
    except RequestError as error:
        if error.code not in UNSURE:
            sent.unsure = ""
        raise
    away: UnavailableError | None = None
    for line, outcome in zip(piece, outcomes, strict=True):
        if isinstance(outcome, Position):
            sent.add(outcome)
        elif isinstance(outcome, UnavailableError):
            away = outcome
        else:
            _refuse(line, outcome, sent, quiet=json)
    if away is not None:
        sent.unsure = f"of {between} those that are not accepted may be in the log or not"
        raise away
    sent.upto_line, sent.unsure = piece[-1].number, ""


def _refuse(line: Line, error: Exception, sent: Sent, *, quiet: bool) -> None:
    sent.refused += 1
    if sent.refused > REFUSALS_SHOWN:
        return
    paths = [violation.path for violation in getattr(error, "violations", ())]
    where = f"{paths[0]}: " if paths and paths[0] else ""  # what is no JSON has no place in it
    code = str(getattr(error, "context", {}).get("reason") or getattr(error, "code", ""))
    sent.refusals.append(Refused(line.number, code, f"{where}{error}"))
    if not quiet:
        said = f"[bold red]refused:[/] line {line.number:,}: {escape(where + str(error))}"
        err.print(said, soft_wrap=True)


def _stopped(error: RequestError, sent: Sent) -> RequestError:
    """The same error, with what was accepted and how to go on."""
    if not (sent.upto_line or sent.accepted or sent.unsure):
        return error
    return RequestError(error.code, f"{error}; {_so_far(sent)}")


def _so_far(sent: Sent) -> str:
    said = f"{counted(sent.accepted, 'event', WERE)} accepted"
    said += f", up to line {sent.upto_line:,}" if sent.upto_line else ""
    if not sent.unsure:
        return f"{said}; --skip {sent.upto_line} goes on from there"
    return (
        f"{said}; {sent.unsure}: --skip {sent.upto_line} sends them again, and what of them is "
        f"there counts twice; --skip {sent.behind_line} goes on behind them"
    )


def _show(agent: str, sent: Sent) -> None:
    all_of_them = sent.accepted + sent.refused
    rate = all_of_them / max(sent.seconds, 1e-3)
    took = f"in {sent.seconds:.1f} s ({rate:,.0f} a second)"
    of = counted(all_of_them, "event")
    say(f"sent {sent.accepted:,} of {of} to [bold]{escape(agent)}[/] {took}")
    pairs = list(zip(sent.first, sent.last, strict=True))
    for first, last in pairs[:PARTITIONS_SHOWN]:
        say(f"  appended from {show.place(first)} to {show.place(last)}")
    if len(pairs) > PARTITIONS_SHOWN:
        say(f"  and in {counted(len(pairs) - PARTITIONS_SHOWN, 'partition')} more")
    if sent.refused > REFUSALS_SHOWN:
        say(f"  [red]{sent.refused:,} were refused[/]; the first {REFUSALS_SHOWN} are told above")


@contextmanager
def _progress(agent: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield progress, progress.add_task(agent, total=total)


class Rate(ProgressColumn):
    """Events a second, as soon as it is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} a second")
