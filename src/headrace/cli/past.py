"""Asking states of the past, and making decisions again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from headrace.cli.client import Address, Json, connect
from headrace.cli.console import as_json, err, grid, say, waiting
from headrace.cli.failure import FAILED
from headrace.cli.moments import since_1970
from headrace.cli.show import escape
from headrace.errors import NotFoundError, RequestError
from headrace.views import AsOf, Verification

if TYPE_CHECKING:
    from headrace.serving.client import Client

OFFSET = "offset:"
COLOURS = {"confirmed": "green", "contradicted": "red", "unverifiable": "yellow"}
As = typer.Option(
    None,
    "--as-of",
    metavar="STATE",
    help="Ask what was: a snapshot's id, `offset:N`, or a TIME.",
    show_default=False,
)


def as_of(text: str | None, agent: str, now_s: float) -> AsOf | None:
    """Which state is meant: a snapshot's id begins with its agent, a time never does.

    >>> as_of("card-fraud.sale", "card-fraud", 0.0).snapshot_id
    'card-fraud.sale'
    >>> as_of("offset:41", "card-fraud", 0.0).offset, as_of("10m", "a", 1_000.0).time_ms
    (41, 400000)

    Raises RequestError.
    """
    if text is None:
        return None
    if text.startswith(f"{agent}."):
        return AsOf(snapshot_id=text)
    if text.startswith(OFFSET):
        number = text.removeprefix(OFFSET)
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise RequestError("invalid_request", f"{text!r} is not offset:N")
        return AsOf(offset=int(number))
    try:
        return AsOf(time_ms=since_1970(text, now_s))
    except RequestError:
        words = f"{text!r} is neither a snapshot of {agent}, nor offset:N, nor a time: give "
        words += f"{agent}.NAME, or 2026-03-01T14:07Z, or how long ago: 10m"
        meant = OFFSET if text.isdigit() else f"{agent}." if text[:1].isalpha() else ""
        words += f"; did you mean {meant}{text}?" if meant and "." not in text else ""
        raise RequestError("invalid_request", words) from None


def verify(
    decision: str = typer.Argument(
        help="A decision's id, or its record as JSON; `-` reads many, one a line.",
        show_default=False,
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Make a decision again from an older snapshot and the log, and compare.

    `confirmed`: the same comes of it. `contradicted`: something else does, and it says what.
    `unverifiable`: it cannot be made again, and it says why. By its id, the decision is read from
    its topic. It exits with 1 unless all are confirmed, and with 2 if `-` reads none. After `-` it
    says last how many there were of each; with `--json` on standard error.

    Changes nothing.

    Example: `headrace verify card-fraud/1/transactions/0/17`
    """
    many = decision == "-"
    asked = [line for line in sys.stdin if line.strip()] if many else [decision]
    if not asked:
        raise RequestError("invalid_request", "no record came in: nothing was verified")
    verdicts = dict.fromkeys(COLOURS, 0)
    with connect(address) as client:
        for number, text in enumerate(asked, 1):
            record = text if text.lstrip().startswith("{") else None
            with waiting(f"making {f'{number:,} of {len(asked):,}' if many else 'it'} again"):
                found = _verified(client, None if record else text.strip(), record)
            verdicts[found.verdict] = verdicts.get(found.verdict, 0) + 1
            as_json(found) if json else show(found)
    if many:
        summary = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items())
        err.print(summary) if json else say(summary)
    if verdicts["confirmed"] < len(asked):
        raise typer.Exit(FAILED)


def _verified(client: Client, decision: str | None, record: str | None) -> Verification:
    """Raises what the calls raise; of an agent that is none, what every command says of it."""
    try:
        return client.verify_decision(decision, record=record)
    except NotFoundError as error:
        if error.code == "unknown_agent" and (agent := error.context.get("agent")):
            client.agent(agent)
        raise


def show(found: Verification) -> None:
    """The verdict, why (with the reason's code, by which docs/past.md goes), and what differs."""
    colour = COLOURS.get(found.verdict, "bold")
    code = f" ({escape(found.reason)})" if found.reason else ""
    say(f"[{colour}]{escape(found.verdict)}[/] [bold]{escape(found.decision_id)}[/]{code}")
    say(f"  {escape(found.text)}")
    if found.note:
        say(f"  [yellow]note[/]: {escape(found.note)}")
    if found.differences:
        grid(
            ("field", "found", "expected"),
            [
                (escape(each.field), escape(each.found) or "–", escape(each.expected) or "–")
                for each in found.differences
            ],
        )
