"""A pause that can be cut short."""

from __future__ import annotations

import asyncio
import contextlib


class Wakeup:
    """For one who sleeps and many who wake him. To be woken while awake ends the next sleep.

    >>> async def woken() -> None:
    ...     wakeup = Wakeup()
    ...     wakeup.wake()
    ...     await wakeup.sleep(3_600)
    >>> asyncio.run(woken())
    """

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the sleep."""
        self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Until then, or until somebody wakes it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()
