"""`headrace demo`: the main job on real input, live on the screen."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.markup import escape

from headrace import logs
from headrace.cli.console import StandardError, out, say, waiting
from headrace.cli.program import program
from headrace.config import load
from headrace.errors import StateError
from headrace.extras import install

NEXT = (
    ("up", "your own service; it prints its addresses"),
    ("spec --example", "a spec to start from"),
    ("deploy my.yaml --dry-run", "which events it would refuse, and why"),
    ("backtest my.yaml my.csv", "learn from a file, without a broker"),
)


def demo(
    ratings: int | None = typer.Option(
        None, min=1000, help="Only so many film ratings (of 100,000).", show_default=False
    ),
    cache: Path = typer.Option(Path(".cache"), help="Where fetched data is kept.", file_okay=False),
) -> None:
    """Run two scenes on real input, and roll back what goes wrong in them, in two to four minutes.

    Films are recommended, until poisoned ratings flood in; heaters are controlled, until the sensor
    of one sticks. Both are taken back while everything answers.

    Everything is real: a broker, events, models per key, decisions, gRPC. Nothing is left behind
    but the fetched data. The heaters come with the extra `demo`: `pip install '.[demo]'` in a
    checkout; `make demo` installs it by itself.

    Changes nothing of yours: its broker and its state go with it.

    Example: `headrace demo --ratings 20000`
    """
    if find_spec("tclab") is None:
        words = "the demo needs its simulator, the extra `demo`"
        raise StateError(f"{words}: in a checkout, `{install('demo')}`, or `make demo`")
    settings = load({"broker": "memory:", "grpc_port": 0, "metrics_port": "off"})
    logs.setup(level="error", style=settings.log_format, stream=StandardError.stream())
    with waiting("loading models (Ctrl-C gives up)"):
        from headrace.demo.scene import Demo
    asyncio.run(Demo(settings, out, cache, ratings=ratings).run())
    where_to_look_next()


def where_to_look_next() -> None:
    """The next commands, as they can be typed here."""
    say("\n[bold]Where to look next[/]")
    headrace = program()
    width = len(headrace) + max(len(command) for command, _ in NEXT)
    for command, about in NEXT:
        say(f"  {escape(f'{headrace} {command}'):<{width + 1}}  {about}")
