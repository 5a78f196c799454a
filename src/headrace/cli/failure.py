"""How a command ends when it cannot do what it was asked: words, never a traceback, and a code.

0: done. 1: it did not work out, or it is not there. 2: what was asked is wrong: usage, spec,
settings, a request. 130: Ctrl-C. 141: whoever read the output has gone (as of any Unix program).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import msgspec
from rich.markup import escape
from typer import BadParameter, Context, Exit
from typer.core import TyperCommand, TyperGroup

from headrace.cli.console import err
from headrace.errors import (
    ConfigError,
    HeadraceError,
    OtherBuildError,
    RequestError,
    SpecError,
    StateError,
    Violation,
    ViolationsError,
)
from headrace.logs import fields

log = logging.getLogger(__name__)

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
READER_GONE = 141

UNTOLD = ("invalid_request", "internal")
"""Codes of the table that are only for programs: the text says it all."""
HEADINGS: dict[type[HeadraceError], str] = {
    SpecError: "the spec cannot be deployed",
    ConfigError: "settings that cannot be used",
}
UsageError: Any = BadParameter.__mro__[1]
"""Every mistake in what was typed; typer has a public name for this one kind only."""
NO_WORDS_OF_OURS = "Value error, "  # what pydantic, which reads values for typer, puts first
OTHER_WORDS = {"delete": "rm", "remove": "rm", "unpin": "pin ID --off"}
"""What people type for a command, and how it is called where there is such a one."""


class Command(TyperCommand):
    """A command whose errors end in words. With `--json` they are one JSON object."""

    def make_context(self, info_name: Any, args: list[str], *rest: Any, **extra: Any) -> Any:
        with _usage(list(args)):
            return super().make_context(info_name, args, *rest, **extra)

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_alone(super().get_params(ctx))

    def invoke(self, ctx: Context) -> Any:  # type: ignore[override]  # typer hides its own Context
        try:
            return super().invoke(ctx)
        except HeadraceError as error:
            tell(error, json=bool(ctx.params.get("json")))
            raise Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            raise Exit(INTERRUPTED) from None
        except BrokenPipeError:
            forget_output()
            raise Exit(READER_GONE) from None


class Group(TyperGroup):
    """Commands under one name."""

    def make_context(self, info_name: Any, args: list[str], *rest: Any, **extra: Any) -> Any:
        with _usage(list(args)):
            return super().make_context(info_name, args, *rest, **extra)

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_alone(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        meant = OTHER_WORDS.get(args[0], "")
        with _usage(args):
            if args[0] not in self.commands and meant.partition(" ")[0] in self.commands:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
            return super().resolve_command(ctx, args)


@contextmanager
def _usage(args: Sequence[str]) -> Iterator[None]:
    """While what was typed is read: with `--json` a mistake in it is told as any error is.

    Raises Exit then.
    """
    try:
        yield
    except UsageError as error:
        error.message = error.message.removeprefix(NO_WORDS_OF_OURS)
        if not _for_machines(args):
            raise
        tell(RequestError("invalid_request", error.format_message()), json=True)
        raise Exit(BAD_INPUT) from None


def _for_machines(args: Sequence[str]) -> bool:
    """Whether `--json` is among them; after `--` nothing is an option."""
    return "--json" in takewhile(lambda word: word != "--", args)


def _flags_alone(params: list[Any]) -> list[Any]:
    """The same options; help does not show a value where a flag takes none."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class Watch(Group):
    """`headrace watch`, for whom its first word is taken for an agent's name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            meant = f"did you mean `headrace watch decisions {args[0]}`?"
            error = RequestError("invalid_request", f"there is no {args[0]!r} to watch; {meant}")
            tell(error, json=_for_machines(args))
            raise Exit(BAD_INPUT)
        return super().resolve_command(ctx, args)


def exit_code(error: HeadraceError) -> int:
    """2 where the caller has to change what was asked, else 1."""
    if isinstance(error, ViolationsError):
        return BAD_INPUT
    if isinstance(error, RequestError):
        from headrace.serving.status import row_of  # the one table of errors; it loads gRPC

        return BAD_INPUT if row_of(error).status.name == "INVALID_ARGUMENT" else FAILED
    return FAILED


def tell(error: HeadraceError, *, json: bool = False) -> None:
    """Say it on standard error: every violation with its path and hint."""
    violations: tuple[Violation, ...] = tuple(getattr(error, "violations", ()))
    listed = isinstance(error, ViolationsError)
    if json:
        code = getattr(error, "code", None) or type(error).__name__
        found = {"code": code, "text": str(error), "violations": violations}
        sys.stderr.write(msgspec.json.encode({"error": found}).decode() + "\n")
        return
    text = HEADINGS[type(error)] + ":" if listed else str(error)
    # What an event lacks is told by its place in the event, as the quarantine does.
    same = [violation.path for violation in violations if violation.text == text]
    where = "".join(f"[bold]{escape(path)}[/]: " for path in same if path.startswith("$"))
    err.print(f"[bold red]error:[/] {where}{escape(text + _coded(error))}", soft_wrap=True)
    for violation in violations:
        if text in (violation.text, f"{violation.path} {violation.text}"):
            continue
        path, hint = escape(violation.path), escape(violation.hint)
        said = f"  [bold]{path}[/]: {escape(violation.text)}" + (
            f" [dim]({hint})[/]" if hint else ""
        )
        err.print(said, soft_wrap=True)


def told(error: HeadraceError) -> str:
    """Its text, and the code under which the tables of docs/ say what to do."""
    return f"{error}{_coded(error)}"


def _coded(error: HeadraceError) -> str:
    """` (code)`; nothing where no table has the code, or it says no more than the text does."""
    if not isinstance(error, RequestError | OtherBuildError):
        return ""
    from headrace.serving.status import TABLE, code_of  # the one table of errors; it loads gRPC

    code = code_of(error)
    return f" ({code})" if code in TABLE and code not in UNTOLD else ""


def infrastructure(error: BaseException) -> HeadraceError:
    """What a service failed of, as an error with one sentence.

    What nobody raised on purpose is a bug: its traceback goes into the log, once.
    """
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, OSError) and error.strerror:
        if error.filename:  # the only files of a service are its state
            words = f"{error.filename} cannot be used: {error.strerror}"
            return StateError(f"{words}; mend that, or name another --state-dir")
        return StateError(error.strerror)
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if type(error).__module__.partition(".")[0] not in ("aiokafka", "asyncio", "mode"):
        log.error("service.bug", extra=fields(error=text), exc_info=error)
    return StateError(text)


def forget_output() -> None:
    """Let what is still in the buffer go nowhere, so that the end of the process is quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
