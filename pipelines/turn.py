"""The turn of a shard: one at a time learns, flushes, or does the work of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.1
"""Between two looks at whether it is still worth waiting."""


def _always() -> bool:
    return True


class Turn(asyncio.Lock):
    """Whose it is in the order in which they asked. `holds`: whether it is still worth having."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: Callable[[], bool] = _always
        self._waiting = 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await super().__aenter__()
        finally:
            self._waiting -= 1

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it who does not come with a chunk."""
        return self._waiting > 0

    def release(self) -> None:
        self.holds = _always
        super().release()

    async def taken_while(self, holds: Callable[[], bool]) -> bool:
        """Take it; False, and it is not taken, if `holds` ends before it is free.

        >>> async def twice() -> list[bool]:
        ...     turn = Turn()
        ...     return [await turn.taken_while(lambda: True), await turn.taken_while(lambda: False)]
        >>> asyncio.run(twice())
        [True, False]
        """
        taking = asyncio.ensure_future(self.acquire())
        try:
            await asyncio.sleep(0)  # it may be free
            while not taking.done() and holds():
                await asyncio.wait({taking}, timeout=LOOK_S)
        except asyncio.CancelledError:
            if not taking.cancel():
                self.release()
            raise
        if not taking.done():
            taking.cancel()
            await asyncio.wait({taking})
        if taking.cancelled():
            return False
        self.holds = holds
        return True
