"""Whether the broker answers: asked every few seconds, told once when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import KafkaError

from headrace.errors import UnavailableError
from headrace.logs import fields
from headrace.pipelines.broker import Broker, ask

log = logging.getLogger(__name__)
_T = TypeVar("_T")

ASK_S = 2.0
"""Between two questions to a broker that answers."""
ASK_AGAIN_S = 0.5
"""Between two questions to one that does not."""
ANSWER_S = 3.0
"""A broker that has not answered after this is away."""
LATE_S = 0.1
"""If the end of that wait comes so late, who waited was not running."""


class Presence:
    """Asks the broker for its metadata again and again. Order of calls: `watch` is a task that runs
    until it is cancelled; everything else at any time.

    Two lines of the log tell of an outage: `broker.away` when the first question is not answered,
    `broker.back` with its length when one is. `on_back` is called then.

    `watch` raises UnavailableError when a broker of our own has ended, because it will not be back.
    """

    def __init__(self, broker: Broker) -> None:
        self.on_back: Callable[[], None] = lambda: None
        self._broker = broker
        self._answers = asyncio.Event()
        self._answers.set()
        self._heard_at = asyncio.get_running_loop().time()

    @property
    def away_s(self) -> float:
        """Seconds since the last answer of a broker that is away; 0.0: it answers."""
        if self._answers.is_set():
            return 0.0
        return asyncio.get_running_loop().time() - self._heard_at

    def check(self) -> None:
        """Raises UnavailableError `broker_away` at once, for calls that would wait for it."""
        if self.away_s:
            raise UnavailableError(
                "broker_away", f"the broker has not answered for {self.away_s:.0f} s"
            )

    async def watch(self) -> None:
        """Ask for ever."""
        while True:
            await asyncio.sleep(ASK_S if self._answers.is_set() else ASK_AGAIN_S)
            asked_at = asyncio.get_running_loop().time()
            error = await self._error()
            took_s = asyncio.get_running_loop().time() - asked_at
            if error is not None and took_s > ANSWER_S + LATE_S:
                error = await self._error()  # it was this process that stood still: ask again
            if error is None:
                self._heard()
            else:
                self._silent(error)

    async def _error(self) -> Exception | None:
        """Why the broker does not answer now; None: it does."""
        try:
            await ask(self._broker.bootstrap, ANSWER_S)
        except (OSError, KafkaError) as error:
            return error
        return None

    def _silent(self, error: Exception) -> None:
        if self._broker.ended():
            lost = "" if self._broker.durable else ", and all events with it"
            raise UnavailableError(
                "broker_away", f"the embedded broker is gone{lost}; start again"
            ) from error
        if self._answers.is_set():
            self._answers.clear()
            reason = str(error) if isinstance(error, OSError) else ""
            log.warning(
                "broker.away",
                extra=fields(
                    at=self._broker.bootstrap, reason=reason or f"silent for {ANSWER_S:g} s"
                ),
            )

    def _heard(self) -> None:
        away_s = self.away_s
        self._heard_at = asyncio.get_running_loop().time()
        if away_s:
            self._answers.set()
            log.warning(
                "broker.back", extra=fields(at=self._broker.bootstrap, seconds=round(away_s, 1))
            )
            self.on_back()


async def patiently(work: Callable[[], Awaitable[_T]], over: Callable[[], bool]) -> _T:
    """Do what needs the broker; as long as it is away, and not `over`, do it again.

    For work that does no harm twice. Raises what `work` raises, `broker_away` only once it is over.
    """
    waits = False
    while True:
        try:
            return await work()
        except UnavailableError as error:
            if error.code != "broker_away" or over():
                raise
            if not waits:
                waits = True
                log.warning("broker.waited_for", extra=fields(error=str(error)))
        await asyncio.sleep(ASK_AGAIN_S)
