"""Asking before something is done that many would regret."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import msgspec
import typer

from headrace.cli.console import err
from headrace.errors import RequestError

Yes = typer.Option(False, "--yes", "-y", help="Do not ask; say what is done, and do it.")


def check_somebody(question: str, *, yes: bool, look: str = "", why: str = "") -> None:
    """Refuse where nobody could be asked the question, and tell it.

    `look`: the option that only shows what would change. `why`: what makes it necessary to ask.
    Raises RequestError.
    """
    if yes or sys.stdin.isatty():
        return
    text = f'{why}nobody is here to be asked "{question}": say --yes'
    text += f", or {look}, which only shows what would change" if look else ""
    raise RequestError("invalid_request", text)


def ask(question: str, *, yes: bool) -> None:
    """Go on, or raise typer.Abort. With `yes` nobody is asked."""
    if yes:
        return
    try:
        with redirect_stdout(sys.stderr):  # the space after the question would get into a result
            agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or Ctrl-D, and the line of the question is not ended
        err.print()
        agreed = False
    if not agreed:
        err.print("nothing was changed")
        raise typer.Abort


def foretell(**found: object) -> None:
    """Say for machines, on standard error, what is about to be done: one JSON object in a line."""
    sys.stderr.write(msgspec.json.encode(found).decode() + "\n")
