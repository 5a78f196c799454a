"""Beginning rollbacks, and watching them until every partition has done them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.cli.client import interrupt_held
from headrace.cli.console import err
from headrace.cli.failure import told
from headrace.cli.program import program
from headrace.cli.show import escape
from headrace.clock import SystemClock, new_id
from headrace.errors import RequestError, UnavailableError
from headrace.views import RollbackView

if TYPE_CHECKING:
    from headrace.serving.client import Client

POLL_S = 0.25
Wait = typer.Option(
    600.0,
    "--wait",
    min=0.0,
    metavar="SECONDS",
    help="How long to wait until every partition has done it; it goes on all the same.",
    show_default="600",
)


def begun(client: Client, ask: Callable[[str], RollbackView]) -> RollbackView:
    """What is asked for under an id of ours. Where there is no answer it may have begun all the
    same, and then goes on when the service does. Raises what asking raises, unless it has.
    """
    request_id = new_id()
    try:
        return ask(request_id)
    except UnavailableError as error:
        with suppress(RequestError):
            return client.get_rollback(request_id)
        look = f"look for {request_id} with `{program()} rollbacks AGENT` before you ask again"
        may = "the rollback may have begun all the same, and goes on when the service does"
        raise UnavailableError(error.code, f"{error}; {may}: {look}") from error


def everywhere(view: RollbackView) -> bool:
    """Whether every partition has done it. Where not, the command has failed."""
    return view.done and not view.failed


def somewhere(view: RollbackView) -> bool:
    """Whether it is done in some partition, or may be yet: only there it can be taken back."""
    return view.failed + view.left < view.partitions


def followed(client: Client, asked: Sequence[RollbackView], wait_s: float) -> list[RollbackView]:
    """The same rollbacks when all are done, or as far as they are after `wait_s` seconds. Where
    nobody answers it asks again: the worker may be starting anew, and goes on with them.
    """
    views, answers = list(asked), True
    clock, pause = SystemClock(), Event()
    until = clock.monotonic() + wait_s
    for view in views:
        if not view.done:
            has = f"{escape(view.agent)}: rollback {escape(view.control_id)} has begun"
            err.print(f"{has}; Ctrl-C leaves it to go on", soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        tasks = [progress.add_task(escape(view.agent), total=view.partitions) for view in views]
        while not all(view.done for view in views) and clock.monotonic() < until:
            for number, view in enumerate(views):
                if not view.done:
                    try:
                        with interrupt_held():
                            views[number] = client.get_rollback(view.control_id)
                        answers = True
                    except UnavailableError as error:
                        if answers:
                            err.print(f"asked again until it answers: {told(error)}", markup=False)
                        answers = False
                progress.update(tasks[number], completed=len(views[number].positions))
            pause.wait(0 if all(view.done for view in views) else POLL_S)
    return views
