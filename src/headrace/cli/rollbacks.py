"""Rolling agents back to snapshots while they run, and taking that back."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from headrace.cli import show_snapshots
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody, foretell
from headrace.cli.console import as_json, err, waiting
from headrace.cli.failure import FAILED, told
from headrace.cli.following import Wait, begun, everywhere, followed, somewhere
from headrace.cli.many_rollbacks import UNSEEN, How, rollback_all
from headrace.cli.meant import rollback_meant, snapshot_meant
from headrace.cli.moments import since_1970, time_option
from headrace.clock import SystemClock
from headrace.counts import counted
from headrace.errors import ConflictError, NotFoundError, RequestError, not_standing
from headrace.views import Exclusion, RollbackRequest, RollbackView

if TYPE_CHECKING:
    from headrace.serving.client import Client

IN_PART = (
    "in some partitions there is nothing to take back any more, and nothing changes there; the"
    " figures below are of all partitions"
)
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

    It shows first what would change, and asks (`--yes` does not); then it says how to take it
    back. `revert` goes on learning with the next event; `rewind` learns again what came since the
    snapshot, without the events that any of the `--exclude` options names.

    TIME is `2026-03-01T14:07Z` (ISO 8601; UTC where it names no zone), or how long ago: `10m`.

    Changes the state of the agent, or of the keys, from here on; decisions that were made stay in
    their topic. With `--preview` it changes nothing.

    Example: `headrace rollback card-fraud --before 10m --mode rewind --exclude-header src=test`
    """
    now_s = SystemClock().time()
    span = _span(exclude_from, exclude_to, now_s)
    exclude = Exclusion(
        decisions=tuple(exclude_decision or ()),
        keys=tuple(exclude_key or ()),
        from_ms=span[0],
        to_ms=span[1],
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
    from headrace.serving.decode_snapshots import decision  # it loads protobuf

    for text in exclude.decisions:
        decision(f"--exclude-decision {text[:120]!r}", text, wanted.agent)
    how = How(preview, yes, wait, address, json)
    whom = "all agents" if everyone else wanted.agent
    with connect(address) as client:
        if not (yes or preview):
            _look_for(client, wanted)
        check_somebody(f"Roll {whom} back?", yes=yes or preview, look="--preview")
        if everyone:
            rollback_all(client, wanted, how)
        elif (agreed := _looked_at(client, wanted, how)) is not None:
            done = begun(client, lambda request_id: client.rollback(agreed, request_id))
            _follow(client, done, how)


def undo(
    agent: str = Agent,
    control_id: str | None = typer.Argument(
        None,
        help="Which rollback, or how its id begins; the last one that stands, if left out.",
        show_default=False,
    ),
    preview: bool = Preview,
    yes: bool = Yes,
    wait: float = Wait,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Take a rollback back: the models that it replaced come again.

    What was learned since goes; it shows first what changes, and asks (`--yes` does not). What was
    counted and measured goes on, as after every revert. An undo is a rollback, too: by its own id
    it can be taken back, and by nothing else. One that failed in some partition is asked for again,
    and changes nothing where it was done.

    Changes what a rollback changes.

    Example: `headrace undo card-fraud`
    """
    how = How(preview, yes, wait, address, json)
    with connect(address) as client:
        if control_id is None:
            view = _last(client, agent)
        else:
            view = rollback_meant(client, agent, control_id)
        if view.agent != agent:
            text = f"rollback {view.control_id} is of {view.agent}, not of {agent}"
            raise RequestError("invalid_request", text)
        if not _stands(view):
            raise not_standing(agent, view.control_id, view.undone_by)
        question = f"Take {view.control_id} of {agent} back?"
        check_somebody(question, yes=yes or preview, look="--preview")
        back = RollbackRequest(agent=agent, snapshot_id=view.undo_snapshot_id, keys=view.keys)
        if not how.json:
            err.print(f"takes back {_said(view)}", soft_wrap=True, markup=False)
            if view.failed or view.left or _tried(client, view):
                err.print(f"[yellow]note[/]: {IN_PART}", soft_wrap=True)
        if _looked_at(client, back, how, question) is not None:
            done = begun(
                client,
                lambda request_id: client.undo_rollback(agent, view.control_id, request_id),
            )
            _follow(client, done, how)


def rollbacks(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """List what was rolled back, newest first: to what, how far it is, whether it was taken back.

    Changes nothing.

    Example: `headrace rollbacks card-fraud`
    """
    with connect(address) as client:
        views = client.rollbacks(agent)
    if json:
        as_json([show_snapshots.plain(view) for view in views])
    else:
        show_snapshots.rollbacks(views)


def _look_for(client: Client, wanted: RollbackRequest) -> None:
    """Raise what is wrong with the names, before anybody is asked; cheaper than a preview."""
    if not wanted.agent:
        client.agents()
        return
    client.agent(wanted.agent)
    if wanted.snapshot_id is not None:
        meant = snapshot_meant(client, wanted.agent)
        with meant, suppress(ConflictError):  # an undo need not wait until it is published
            client.snapshot(wanted.snapshot_id)


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


def _span(begin: str | None, end: str | None, now_s: float) -> tuple[int | None, int | None]:
    """Milliseconds since 1970. Raises RequestError, also where no time lies between the two."""
    from_ms, to_ms = since_1970(begin, now_s), since_1970(end, now_s)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        text = f"--exclude-to {end} is not after --exclude-from {begin}: no event is of a time"
        raise RequestError("invalid_request", f"{text} between them")
    return from_ms, to_ms


def _header(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RequestError("invalid_request", f"{text!r} is not NAME=VALUE")
    return name, value


def _said(view: RollbackView) -> str:
    """Which one it is."""
    keys = f" of {counted(len(view.keys), 'key')}" if view.keys else ""
    return (
        f"rollback {view.control_id}: {view.mode}{keys} to {view.snapshot_id}, epoch {view.epoch}"
    )


def _looked_at(
    client: Client, wanted: RollbackRequest, how: How, question: str = ""
) -> RollbackRequest | None:
    """What is agreed to after a look at what it would change: to the snapshot that was shown.

    None: no more than the look was asked for. Raises typer.Abort.
    """
    try:
        with snapshot_meant(client, wanted.agent), waiting("comparing the two states"):
            found = client.preview_rollback(wanted)
    except RequestError as error:
        if how.preview or not how.yes or error.code not in UNSEEN:
            raise
        err.print(f"no preview: {told(error)}", soft_wrap=True, markup=False)
        return wanted
    if how.preview and how.json:
        as_json(found)
    elif how.yes and how.json:
        foretell(preview=found)
    else:
        show_snapshots.preview(found, wanted, None if how.preview else err)
    if found.keys_total and not found.keys_changed and not how.json:
        where = "in the snapshot" if found.mode == "revert" else "it comes out again"
        text = f"nothing differs: every key's model is as {where}"
        if found.withdrawn_most:
            whose = "decisions on these keys, if there are any," if wanted.keys else "decisions"
            text += f"; {whose} are withdrawn all the same"
        err.print(text, soft_wrap=True)
    if how.preview:
        err.print("nothing was changed")
        return None
    ask(question or f"Roll {wanted.agent} back?", yes=how.yes)
    return replace(wanted, snapshot_id=found.snapshot_id, before_ms=None)


def _follow(client: Client, done: RollbackView, how: How) -> None:
    """Wait for it and show it. Raises typer.Exit where it is not done in time, or failed."""
    (view,) = followed(client, [done], how.wait_s)
    if how.json:
        as_json(show_snapshots.plain(view))
    else:
        show_snapshots.rollback(view, how.address)
    if not everywhere(view):
        raise typer.Exit(FAILED)


def _last(client: Client, agent: str) -> RollbackView:
    """The newest one that stands and is no undo. Raises NotFoundError."""
    views = [view for view in client.rollbacks(agent) if _stands(view)]
    for view in views:
        if not view.undoes:
            return view
    if views:
        text = f"every rollback of {agent} is taken back already, and "
        if _is_kept(client, views[0]):
            text += "an undo needs its id: "
            text += f"`headrace undo {agent} {views[0].control_id}` takes back the last undo"
        else:
            text += "the last undo cannot be: the snapshot of what it replaced has been removed"
    else:
        text = f"{agent} has no rollback that could be taken back; `headrace rollbacks {agent}` "
        text += "lists those there were. What a migration replaced, another one brings back: "
        text += (
            f"`headrace deploy SPEC --migration from=…`, from one of `headrace snapshot ls {agent}`"
        )
    raise NotFoundError("unknown_rollback", text, agent=agent)


def _stands(view: RollbackView) -> bool:
    """Whether there is something to take back in some partition."""
    return not view.undone_by and somewhere(view)


def _is_kept(client: Client, view: RollbackView) -> bool:
    """Whether what it replaced is, as far as anybody knows: it may not be published yet."""
    try:
        client.snapshot(view.undo_snapshot_id)
    except RequestError as error:
        return error.code != "snapshot_expired"
    return True


def _tried(client: Client, view: RollbackView) -> bool:
    """Whether an undo has taken it back in some partitions already: it stands in the others."""
    undos = [each for each in client.rollbacks(view.agent) if each.undoes == view.control_id]
    return any(_stands(undo) for undo in undos)
