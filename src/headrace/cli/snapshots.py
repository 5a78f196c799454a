"""`headrace snapshot`: cuts of agents' states are made, listed, kept and removed."""

from __future__ import annotations

import typer

from headrace.cli import show_snapshots
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.show import escape

Id = typer.Argument(metavar="ID", help="The snapshot's id, AGENT.NAME.", show_default=False)


def create(
    agent: str = Agent,
    name: str = typer.Argument(
        help="At most 64 of a-z, 0-9, `.`, `_` and `-`; its id is AGENT.NAME.", show_default=False
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Cut an agent as it is now, under a name. It is kept until it is deleted.

    The agent goes on learning and answering meanwhile.

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

    Example: `headrace snapshot ls card-fraud`
    """
    with connect(address) as client:
        views = client.snapshots(agent)
    if json:
        as_json([show_snapshots.plain(view) for view in views])
    else:
        show_snapshots.snapshots(views)


def show(snapshot_id: str = Id, address: str | None = Address, json: bool = Json) -> None:
    """Show one snapshot, with where each partition stands in it.

    Example: `headrace snapshot show card-fraud.before-sale`
    """
    with connect(address) as client:
        view = client.snapshot(snapshot_id)
    as_json(show_snapshots.plain(view)) if json else show_snapshots.snapshot(view)


def pin(
    snapshot_id: str = Id,
    off: bool = typer.Option(False, "--off", help="Take the pin off again."),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Keep an automatic snapshot, which would be removed with its age.

    Example: `headrace snapshot pin card-fraud.auto-1-20260301-140700`
    """
    with connect(address) as client:
        view = client.pin_snapshot(snapshot_id, pinned=not off)
    if json:
        as_json(show_snapshots.plain(view))
    else:
        say(f"{'unpinned' if off else 'pinned'} [bold]{escape(view.snapshot_id)}[/]")


def rm(
    snapshot_id: str = Id, yes: bool = Yes, address: str | None = Address, json: bool = Json
) -> None:
    """Remove a snapshot for good. One that a rollback still stands on stays.

    Example: `headrace snapshot rm card-fraud.before-sale --yes`
    """
    check_somebody(yes=yes)
    with connect(address) as client:
        if not yes:
            view = client.snapshot(snapshot_id)
            show_snapshots.snapshots([view], on=err)
            ask(f"Remove {view.snapshot_id} for good?")
        client.delete_snapshot(snapshot_id)
    as_json({"removed": snapshot_id}) if json else say(f"removed [bold]{escape(snapshot_id)}[/]")
