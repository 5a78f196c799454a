"""`headrace snapshot`: cuts of agents' states are made, listed, kept and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headrace.cli import show_snapshots
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody, foretell
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.meant import snapshot_meant
from headrace.cli.show import escape
from headrace.views import SnapshotView

if TYPE_CHECKING:
    from headrace.serving.client import Client

Id = typer.Argument(metavar="ID", help="The snapshot's id, AGENT.NAME.", show_default=False)


def create(
    agent: str = Agent,
    name: str = typer.Argument(
        help="At most 64 of a-z, 0-9, `.`, `_` and `-`, no capitals; its id is AGENT.NAME.",
        show_default=False,
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Cut an agent as it is now, under a name. It is kept until it is deleted.

    The agent goes on learning and answering meanwhile.

    Changes nothing of the agent; the snapshot takes room in the repository.

    Example: `headrace snapshot create card-fraud before-sale`
    """
    with connect(address) as client, waiting("cutting"):
        view = client.create_snapshot(agent, name)
    as_json(show_snapshots.plain(view)) if json else show_snapshots.snapshot(view)


def ls(
    agent: str | None = typer.Argument(
        None, help="The agent's name; all agents if left out.", show_default=False
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """List the snapshots, newest first: when they were made, how large they are.

    `new` is what no earlier snapshot had brought: what it takes in the repository.

    Changes nothing.

    Example: `headrace snapshot ls card-fraud`
    """
    with connect(address) as client:
        views = client.snapshots(agent)
        there = {view.name for view in client.agents()} if views else set()
    if json:
        as_json([show_snapshots.plain(view) for view in views])
    else:
        show_snapshots.snapshots(views, gone={view.agent for view in views} - there)


def show(snapshot_id: str = Id, address: str | None = Address, json: bool = Json) -> None:
    """Show one snapshot, with where each partition stands in it.

    Changes nothing.

    Example: `headrace snapshot show card-fraud.before-sale`
    """
    with connect(address) as client, snapshot_meant(client):
        view = client.snapshot(snapshot_id)
    as_json(show_snapshots.plain(view)) if json else show_snapshots.snapshot(view)


def pin(
    snapshot_id: str = Id,
    off: bool = typer.Option(False, "--off", help="Unpin it: it goes with its age again."),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Keep an automatic snapshot, which would be removed with its age; `--off` unpins it.

    Changes how long it is kept, and nothing else. docs/limits.md says how automatic ones thin out.

    Example: `headrace snapshot pin card-fraud.auto-1-20260301-140700`
    """
    with connect(address) as client, snapshot_meant(client):
        view = client.pin_snapshot(snapshot_id, pinned=not off)
    if json:
        as_json(show_snapshots.plain(view))
    else:
        say(f"{'unpinned' if off else 'pinned'} [bold]{escape(view.snapshot_id)}[/]")


def rm(
    snapshot_id: str = Id, yes: bool = Yes, address: str | None = Address, json: bool = Json
) -> None:
    """Remove a snapshot for good.

    Of one that the agent was just rolled back to it is refused (`snapshot_in_use`), until a newer
    snapshot has what came of that: a minute or so. It shows it first, and asks (`--yes` does not).
    The agent stays as it is.

    Changes: nobody can go back to it any more.

    Example: `headrace snapshot rm card-fraud.before-sale --yes`
    """
    question = f"Remove {snapshot_id} for good?"
    with connect(address) as client:
        with snapshot_meant(client):
            view = client.snapshot(snapshot_id)
        check_somebody(question, yes=yes)
        rollback = _taken_back_from(client, view)
        if yes and json:
            foretell(snapshot=show_snapshots.plain(view), rollback=rollback)
        else:
            show_snapshots.snapshots([view], on=err)
            if view.pinned:
                err.print("it is pinned: somebody wants it kept, whatever its age")
            if rollback:
                text = f"the rollback {rollback} can then not be taken back"
                err.print(text, soft_wrap=True, markup=False)
            ask(question, yes=yes)
        client.delete_snapshot(snapshot_id)
    as_json({"removed": snapshot_id}) if json else say(f"removed [bold]{escape(snapshot_id)}[/]")


def _taken_back_from(client: Client, view: SnapshotView) -> str:
    """The control id of the rollback that an undo snapshot is kept for; empty: it is of no use."""
    if view.kind != "undo" or view.former:
        return ""
    done = client.rollbacks(view.agent)
    return next((d.control_id for d in done if d.undo_snapshot_id == view.snapshot_id), "")
