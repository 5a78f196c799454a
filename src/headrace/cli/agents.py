"""Deploying, listing, pausing, resuming and deleting agents."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from headrace.cli import show
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody
from headrace.cli.console import as_json, waiting


def deploy(
    file: Path = typer.Argument(
        help="The spec, YAML or JSON; `-` reads it from standard input.", show_default=False
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Deploy nothing; say what a deploy would refuse, and what of the last 200 records.",
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Deploy a model agent while the service runs.

    All that is wrong with the spec is told at once. The same spec deployed twice changes nothing.

    Example: `headrace deploy card-fraud.yaml --dry-run`
    """
    spec = sys.stdin.buffer.read() if str(file) == "-" else file
    with connect(address) as client:
        if dry_run:
            with waiting("trying it on recent records"):
                found = client.dry_run(spec)
            as_json(found) if json else show.dry_run(found)
            return
        with waiting("deploying; a topic that nobody reads yet takes a few seconds"):
            effect = client.deploy(spec)
    as_json(effect) if json else show.effect(effect, "deployed")


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
