"""Work in a thread, which nobody can stop."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


async def in_a_thread(work: Callable[[], T]) -> T:
    """Do what takes long with a disk, or all answers would wait for it. A cancellation waits for
    its end: nobody shall meet a thread that is still at work on files that he opens or removes.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


async def remove_drafts(*drafts: Path) -> None:
    """Remove them, whatever is left of them; all, also if the caller is cancelled meanwhile."""

    def work() -> None:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)

    await in_a_thread(work)
