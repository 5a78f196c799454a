"""What `--migration` says, and what it would change."""

from __future__ import annotations

from headrace.cli.console import Console, grid, out
from headrace.cli.show import escape
from headrace.errors import RequestError
from headrace.views import How, Migration, MigrationPlan

CHANGES_SHOWN = 20
ALONE: dict[str, How] = {"keep": "keep", "reset": "reset", "refold": "refold"}


def asked(text: str | None) -> Migration | None:
    """The migration that was asked for; None: none. Raises RequestError.

    >>> asked("from=a.friday")
    Migration(how='from', snapshot_id='a.friday')
    """
    if text is None:
        return None
    if text in ALONE:
        return Migration(how=ALONE[text])
    how, _, snapshot_id = text.partition("=")
    if how != "from" or not snapshot_id:
        wrong = f"--migration {text!r}: say keep, reset, refold or from=ID, a snapshot's"
        raise RequestError("invalid_request", wrong)
    return Migration(how="from", snapshot_id=snapshot_id)


def plan(found: MigrationPlan, migration: Migration, on: Console | None = None) -> None:
    """What differs between the two specs, and what becomes of what was learned."""
    console = on or out
    grid(
        (f"spec version {found.new_spec_version}", f"instead of {found.spec_version}"),
        [(f"[bold]{escape(c.path)}[/]", escape(c.text)) for c in found.changes[:CHANGES_SHOWN]],
        on=on,
    )
    if len(found.changes) > CHANGES_SHOWN:
        console.print(f"and {len(found.changes) - CHANGES_SHOWN:,} more", soft_wrap=True)
    events = f"{found.events:,} events"
    said = {
        "keep": "what was learned stays, and learns on under the new spec",
        "reset": f"what {events} have taught goes: every key begins cold",
        "refold": f"{events} are learned again under the new spec; until that is done the old "
        "version answers",
        "from": f"the state of {escape(migration.snapshot_id)} comes back; what {events} have "
        "taught since goes",
    }
    console.print(f"[bold]{migration.how}[/]: {said[migration.how]}", soft_wrap=True)
    if migration.how != "keep" and not found.keep_problems:
        console.print("`keep` would do, too: nothing of it would be lost", soft_wrap=True)
