"""Rolling agents back to snapshots while they run, and taking that back."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from headrace.cli import show_snapshots
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody
from headrace.cli.console import as_json, err, waiting
from headrace.cli.failure import FAILED
from headrace.cli.following import Wait, followed
from headrace.cli.many_rollbacks import How, rollback_all
from headrace.cli.moments import since_1970, time_option
from headrace.clock import SystemClock
from headrace.errors import NotFoundError, RequestError
from headrace.views import Exclusion, RollbackRequest, RollbackView

if TYPE_CHECKING:
    from headrace.serving.client import Client

PANEL = "Events that a rewind leaves out"
Preview = typer.Option(False, "--preview", help="Change nothing; say what would be changed.")


class Mode(StrEnum):
    """What becomes of the events since the snapshot."""

    revert = "revert"
    rewind = "rewind"


def rollback(
    agent: str | None = typer.Argument(
        None, help="The agent's name; left out with --all.", show_default=False
    ),
    to: str | None = typer.Option(
        None, "--to", metavar="ID", help="The snapshot to go back to.", show_default=False
    ),
    before: str | None = time_option("--before", "To the newest complete snapshot before it."),
    mode: Mode = typer.Option(
        Mode.revert, help="What becomes of the events since: unlearned, or learned again."
    ),
    key: list[str] | None = typer.Option(
        None, help="Only this key's state (may be repeated).", show_default=False
    ),
    exclude_decision: list[str] | None = typer.Option(
        None,
        metavar="ID",
        help="The event of this decision (may be repeated).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
    exclude_key: list[str] | None = typer.Option(
        None,
        metavar="KEY",
        help="All events of this key (may be repeated).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
    exclude_from: str | None = time_option("--exclude-from", "Those of this time on …", PANEL),
    exclude_to: str | None = time_option("--exclude-to", "… until before this time.", PANEL),
    exclude_header: str | None = typer.Option(
        None,
        metavar="NAME=VALUE",
        help="Those whose record has this header.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
    everyone: bool = typer.Option(False, "--all", help="Every agent, each to a snapshot of it."),
    preview: bool = Preview,
    yes: bool = Yes,
    wait: float = Wait,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Put a snapshot's state in place of an agent's, while it goes on answering.

    It shows first what would change, and asks; afterwards it says how to take it back. `revert`
    goes on learning with the next event; `rewind` learns again what came since the snapshot,
    without the events that any of the `--exclude` options names.

    TIME is `2026-03-01T14:07Z` (ISO 8601; UTC where it names no zone), or how long ago: `10m`.

    Example: `headrace rollback card-fraud --before 10m --mode rewind --exclude-header src=test`
    """
    now_s = SystemClock().time()
    exclude = Exclusion(
        decisions=tuple(exclude_decision or ()),
        keys=tuple(exclude_key or ()),
        from_ms=since_1970(exclude_from, now_s),
        to_ms=since_1970(exclude_to, now_s),
        header=_header(exclude_header),
    )
    wanted = RollbackRequest(
        agent=agent or "",
        snapshot_id=to,
        before_ms=since_1970(before, now_s),
        mode=mode.value,
        keys=tuple(key or ()),
        exclude=None if exclude == Exclusion() else exclude,
    )
    _check(wanted, everyone=everyone)
    how = How(preview, yes, wait, address, json)
    check_somebody(yes=yes or preview)
    with connect(address) as client:
        if everyone:
            rollback_all(client, wanted, how)
        elif (agreed := _looked_at(client, wanted, how)) is not None:
            _follow(client, client.rollback(agreed), how)


def undo(
    agent: str = Agent,
    control_id: str | None = typer.Argument(
        None,
        help="Which rollback; the last one that stands, if left out.",
        show_default=False,
    ),
    preview: bool = Preview,
    yes: bool = Yes,
    wait: float = Wait,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Take a rollback back: the state that it replaced comes again.

    What was learned since goes. An undo is a rollback, too: by its own id it can be taken back.

    Example: `headrace undo card-fraud`
    """
    how = How(preview, yes, wait, address, json)
    check_somebody(yes=yes or preview)
    with connect(address) as client:
        view = _last(client, agent) if control_id is None else client.get_rollback(control_id)
        if view.agent != agent:
            text = f"rollback {view.control_id} is of {view.agent}, not of {agent}"
            raise RequestError("invalid_request", text)
        back = RollbackRequest(agent=agent, snapshot_id=view.undo_snapshot_id, keys=view.keys)
        if _looked_at(client, back, how) is not None:
            _follow(client, client.undo_rollback(agent, view.control_id), how)


def rollbacks(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """List what was rolled back, newest first: to what, how far it is, whether it was taken back.

    Example: `headrace rollbacks card-fraud`
    """
    with connect(address) as client:
        views = client.rollbacks(agent)
    if json:
        as_json([show_snapshots.plain(view) for view in views])
    else:
        show_snapshots.rollbacks(views)


def _check(wanted: RollbackRequest, *, everyone: bool) -> None:
    """Refuse what contradicts itself, in the words of the options. Raises RequestError."""
    exclude = wanted.exclude or Exclusion()
    reasons = (
        (everyone == bool(wanted.agent), "name an AGENT, or say --all"),
        (
            (wanted.snapshot_id is None) == (wanted.before_ms is None),
            "say either --to ID or --before TIME",
        ),
        (everyone and wanted.snapshot_id is not None, "--to is one agent's, and --all is all"),
        (everyone and bool(wanted.keys), "--key is for one agent, and --all is all"),
        (everyone and bool(exclude.decisions), "--exclude-decision is one agent's, --all is all"),
        (
            wanted.exclude is not None and wanted.mode != Mode.rewind,
            "what is left out is for --mode rewind; a revert learns nothing again",
        ),
    )
    found = [text for wrong, text in reasons if wrong]
    if found:
        raise RequestError("invalid_request", "; ".join(found))


def _header(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RequestError("invalid_request", f"{text!r} is not NAME=VALUE")
    return name, value


def _looked_at(client: Client, wanted: RollbackRequest, how: How) -> RollbackRequest | None:
    """What is agreed to after a look at what it would change: to the snapshot that was shown.

    None: no more than the look was asked for. Raises typer.Abort.
    """
    if how.yes and not how.preview:
        return wanted
    with waiting("comparing the two states"):
        found = client.preview_rollback(wanted)
    if how.preview and how.json:
        as_json(found)
    else:
        show_snapshots.preview(found, None if how.preview else err)
    if how.preview:
        err.print("nothing was changed")
        return None
    ask(f"Roll {wanted.agent} back?")
    return replace(wanted, snapshot_id=found.snapshot_id, before_ms=None)


def _follow(client: Client, begun: RollbackView, how: How) -> None:
    """Wait for it and show it. Raises typer.Exit where it is not done in time."""
    (view,) = followed(client, [begun], how.wait_s)
    if how.json:
        as_json(show_snapshots.plain(view))
    else:
        show_snapshots.rollback(view, how.address)
    if not view.done:
        raise typer.Exit(FAILED)


def _last(client: Client, agent: str) -> RollbackView:
    """The newest one that is neither an undo nor undone. Raises NotFoundError."""
    views = client.rollbacks(agent)
    undone = {view.undoes for view in views}
    for view in views:
        if not view.undoes and view.control_id not in undone:
            return view
    text = f"{agent} has no rollback that could be taken back; `headrace rollbacks {agent}` lists"
    raise NotFoundError("unknown_rollback", f"{text} those there were", agent=agent)
