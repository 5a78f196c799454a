"""Taking turns on the one event loop."""

from __future__ import annotations

import asyncio

from headrace.clock import Clock


class Turns:
    """Yields to the event loop whenever a stretch of work has lasted `slice_s` seconds.

    Call `await due()` after each piece of work; it costs one clock reading when nothing is due.
    """

    def __init__(self, clock: Clock, slice_s: float) -> None:
        self._clock = clock
        self._slice_s = slice_s
        self._since = clock.monotonic()

    async def due(self) -> None:
        if self._clock.monotonic() - self._since >= self._slice_s:
            await asyncio.sleep(0)
            self._since = self._clock.monotonic()
