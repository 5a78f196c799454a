"""Deploying, listing, pausing, resuming and deleting agents."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from headrace.cli import migrating, show
from headrace.cli.client import Address, Agent, Json, connect
from headrace.cli.consent import Yes, ask, check_somebody, foretell
from headrace.cli.console import as_json, as_yaml, err, waiting
from headrace.errors import RequestError


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
    what would change, and ask (`--yes` does not).

    Changes the one agent, and with `--dry-run` nothing. A topic that does not exist is made,
    where the broker is not `kafka://`.

    Example: `headrace deploy card-fraud.yaml --migration keep`
    """
    how = migrating.asked(migration)
    shows = how is not None and how.how != "keep" and not dry_run
    if shows:
        check_somebody("Deploy the next spec version?", yes=yes, look="--dry-run")
    with connect(address) as client:
        spec = _read(file)
        if how is not None and shows:
            with waiting("comparing the two specs"):
                plan = client.dry_run(spec, how).migration
            if plan is not None and yes and json:
                foretell(migration=plan)
            elif plan is not None:
                failed = migrating.answers_nothing(client, spec, how)
                migrating.plan(plan, how, err, failed=failed)
                ask(f"Deploy spec version {plan.new_spec_version}?", yes=yes)
        if dry_run:
            with waiting("trying it on recent records"):
                found = client.dry_run(spec, how)
            as_json(found) if json else show.dry_run(found)
            if how is not None and found.migration is not None and not json:
                failed = migrating.answers_nothing(client, spec, how)
                migrating.plan(found.migration, how, failed=failed)
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
    spec: int | None = typer.Option(
        None,
        min=1,
        metavar="VERSION",
        help="Print only this version of the agent's spec, as a file that can be deployed.",
        show_default=False,
    ),
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """List the agents: state, lag, metrics beside their baselines; or show one of them.

    Of one agent it shows the partitions, the spec with every default, and which versions of it
    there were since the deploy: `headrace agents card-fraud --spec 1` prints one of them.

    Changes nothing.

    Example: `headrace agents card-fraud`
    """
    if spec is not None and agent is None:
        raise RequestError("invalid_request", "--spec is one agent's: name it")
    with connect(address) as client:
        if agent is not None and spec is not None:
            found = client.spec(agent, spec)
            as_json(found) if json else as_yaml(found)
        elif agent is None:
            views = client.agents()
            as_json(views) if json else show.agents(views)
        else:
            view = client.agent(agent)
            as_json(view) if json else show.agent(view)


def pause(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """Stop learning; the agent goes on predicting and deciding.

    Changes what the agent learns from here on; its models stay as they are until `headrace
    resume`.

    Example: `headrace pause card-fraud`
    """
    with connect(address) as client:
        effect = client.pause(agent)
    as_json(effect) if json else show.effect(effect, "paused")


def resume(agent: str = Agent, address: str | None = Address, json: bool = Json) -> None:
    """Learn again, from here on. What came during the pause is not learned, now or later.

    Changes what the agent learns from here on.

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

    It shows first how much that is, and asks (`--yes` does not). Nothing takes it back: snapshots
    stay, too, but an agent that is deployed under the name again cannot be rolled back to them.

    Changes: the agent answers no more, its state and its name are free for another deploy.

    Example: `headrace delete card-fraud --yes`
    """
    question = f"Delete {agent} and all that it has learned?"
    with connect(address) as client:
        view = client.agent(agent)
        check_somebody(question, yes=yes)
        stranded = sum(not each.imported for each in client.snapshots(agent))
        if yes and json:
            foretell(agent=view, snapshots=stranded)
        else:
            show.doomed(view, stranded, err)
            ask(question, yes=yes)
        effect = client.delete(agent)
    as_json(effect) if json else show.effect(effect, "deleted")
