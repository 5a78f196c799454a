"""`headrace catalog`: what a spec may name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.markup import escape

from headrace.cli.client import Json
from headrace.cli.console import as_json, err, grid, say, waiting
from headrace.errors import NotFoundError

if TYPE_CHECKING:
    from headrace.models.catalog import Entry


def catalog(
    name: str | None = typer.Argument(
        None, help="One estimator in detail, or a part of names.", show_default=False
    ),
    kind: str | None = typer.Option(
        None, help="Only of this kind: binary, regressor, transformer …", show_default=False
    ),
    json: bool = Json,
) -> None:
    """List the estimators that a spec may name, with their parameters and cost class.

    Changes nothing.

    Example: `headrace catalog linear_model.LogisticRegression`
    """
    with waiting("loading models"):
        from headrace.models.catalog import catalog as all_entries

        entries = all_entries()
    if name is not None and name in entries and kind is None:
        as_json(_plain(entries[name])) if json else _one(entries[name])
        return
    found = [
        entry
        for entry in entries.values()
        if (not name or name.lower() in entry.name.lower()) and kind in (None, entry.kind)
    ]
    if not found:
        raise _nothing(name, kind)
    if json:
        as_json([_plain(entry) for entry in found])
        return
    columns = ("estimator", "kind", "cost", "parameters")
    grid(columns, [(e.name, e.kind, e.cost or "–", _brief(e)) for e in found])
    err.print(f"{len(found)} of {len(entries)}; `headrace catalog NAME` shows one in detail")


def _nothing(name: str | None, kind: str | None) -> NotFoundError:
    """Why there is no such entry: it may be known, and out for a reason."""
    from headrace.models.catalog import catalog as all_entries
    from headrace.models.catalog import out_of_catalog

    out = {known: why for known, why in out_of_catalog().items() if name and name in known}
    if out:
        text = "; ".join(f"{known} cannot be named in a spec: {why}" for known, why in out.items())
    elif kind is not None:
        kinds = ", ".join(sorted({entry.kind for entry in all_entries().values()}))
        text = f"nothing of kind {kind!r}" + (f" has {name!r} in its name" if name else "")
        text += f"; kinds are {kinds}"
    else:
        text = f"nothing in the catalog has {name!r} in its name"
    return NotFoundError("unknown_estimator", text)


def _one(entry: Entry) -> None:
    say(f"[bold]{entry.name}[/]" + (" (Headrace's own)" if entry.ours else ""))
    about = inspect.getdoc(entry.cls)
    if about:
        say(escape(about.split("\n\n")[0].replace("\n", " ")))
    say(f"kind      {entry.kind}")
    say(f"cost      {entry.cost or 'a part of estimators: what they cost'}")
    say(f"is read   {entry.reads}")
    if not entry.parameters:
        say("has no parameters")
        return
    columns = ("parameter", "takes", "default")
    grid(columns, [(p.name, escape(p.takes), _default(p)) for p in _parameters(entry)])


def _default(parameter: Shown) -> str:
    if parameter.default is not None:
        return escape(parameter.default)
    return "[yellow]required[/]" if parameter.required else "–"


def _brief(entry: Entry) -> str:
    """`lr=0.01, mu`: enough to see whether one wants to know more."""
    return escape(
        ", ".join(
            p.name if p.default is None else f"{p.name}={p.default}" for p in _parameters(entry)
        )
    )


def _plain(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "cost": entry.cost,
        "reads": entry.reads,
        "ours": entry.ours,
        "parameters": [parameter._asdict() for parameter in _parameters(entry)],
    }


class Shown(NamedTuple):
    """A parameter as text."""

    name: str
    takes: str
    default: str | None  # None: it has none
    required: bool


def _parameters(entry: Entry) -> list[Shown]:
    found = []
    for name, parameter in entry.parameters.items():
        takes, _, default = str(parameter).removesuffix(" (required)").partition(" = ")
        found.append(Shown(name, takes, default or None, parameter.required))
    return found
