"""`headrace`: all commands. What is heavy to load is loaded by the command that needs it."""

from __future__ import annotations

import io
import sys

import typer

from headrace import __version__
from headrace.cli import (
    agents,
    archives,
    ask,
    catalog,
    demo,
    forgets,
    offline,
    past,
    rollbacks,
    sending,
    snapshots,
    up,
    upgrade,
)
from headrace.cli.failure import Command, Group, Watch

SERVICE, AGENTS, ANSWERS, OFFLINE = "Service", "Agents", "Answers", "Without a service"
HISTORY = "Snapshots and rollbacks"

app = typer.Typer(
    name="headrace",
    cls=Group,
    help="Online machine learning on event streams: a small model per key, learned from every "
    "event, answering over gRPC.\n\nBegin with `headrace demo`, or `headrace up` and `headrace "
    "deploy FILE`. Each command's `--help` has an example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("up", cls=Command, rich_help_panel=SERVICE)(up.up)
app.command("demo", cls=Command, rich_help_panel=SERVICE)(demo.demo)
app.command("upgrade", cls=Command, rich_help_panel=SERVICE)(upgrade.upgrade)
app.command("deploy", cls=Command, rich_help_panel=AGENTS)(agents.deploy)
app.command("agents", cls=Command, rich_help_panel=AGENTS)(agents.agents)
app.command("pause", cls=Command, rich_help_panel=AGENTS)(agents.pause)
app.command("resume", cls=Command, rich_help_panel=AGENTS)(agents.resume)
app.command("delete", cls=Command, rich_help_panel=AGENTS)(agents.delete)
snapshot = typer.Typer(
    cls=Group,
    help="Keep cuts of agents' states, to roll back to.\n\nExample: `headrace snapshot ls`",
    no_args_is_help=True,
)
snapshot.command("create", cls=Command)(snapshots.create)
snapshot.command("ls", cls=Command)(snapshots.ls)
snapshot.command("show", cls=Command)(snapshots.show)
snapshot.command("diff", cls=Command)(archives.diff)
snapshot.command("pin", cls=Command)(snapshots.pin)
snapshot.command("rm", cls=Command)(snapshots.rm)
snapshot.command("export", cls=Command)(archives.export)
snapshot.command("import", cls=Command)(archives.import_)
app.add_typer(snapshot, name="snapshot", rich_help_panel=HISTORY)
app.command("rollback", cls=Command, rich_help_panel=HISTORY)(rollbacks.rollback)
app.command("undo", cls=Command, rich_help_panel=HISTORY)(rollbacks.undo)
app.command("rollbacks", cls=Command, rich_help_panel=HISTORY)(rollbacks.rollbacks)
app.command("verify", cls=Command, rich_help_panel=HISTORY)(past.verify)
app.command("forget", cls=Command, rich_help_panel=HISTORY)(forgets.forget)
app.command("forgotten", cls=Command, rich_help_panel=HISTORY)(forgets.forgotten)
app.command("predict", cls=Command, rich_help_panel=ANSWERS)(ask.predict)
app.command("key", cls=Command, rich_help_panel=ANSWERS)(ask.key)
app.command("send", cls=Command, rich_help_panel=ANSWERS)(sending.send)
watch = typer.Typer(
    cls=Watch,
    help="Follow what agents decide; docs/records.md says what is in a record.",
    no_args_is_help=True,
)
watch.command("decisions", cls=Command)(ask.decisions)
watch.command("withdrawn", cls=Command)(ask.withdrawn)
app.add_typer(watch, name="watch", rich_help_panel=ANSWERS)
app.command("quarantine", cls=Command, rich_help_panel=ANSWERS)(ask.quarantine)
app.command("backtest", cls=Command, rich_help_panel=OFFLINE)(offline.backtest)
app.command("spec", cls=Command, rich_help_panel=OFFLINE)(offline.spec)
app.command("catalog", cls=Command, rich_help_panel=OFFLINE)(catalog.catalog)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_version, is_eager=True
    ),
) -> None:
    """What comes before every command."""


def run() -> None:
    """Run the command line, and leave the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no – shows a ?
    app()
