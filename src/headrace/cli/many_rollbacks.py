"""`headrace rollback --all`: each agent by itself; what one is refused does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import typer
from msgspec.structs import replace

from headrace.cli import show_snapshots
from headrace.cli.consent import ask
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.failure import FAILED
from headrace.cli.following import followed
from headrace.cli.show import escape
from headrace.errors import RequestError
from headrace.views import RollbackRequest

if TYPE_CHECKING:
    from headrace.serving.client import Client

_T = TypeVar("_T")
Refused = dict[str, RequestError]
"""Why not, by agent."""


class How(NamedTuple):
    """What else the command line says of a rollback."""

    preview: bool
    yes: bool
    wait_s: float
    address: str | None
    json: bool


def rollback_all(client: Client, wanted: RollbackRequest, how: How) -> None:
    """Roll every agent back to its own snapshot. Raises typer.Exit where one of them is not."""
    refused: Refused = {}
    requests = [replace(wanted, agent=view.name) for view in client.agents()]
    if how.preview or not how.yes:
        requests = _looked_at(client, requests, how, refused)
    begun = _each(client.rollback, requests, refused)
    views = followed(client, begun, how.wait_s)
    if how.json:
        done = {view.agent: show_snapshots.plain(view) for view in views}
        _as_json("rollback", done, refused)
    else:
        for view in views:
            show_snapshots.rollback(view, how.address)
        if not views and not refused:
            say("no agents to roll back")
        _tell(refused)
    if refused or not all(view.done for view in views):
        raise typer.Exit(FAILED)


def _looked_at(
    client: Client, requests: Sequence[RollbackRequest], how: How, refused: Refused
) -> list[RollbackRequest]:
    """What is agreed to, after a look at what it would change: to the snapshots that were shown."""
    with waiting("comparing the states of all agents"):
        found = _each(client.preview_rollback, requests, refused)
    if how.preview and how.json:
        seen = {each.agent: msgspec.to_builtins(each) for each in found}
        _as_json("preview", seen, refused)
    else:
        show_snapshots.previews(found, None if how.preview else err)
        _tell(refused)
    if how.preview:
        err.print("nothing was changed")
    if how.preview or not found:
        raise typer.Exit(FAILED if refused else 0)
    ask(f"Roll {len(found)} agent{'s' if len(found) > 1 else ''} back?")
    goals = {each.agent: each.snapshot_id for each in found}
    return [
        replace(request, snapshot_id=goals[request.agent], before_ms=None)
        for request in requests
        if request.agent in goals
    ]


def _each(
    call: Callable[[RollbackRequest], _T], requests: Iterable[RollbackRequest], refused: Refused
) -> list[_T]:
    """What each call gives; errors go to `refused`."""
    found = []
    for request in requests:
        try:
            found.append(call(request))
        except RequestError as error:
            refused[request.agent] = error
    return found


def _tell(refused: Refused) -> None:
    for agent, error in refused.items():
        said = f"[bold red]error:[/] [bold]{escape(agent)}[/]: {escape(str(error))}"
        err.print(said, soft_wrap=True)


def _as_json(name: str, found: Mapping[str, object], refused: Refused) -> None:
    """One object for each agent: what was found under `name`, or its error."""
    rows: list[dict[str, object]] = [{"agent": agent, name: view} for agent, view in found.items()]
    for agent, error in refused.items():
        rows.append({"agent": agent, "error": {"code": error.code, "text": error.text}})
    as_json(rows)
