"""What callers wait for goes before what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 10.0
"""After so long it is respected no longer: its holder may himself wait for room on the disk, which
publishing makes."""


class Precedence:
    """Held while a shard's state is replaced: its events wait, and answers need the interpreter.
    Publishing, of snapshots and of withdrawn decisions, waits for it between two pieces.

    >>> async def seen() -> list[bool]:
    ...     precedence = Precedence()
    ...     with precedence.held():
    ...         waits = precedence.is_held
    ...     await precedence.free()
    ...     return [waits, precedence.is_held]
    >>> asyncio.run(seen())
    [True, False]
    """

    def __init__(self) -> None:
        self._holders = 0
        self._free = asyncio.Event()
        self._free.set()
        self._ends: asyncio.TimerHandle

    @property
    def is_held(self) -> bool:
        """Whether `free` would wait."""
        return not self._free.is_set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """By as many as like at the same time."""
        if not self._holders:
            self._free.clear()
            self._ends = asyncio.get_running_loop().call_later(PATIENCE_S, self._free.set)
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._ends.cancel()
                self._free.set()

    async def free(self) -> None:
        """Returns when nobody holds it, or when it has been held for PATIENCE_S."""
        while self.is_held:  # again, if it was taken before this had its turn
            await self._free.wait()
