"""States of the past that are open, a few at a time, so that the second answer is quick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from headrace.pipelines.past.derivation import Derivation
from headrace.views import Partition

KEPT_MAX = 4
"""States that stay open when they have answered; each has its files in a draft."""
IDLE_S = 60.0
"""After this long without a question a state is closed."""

Make = Callable[[], Coroutine[Any, Any, Derivation]]


class State(NamedTuple):
    """Which state it is: of that epoch there is one at that offset, whatever it is made from,
    until a key is forgotten.
    """

    agent: str
    life: int
    partition: Partition
    epoch: int
    offset: int
    forgotten: int  # what it must not know of, as of that offset of the control log
    imported: str = ""  # the import that it is, whose epoch and offset are another log's


class Opened:
    """Order of calls: `at` at any time, `close` once, when nothing is made any more."""

    def __init__(self) -> None:
        self._kept: dict[State, Derivation] = {}  # the one that was asked last comes last
        self._making: dict[State, asyncio.Task[Derivation]] = {}
        self._timers: dict[State, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def at(self, state: State, make: Make) -> Derivation:
        """The state, open. It may be asked until the event loop turns again.

        Those who ask for the same one while it is made wait for it together; it is finished also
        if they go away. Raises what `make` raises.
        """
        kept = self._kept.pop(state, None)
        if kept is not None:
            self._keep(state, kept)
            return kept
        making = self._making.get(state)
        if making is None:
            making = self._making[state] = asyncio.create_task(self._made(state, make))
            making.add_done_callback(lambda _: self._making.pop(state))
        return await asyncio.shield(making)

    async def close(self) -> None:
        """Close all that is open."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        for state in list(self._kept):
            self._close(state)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _made(self, state: State, make: Make) -> Derivation:
        derivation = await make()
        self._keep(state, derivation)
        while len(self._kept) > KEPT_MAX:
            self._close(next(iter(self._kept)))
        return derivation

    def _keep(self, state: State, derivation: Derivation) -> None:
        self._kept[state] = derivation
        if state in self._timers:
            self._timers[state].cancel()
        later = asyncio.get_running_loop().call_later
        self._timers[state] = later(IDLE_S, self._close, state)

    def _close(self, state: State) -> None:
        self._timers.pop(state).cancel()
        leaving = asyncio.create_task(self._kept.pop(state).end())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
