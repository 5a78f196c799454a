"""`headrace upgrade`: what another build of Headrace, River or numpy would do to the agents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from headrace import logs
from headrace.cli.brokers import wait_for
from headrace.cli.client import Json
from headrace.cli.console import StandardError, as_json, grid, say, waiting
from headrace.cli.failure import BAD_INPUT, FAILED, infrastructure, tell
from headrace.cli.up import setting
from headrace.config import Config, hash_seed, load
from headrace.counts import counted
from headrace.errors import ConfigError, HeadraceError, RequestError, Violation

if TYPE_CHECKING:
    from headrace.pipelines.upgrading import Outlook
    from headrace.state.manifest import Versions

WHY_SHOWN = 3
"""Texts that say why an agent does not keep its state; `--json` has all."""


def upgrade(
    check: bool = typer.Option(
        False, "--check", help="Say what an upgrade to this build would do. Changes nothing."
    ),
    broker: str | None = setting("broker", "Of the service: kafka://host:port,… or local:DIR"),
    app: str | None = setting("app", "The service's own."),
    state_dir: Path | None = setting(
        "state_dir", "The service's own, for its snapshots.", ".headrace/APP"
    ),
    snapshots: str | None = setting(
        "snapshots", "Where the service keeps snapshots.", "in the state directory"
    ),
    config: Path | None = typer.Option(
        None, help="The service's TOML file.", exists=True, dir_okay=False, show_default=False
    ),
    json: bool = Json,
) -> None:
    """Say before an upgrade which agents keep their state, and which must learn again.

    Run it from an environment with the *new* Headrace, River and numpy, with the settings of the
    service, while that runs on as it is. Each snapshot carries probes: a few events, and exactly
    what the models of some keys said and learned of them where they were made. Here they are tried
    on the newest snapshot of every agent. Where all comes out again, bit for bit, the new build
    goes on from it, and learns the events since then again, without deciding on them twice. Where
    anything differs it will refuse the state, and the agent must learn its log anew: `headrace
    deploy SPEC --migration refold`. Nothing of the service is touched, and no group is joined.

    The exit code is 0 if all agents keep their state, 1 if one does not. 2: it could not look (no
    broker, another app, no snapshots), which says nothing of the agents. docs/upgrade.md has the
    whole way, and the way back.

    Changes nothing, neither here nor there.

    Example: `headrace upgrade --check --config /etc/headrace.toml`
    """
    if not check:
        text = "say --check: an upgrade itself is no more than a start of the new build"
        raise RequestError("invalid_request", text)
    given = {"broker": broker, "app": app, "state_dir": state_dir, "snapshots": snapshots}
    settings = load(given, file=config)
    logs.setup(level="error", style=settings.log_format, stream=StandardError.stream())
    with waiting("loading models"):
        from headrace.models.codec import CODEC_VERSION
        from headrace.state.directory import Identity
    identity = Identity.of_this_build(
        app=settings.app, cluster_id="", codec=str(CODEC_VERSION), hash_seed=hash_seed()
    )
    try:
        found = asyncio.run(_outlooks(settings, identity.versions))
    except (HeadraceError, OSError) as error:  # a 1 would say that an agent loses its state
        tell(infrastructure(error), json=json)
        raise typer.Exit(BAD_INPUT) from None
    if json:
        agents = [{**msgspec.to_builtins(one), "keeps": one.keeps} for one in found]
        as_json({"build": identity.versions, "agents": agents})
    else:
        _show(found, identity.versions)
    if not all(one.keeps for one in found):
        raise typer.Exit(FAILED)


async def _outlooks(settings: Config, versions: Versions) -> list[Outlook]:
    from headrace.pipelines.broker import open_broker
    from headrace.pipelines.probing import Probing
    from headrace.pipelines.topics import Topics
    from headrace.pipelines.upgrading import Upgrade

    state = settings.state_path()
    if settings.broker.startswith("memory:") or state is None:
        text = "`memory:` keeps nothing that a new build could go on from"
        hint = "name the broker of the service that is to be upgraded"
        raise ConfigError([Violation(settings.sources.get("broker", "broker"), text, hint)])
    async with AsyncExitStack() as taken:
        place = Path(taken.enter_context(TemporaryDirectory(prefix="headrace-upgrade-")))
        broker = open_broker(settings.broker, place / "broker", wait_s=settings.broker_wait_s)
        await wait_for(broker, settings)
        taken.push_async_callback(broker.stop)
        topics = Topics(broker)
        await topics.start()
        taken.push_async_callback(topics.stop)
        url = settings.snapshots_url(state)
        upgrade = Upgrade(topics, broker.bootstrap, url, Probing(versions), place)
        with waiting("trying the newest snapshot of every agent"):
            return await upgrade.outlooks(settings.app)


def _show(found: list[Outlook], build: Versions) -> None:
    if not found:
        say("no agent is deployed there")
        return
    grid(
        ("agent", "state written with", "here", ">events to learn again", "why"),
        [
            (
                escape(one.agent),
                ", ".join(_wrote(wrote, build) for wrote in one.wrote) or "-",
                "[green]keeps its state[/]" if one.keeps else "[bold red]must refold[/]",
                f"{one.again:,}" if one.keeps else "all",
                escape("\n".join(one.why[:WHY_SHOWN])),
            )
            for one in found
        ],
    )
    must = [one.agent for one in found if not one.keeps]
    keep = len(found) - len(must)
    keeps = "keeps its" if len(found) == 1 else "keep their"
    here = f"This is {_build(build)}: {keep} of {counted(len(found), 'agent')} {keeps} state"
    if not must:
        say(f"{here}.")
        return
    say(
        f"{here}. The new build refuses that of the others until they have learned again, each by "
        "[bold]headrace deploy SPEC --migration refold[/]."
    )


def _wrote(versions: Versions, here: Versions) -> str:
    """In what a build differs from this one; its codec, too, where that differs."""
    names = versions.__struct_fields__
    differ = [name for name in names if getattr(versions, name) != getattr(here, name)]
    return _named(versions, differ) if differ else "this build"


def _build(versions: Versions) -> str:
    """What people call a build, its codec set aside."""
    return _named(versions, ["headrace", "river", "numpy", "python"])


def _named(versions: Versions, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {getattr(versions, name)}" for name in names)
