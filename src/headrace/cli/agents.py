"""Deploying, listing, pausing, resuming and deleting agents."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from headrace.cli import migrating, show
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody
from headrace.cli.console import as_json, err, waiting


def deploy(
    file: Path = typer.Argument(
        help="The spec, YAML or JSON; `-` reads it from standard input.", show_default=False
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Deploy nothing; say what a deploy would refuse, and what of the last 200 records.",
    ),
    migration: str | None = typer.Option(
        None,
        metavar="HOW",
        help="Where another spec has the name, what becomes of its state: `keep` it, `reset` it, "
        "`refold` the log, or `from=ID`, a snapshot's.",
        show_default=False,
    ),
    yes: bool = Yes,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Deploy a model agent while the service runs, or give one another spec.

    All that is wrong with the spec is told at once. The same spec deployed twice changes nothing.
    Another one under a name that is in use is a new version of the agent's spec. `keep` lets
    models learn on under it, where they can; `reset` begins cold; `refold` learns the log again
    while the old version answers; `from=ID` goes on from a snapshot. All but `keep` show first
    what would change, and ask.

    Example: `headrace deploy card-fraud.yaml --migration keep`
    """
    how = migrating.asked(migration)
    asks = how is not None and how.how != "keep" and not (dry_run or yes)
    if asks:
        check_somebody(yes=yes)
    with connect(address) as client:
        spec = _read(file)
        if how is not None and asks:
            with waiting("comparing the two specs"):
                plan = client.dry_run(spec, how).migration
            if plan is not None:
                migrating.plan(plan, how, err)
                ask(f"Deploy spec version {plan.new_spec_version}?")
        if dry_run:
            with waiting("trying it on recent records"):
                found = client.dry_run(spec, how)
            as_json(found) if json else show.dry_run(found)
            if how is not None and found.migration is not None and not json:
                migrating.plan(found.migration, how)
            return
        with waiting("deploying; a topic that nobody reads yet takes a few seconds"):
            effect = client.deploy(spec, how)
    as_json(effect) if json else show.effect(effect, "deployed")


def _read(file: Path) -> bytes:
    """The spec, once: what was agreed to is what is deployed. Raises RequestError."""
    from headrace.serving.calls import spec_bytes  # it loads gRPC

    return spec_bytes(sys.stdin.buffer.read() if str(file) == "-" else file)


def agents(
    agent: str | None = typer.Argument(
        None, help="One agent, with its partitions and its spec.", show_default=False
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """List the agents: state, lag, metrics beside their baselines.

    Example: `headrace agents card-fraud`
    """
    with connect(address) as client:
        if agent is None:
            views = client.agents()
            as_json(views) if json else show.agents(views)
        else:
            view = client.agent(agent)
            as_json(view) if json else show.agent(view)


def pause(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """Stop learning; the agent goes on predicting and deciding.

    Example: `headrace pause card-fraud`
    """
    with connect(address) as client:
        effect = client.pause(agent)
    as_json(effect) if json else show.effect(effect, "paused")


def resume(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """Learn again, from here on. What came during the pause is not learned.

    Example: `headrace resume card-fraud`
    """
    with connect(address) as client:
        effect = client.resume(agent)
    as_json(effect) if json else show.effect(effect, "resumed")


def delete(
    agent: str = Agent,
    yes: bool = Yes,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Delete an agent and all that it has learned. Its topics stay.

    Example: `headrace delete card-fraud --yes`
    """
    check_somebody(yes=yes)
    if not yes:
        ask(f"Delete {agent} and all that it has learned?")
    with connect(address) as client:
        effect = client.delete(agent)
    as_json(effect) if json else show.effect(effect, "deleted")
