"""Erasing a key for good, and seeing how far that is."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import msgspec
import typer

from headrace.cli.client import Address, Agent, Json, Key, connect, interrupt_held
from headrace.cli.consent import Yes, ask, check_somebody, foretell
from headrace.cli.console import Console, as_json, err, out, waiting
from headrace.cli.failure import FAILED
from headrace.cli.program import program
from headrace.cli.show import escape, moment, place
from headrace.clock import SystemClock
from headrace.counts import counted
from headrace.views import ForgetView

if TYPE_CHECKING:
    from headrace.serving.client import Client

POLL_S = 0.5
IDS_SHOWN = 3
Wait = typer.Option(
    60.0,
    "--wait",
    min=0.0,
    metavar="SECONDS",
    help="How long to wait until no snapshot holds it; it goes on all the same.",
    show_default="60",
)


def forget(
    agent: str = Agent,
    key: str = Key,
    preview: bool = typer.Option(
        False, "--preview", help="Erase nothing; say what would be erased, and what would not."
    ),
    yes: bool = Yes,
    wait: float = Wait,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Erase what an agent knows of a key, for good: from its state, and from all snapshots.

    It shows first what would be erased, and asks (`--yes` does not): nothing takes it back. Later
    events of the key start cold. What the topics hold is not erased; it is told. All automatic and
    undo snapshots go, whether they hold the key or not, so earlier rollbacks cannot be undone.

    Changes state and snapshots for good; with `--preview` it changes nothing.

    Example: `headrace forget card-fraud 4711`
    """
    question = f"Forget this key of {agent} for good?"
    check_somebody(question, yes=yes or preview, look="--preview")
    with connect(address) as client:
        found = client.preview_forget(agent, key)
        if preview and json:
            as_json(plain(found))
        elif yes and json:
            foretell(preview=plain(found))
        else:
            _plan(found, out if preview else err)
        if preview:
            err.print("nothing was erased")
            return
        ask(question, yes=yes)
        view = _followed(client, client.forget(agent, key), wait)
    _shown(view, json=json)


def forgotten(
    control_id: str = typer.Argument(
        help="What `headrace forget` has shown for it.", show_default=False
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Say how far the forgetting of a key is: where it counts, and which snapshots still hold it.

    Changes nothing.

    Example: `headrace forgotten 5f0c4a7e9b1d4c3f8a2e6d7b9c0f1a2b`
    """
    with connect(address) as client:
        view = client.get_forget(control_id)
    _shown(view, json=json)


def plain(view: ForgetView) -> dict[str, object]:
    """For JSON: its fields, and whether it is done."""
    return {**msgspec.to_builtins(view), "done": view.done}


def _followed(client: Client, view: ForgetView, wait_s: float) -> ForgetView:
    clock, pause = SystemClock(), Event()
    until = clock.monotonic() + wait_s
    with waiting("forgetting it; snapshots are written anew"):
        while not view.done and clock.monotonic() < until:
            pause.wait(POLL_S)
            with interrupt_held():
                view = client.get_forget(view.control_id)
    return view


def _plan(view: ForgetView, on: Console) -> None:
    if view.known:
        _say("the key is known here", on)
    else:
        why = "perhaps it is mistyped"
        if view.known is None:
            why += ", or known to another worker"
        _say(f"[bold yellow]the key is not known here: {why}[/]", on)
        _say("  all snapshots are treated as if they held it, as nobody has read them", on)
    _say(f"  removed     {_ids(view.deleting)}", on)
    if view.rollbacks:
        told = f"these rollbacks can then not be taken back: {_ids(view.rollbacks)}"
        _say(f"  [yellow]no undo[/]     {told}", on)
    _say(f"  rewritten   {_ids(view.rewriting)}", on)
    _say(f"  gone        by {moment(view.gone_by_ms)} also from the files of the repository", on)
    _say(f"  [yellow]not erased[/]  {escape(view.note)}", on)


def _shown(view: ForgetView, *, json: bool) -> None:
    """Show it. Raises typer.Exit if something remains to be done."""
    if json:
        as_json(plain(view))
    else:
        where = ", ".join(map(place, view.positions)) or "nowhere yet"
        done = "[green]forgotten[/]" if view.done else "[yellow]being forgotten[/]"
        _say(f"{done} by [bold]{escape(view.agent)}[/], control id {escape(view.control_id)}")
        all_of_them = counted(view.partitions, "partition")
        _say(f"  counts at   {where} ({len(view.positions)} of {all_of_them})")
        if not view.done:
            _say(f"  to remove   {_ids(view.deleting)}")
            _say(f"  to rewrite  {_ids(view.rewriting)}")
            _say(
                f"  look again  it goes on: {escape(program())} forgotten {escape(view.control_id)}"
            )
        else:
            _say("  snapshots   none holds it any more")
        _say(f"  gone        by {moment(view.gone_by_ms)} also from the files of the repository")
        _say(f"  not erased  {escape(view.note)}")
    if not view.done:
        raise typer.Exit(FAILED)


def _ids(ids: tuple[str, ...]) -> str:
    more = len(ids) - IDS_SHOWN
    shown = ", ".join(map(escape, ids[:IDS_SHOWN])) or "nothing"
    return f"{shown} and {more} more" if more > 0 else shown


def _say(text: str, on: Console = out) -> None:
    on.print(text, soft_wrap=True)
