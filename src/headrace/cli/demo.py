"""`headrace demo`: the main job on real input, live on the screen."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import typer

from headrace import logs
from headrace.cli.console import StandardError, out, waiting
from headrace.config import load
from headrace.errors import StateError


def demo(
    ratings: int | None = typer.Option(
        None, min=1000, help="Only so many film ratings (of 100,000).", show_default=False
    ),
    cache: Path = typer.Option(Path(".cache"), help="Where fetched data is kept.", file_okay=False),
) -> None:
    """Run two scenes on real input: films to recommend, heaters to control. Takes about a minute.

    Everything is real: a broker, events, models per key, decisions, gRPC. Nothing is left behind
    but the fetched data.

    Example: `headrace demo --ratings 20000`
    """
    if find_spec("tclab") is None:
        raise StateError("the demo needs its simulator: in a checkout, pip install '.[demo]'")
    settings = load({"broker": "memory:", "grpc_port": 0, "metrics_port": "off"})
    logs.setup(level="error", style=settings.log_format, stream=StandardError.stream())
    with waiting("loading models (Ctrl-C gives up)"):
        from headrace.demo.scene import Demo
    asyncio.run(Demo(settings, out, cache, ratings=ratings).run())
