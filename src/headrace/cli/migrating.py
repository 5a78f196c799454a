"""What `--migration` says, and what it would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.cli.console import Console, grid, out
from headrace.cli.show import escape
from headrace.counts import ARE, HAVE, counted
from headrace.errors import RequestError
from headrace.views import How, Migration, MigrationPlan

if TYPE_CHECKING:
    from headrace.serving.client import Client

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


def answers_nothing(client: Client, spec: bytes, migration: Migration) -> bool:
    """Whether the agent of a refold has failed. `spec`: one that the service takes."""
    if migration.how != "refold":
        return False
    from headrace.models.spec.text import read_document  # it loads the models

    return client.agent(read_document(spec)["agent"]).state == "failed"


def plan(
    found: MigrationPlan, migration: Migration, on: Console | None = None, *, failed: bool = False
) -> None:
    """What differs between the two specs, and what becomes of what was learned. `failed`: the agent
    answers nothing now.
    """
    console = on or out
    versions = f"spec version {found.new_spec_version}", f"instead of {found.spec_version}"
    if found.changes:
        shown = found.changes[:CHANGES_SHOWN]
        grid(versions, [(f"[bold]{escape(c.path)}[/]", escape(c.text)) for c in shown], on=on)
    else:
        console.print(f"{' '.join(versions)}: the same spec", soft_wrap=True)
    if len(found.changes) > CHANGES_SHOWN:
        console.print(f"and {len(found.changes) - CHANGES_SHOWN:,} more", soft_wrap=True)
    are = counted(found.events, "event", ARE)
    have = counted(found.events, "event", HAVE)
    under = " under the new spec" if found.changes else ""
    said = {
        "keep": "what was learned stays, and learns on under the new spec",
        "reset": f"what {have} taught goes: every key begins cold",
        "refold": f"{are} learned again{under}; "
        f"until that is done it answers {'nothing, as now' if failed else 'as before'}",
        "from": f"the state of {escape(migration.snapshot_id)} comes back; what {have} "
        "taught since goes",
    }
    console.print(f"[bold]{migration.how}[/]: {said[migration.how]}", soft_wrap=True)
    if migration.how != "keep" and found.changes and not found.keep_problems:
        console.print("`keep` would do, too: nothing of it would be lost", soft_wrap=True)
