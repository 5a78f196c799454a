"""Asking before something is done that many would regret."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import typer

from headrace.errors import RequestError

Yes = typer.Option(False, "--yes", "-y", help="Do not ask.")


def check_somebody(*, yes: bool) -> None:
    """Refuse where nobody could be asked. Raises RequestError."""
    if not yes and not sys.stdin.isatty():
        raise RequestError("invalid_request", "nobody is here to be asked: say --yes")


def ask(question: str) -> None:
    """Go on, or raise typer.Abort."""
    with redirect_stdout(sys.stderr):  # the space after the question would get into a result
        typer.confirm(question, abort=True, err=True)
