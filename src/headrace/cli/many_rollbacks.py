"""`headrace rollback --all`: each agent by itself; what one is refused does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import typer
from msgspec.structs import replace

from headrace.cli import show_snapshots
from headrace.cli.consent import ask, foretell
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.failure import FAILED, told
from headrace.cli.following import begun, everywhere, followed
from headrace.cli.show import escape
from headrace.counts import counted
from headrace.errors import RequestError
from headrace.views import RollbackRequest, RollbackView

if TYPE_CHECKING:
    from headrace.serving.client import Client

UNSEEN = ("too_large", "deadline")
"""What a preview may fail of where the rollback does not: `--yes` goes on without one."""
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
    """Roll every agent back to its own snapshot. Raises typer.Exit where one of them is not, or not
    in every partition.
    """
    refused: Refused = {}
    requests = [replace(wanted, agent=view.name) for view in client.agents()]
    requests = _looked_at(client, requests, how, refused)
    late: Refused = {}
    done = _each(
        lambda request: begun(client, lambda request_id: client.rollback(request, request_id)),
        requests,
        late,
    )
    refused |= late
    views = followed(client, done, how.wait_s)
    if how.json:
        plain = {view.agent: show_snapshots.plain(view) for view in views}
        _as_json("rollback", plain, refused)
    else:
        for view in views:
            show_snapshots.rollback(view, how.address)
        if not views and not refused:
            say("no agents to roll back")
        _tell(late)
        _tell_failed(views)
    if refused or not all(map(everywhere, views)):
        raise typer.Exit(FAILED)


def _looked_at(
    client: Client, requests: Sequence[RollbackRequest], how: How, refused: Refused
) -> list[RollbackRequest]:
    """What is agreed to, after a look at what it would change: to the snapshots that were shown."""
    unseen: Refused = {}
    with waiting("comparing the states of all agents"):
        found = _each(client.preview_rollback, requests, unseen)
    if how.json and (how.preview or how.yes):
        seen = {each.agent: msgspec.to_builtins(each) for each in found}
        if how.preview:
            _as_json("preview", seen, unseen)
        else:
            foretell(previews=found)
    else:
        show_snapshots.previews(found, None if how.preview else err)
        _tell(unseen)
    if how.preview:
        err.print("nothing was changed")
        raise typer.Exit(FAILED if unseen else 0)
    alone = {agent for agent, error in unseen.items() if how.yes and error.code in UNSEEN}
    refused.update((agent, error) for agent, error in unseen.items() if agent not in alone)
    if found:
        ask(f"Roll {len(found)} agent{'s' if len(found) > 1 else ''} back?", yes=how.yes)
    goals = {each.agent: each.snapshot_id for each in found}
    return [
        replace(request, snapshot_id=goals[request.agent], before_ms=None)
        if request.agent in goals
        else request
        for request in requests
        if request.agent in goals or request.agent in alone
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
        said = f"[bold red]error:[/] [bold]{escape(agent)}[/]: {escape(told(error))}"
        err.print(said, soft_wrap=True)


def _tell_failed(views: Sequence[RollbackView]) -> None:
    """Last, how many have failed and which: each has said why, among many lines."""
    failed = [view for view in views if view.failed]
    if not failed:
        return
    which = ", ".join(
        f"[bold]{escape(view.agent)}[/] ({view.failed} of {counted(view.partitions, 'partition')})"
        for view in failed
    )
    said = f"{len(failed)} of {counted(len(views), 'agent')} could not be rolled back everywhere"
    err.print(f"[bold red]error:[/] {said}: {which}", soft_wrap=True)


def _as_json(name: str, found: Mapping[str, object], refused: Refused) -> None:
    """One object for each agent: what was found under `name`, or its error."""
    rows: list[dict[str, object]] = [{"agent": agent, name: view} for agent, view in found.items()]
    for agent, error in refused.items():
        rows.append({"agent": agent, "error": {"code": error.code, "text": error.text}})
    as_json(rows)
