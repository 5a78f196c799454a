"""A broker that is started or waited for, in words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.markup import escape

from headrace.cli.console import err, waiting
from headrace.config import Config
from headrace.errors import UnavailableError

if TYPE_CHECKING:
    from headrace.pipelines.broker import Broker

SAYS_SO_AFTER_S = 2.0
"""How long a broker may be silent before somebody who waits is told."""


async def wait_for(broker: Broker, settings: Config) -> None:
    """Start it, or wait until it answers; somebody who has to wait is told what for.

    Raises what `broker.start` raises.
    """
    text = f"{settings.broker} does not answer yet, waiting up to {settings.broker_wait_s:g} s"
    doing = f"waiting for {settings.broker}"
    if not _of_others(settings):  # it takes a moment to start, and that is no trouble
        directory = broker.url.removeprefix("local:")
        what = f"Kafka in {directory}" if broker.durable else f"the embedded broker ({broker.url})"
        text = doing = f"starting {what}"
    loop = asyncio.get_running_loop()
    reminder = loop.call_later(SAYS_SO_AFTER_S, lambda: err.print(escape(text), soft_wrap=True))
    try:
        with waiting(f"{escape(doing)} (Ctrl-C gives up)"):
            await broker.start()
    except UnavailableError as error:
        if not _of_others(settings):
            raise
        advice = "start it, or name another with --broker"
        raise UnavailableError(error.code, f"{error}; {advice}") from None
    finally:
        reminder.cancel()


def _of_others(settings: Config) -> bool:
    """Whether somebody else runs the broker, so that it may come back."""
    return settings.broker.startswith("kafka:")
