"""Commands that need no service: backtest and spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.cli.client import Json
from headrace.cli.console import as_json, err, grid, say, waiting
from headrace.cli.example import EXAMPLE
from headrace.cli.metric import baseline, measured
from headrace.counts import counted
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.models.backtest import Report
    from headrace.models.spec import Spec


def backtest(
    spec: Path = typer.Argument(
        help="The spec, YAML or JSON.", exists=True, dir_okay=False, show_default=False
    ),
    data: Path = typer.Argument(
        help="Events: .csv, .jsonl or .jsonl.gz.", exists=True, dir_okay=False, show_default=False
    ),
    limit: int | None = typer.Option(None, min=1, help="Only so many events.", show_default=False),
    json: bool = Json,
) -> None:
    """Run a spec over a file, without a broker.

    Predicts before it learns, event by event, exactly as the service does on one partition.

    Changes nothing, and nothing of it is kept.

    Example: `headrace backtest card-fraud.yaml transactions.csv`
    """
    with waiting("loading models"):
        from headrace.models.backtest import backtest as run
        from headrace.models.spec import load_spec

        checked = load_spec(spec.read_bytes())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    quiet = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task(checked.agent, total=None)

        def advance(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        report = run(checked, data, progress=advance, limit=limit)
    as_json(report.to_dict()) if json else _report(report)


def spec(
    file: Path | None = typer.Argument(
        None, help="A spec to check.", exists=True, dir_okay=False, show_default=False
    ),
    schema: bool = typer.Option(False, "--schema", help="Print the JSON Schema, for editors."),
    example: bool = typer.Option(False, "--example", help="Print a spec to start from."),
    json: bool = Json,
) -> None:
    """Check a spec without a service, or print a spec to start from, or the schema.

    Changes nothing.

    Example: `headrace spec --example > card-fraud.yaml && headrace spec card-fraud.yaml`
    """
    if sum((file is not None, schema, example)) != 1:
        raise RequestError("invalid_request", "name a FILE to check, or say --schema or --example")
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    with waiting("loading models"):
        from headrace.models.spec import load_spec
    if schema:
        from headrace.models.spec import json_schema

        typer.echo(msgspec.json.format(msgspec.json.encode(json_schema())).decode())
        return
    assert file is not None
    checked = load_spec(file.read_bytes())
    with waiting("holding the model to its laws"):
        from headrace.models.rehearsal import require_deployable
        from headrace.models.spec.notes import notes

        require_deployable(checked)
    noted = list(notes(checked))
    if json:
        as_json(
            {
                "digest": checked.digest,
                "kind": checked.kind,
                "spec": checked.to_dict(),
                "notes": noted,
            }
        )
    else:
        _good(checked)
        for note in noted:
            say(f"  note: {escape(note)}")


def _good(checked: Spec) -> None:
    """A good spec in the lines that one looks at before a deploy."""
    data: dict[str, Any] = checked.to_dict()
    source, emit = data["source"], data["emit"]
    when = ", ".join(emit["when"]) if "when" in emit else "every decision"
    label = data.get("label", {})
    truth = label.get("field") or (
        f"{label['later']}, {label['after']} later, as {label['as']}" if label else "none"
    )
    say(f"[green]good[/]: [bold]{checked.agent}[/] can be deployed")
    scope = "one model for all" if checked.shared else "one model per key"
    for name, value in (
        ("digest", checked.digest),
        ("reads", f"{source['topic']}, key {source['key']}, from {source['start']} on"),
        ("features", ", ".join(f"{name} ({f['type']})" for name, f in data["features"].items())),
        ("model", f"{_model(data['model'])} ({checked.kind}, {scope})"),
        ("label", truth),
        ("decides", msgspec.json.encode(data["decide"]).decode()),
        ("metrics", ", ".join(checked.metrics) or "none"),
        ("emits", f"{when} to {emit['topic']}"),
    ):
        say(f"  {name:<9} {escape(value or 'none')}")
    say("  [dim]every default: headrace spec --json; deploy: headrace deploy FILE --dry-run[/]")


def _model(written: Any) -> str:
    """The steps in their order; a list among them is a pipeline within the pipeline.

    >>> _model([["A", {"B": {"x": 1}}], "C"])
    'A | B | C'
    """
    if isinstance(written, list):
        return " | ".join(_model(step) for step in written)
    return written if isinstance(written, str) else ", ".join(written)


def _report(report: Report) -> None:
    say(
        f"[bold]{report.agent}[/]: {counted(report.events, 'event')}, "
        f"{report.accepted:,} accepted, {report.learned:,} learned, "
        f"{counted(report.keys, 'key')}, {counted(report.decisions, 'decision')}"
    )
    if report.metrics:
        grid(
            ("metric", "baseline", ">events"),
            [(measured(m), baseline(m), f"{m.events:,}") for m in report.metrics],
        )
    if report.slowest:
        grid(
            ("slowest keys", ">events", ">ms", ">µs per event"),
            [
                (
                    escape(slow.key),
                    f"{slow.events:,}",
                    f"{slow.seconds * 1e3:,.1f}",
                    f"{slow.seconds / slow.events * 1e6:,.0f}",
                )
                for slow in report.slowest
            ],
        )
    for reason in report.refused:
        where = ", ".join(str(position.offset) for position in reason.examples)
        say(
            f"[red]{reason.count:,} refused[/]: {escape(reason.text)} "
            f"[dim]({reason.code}, for example rows {where})[/]"
        )
