"""`headrace snapshot diff`, `export` and `import`: snapshots compared, and carried elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace.cli import show_snapshots
from headrace.cli.client import Address, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.meant import snapshot_meant
from headrace.cli.program import program
from headrace.cli.show import escape
from headrace.cli.snapshots import Id
from headrace.errors import RequestError


def diff(
    earlier: str = typer.Argument(metavar="A", help="A snapshot's id.", show_default=False),
    later: str | None = typer.Argument(
        None, metavar="[B]", help="Another one's; the state as it is now, if left out."
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Say how many keys differ from one snapshot to another, and name some.

    Rows are compared byte by byte, so a key differs also when only its waiting labels do. A shard
    is what the agent has of one partition; its rows as a whole, which belong to no key, are
    counters, log time and metrics.

    Changes nothing.

    Example: `headrace snapshot diff card-fraud.before-sale`
    """
    with connect(address) as client, snapshot_meant(client), waiting("comparing"):
        found = client.diff_snapshots(earlier, later)
    as_json(found) if json else show_snapshots.diff(found)


def export(
    snapshot_id: str = Id,
    file: Path = typer.Argument(help="Where to write it.", show_default=False),
    yes: bool = Yes,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Write a snapshot to a file, to be kept apart or imported by another service.

    It says the digest of what it wrote: whoever imports it needs that, by another way than the
    file. Any `tar` lists what is in it.

    Changes nothing of the service; FILE is written over if it is there, when you agree.

    Example: `headrace snapshot export card-fraud.before-sale before-sale.tar`
    """
    if file.exists():
        if not file.is_file():
            raise RequestError("invalid_request", f"{file} is there, and it is no file")
        over = f"{file} ({decimal(file.stat().st_size)})"
        check_somebody("Write over it?", yes=yes, why=f"{over} is there already, and ")
        if yes:
            err.print(f"writing over {over}", soft_wrap=True, markup=False)
        ask(f"Write over {over}?", yes=yes)
    with (
        connect(address) as client,
        snapshot_meant(client),
        _progress("exporting") as progress,
    ):
        digest = client.export_snapshot(snapshot_id, file, progress)
    size = file.stat().st_size
    if json:
        as_json({"snapshot_id": snapshot_id, "digest": digest, "size_bytes": size})
        return
    say(f"exported [bold]{escape(snapshot_id)}[/] to {escape(str(file))}, {decimal(size)}")
    say(f"  digest {digest}")
    command = f"{program()} snapshot import {file} --digest {digest}"
    say(f"  elsewhere: `{escape(command)}`")


def import_(
    file: Path = typer.Argument(help="What an export wrote.", show_default=False),
    digest: str = typer.Option(
        metavar="SHA256",
        help="What `snapshot export` printed, which is no checksum of the file; bytes that it does "
        "not vouch for are refused.",
        show_default=False,
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Bring a snapshot from a file, under the id that it had. It is kept until it is deleted.

    The agent of that name can be rolled back to it (`--mode revert`) if it has the same spec and
    as many partitions. Without the right digest nothing of the file is decoded. One that is here
    already, with these bytes, is left as it is; with other bytes it is refused (`snapshot_exists`),
    also where they are others because a key has been forgotten since.

    Changes no agent; the snapshot takes room in the repository.

    Example: `headrace snapshot import before-sale.tar --digest "$DIGEST"`
    """
    with connect(address) as client, _progress("importing") as progress:
        there = {view.snapshot_id: view for view in client.snapshots()}
        view = client.import_snapshot(file, digest, progress)
    if json:
        as_json(show_snapshots.plain(view))
    elif view == there.get(view.snapshot_id):
        id_ = f"[bold]{escape(view.snapshot_id)}[/]"
        say(f"{id_} is here already, with these bytes: nothing was written")
    else:
        show_snapshots.snapshot(view)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, and what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
