"""Work in a thread, which nobody can stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

BEHIND_NICE = 5
"""How much nicer than the others the threads are that step behind: a core that is wanted by others,
too, gives them a quarter of it instead of half, and all of it when nobody wants it.
"""
BEHIND_THREADS = 4

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


async def behind_others(work: Callable[[], T]) -> T:
    """Do what nobody waits for, and what would take half of a busy core from learning and answers:
    to hash and copy all files of a snapshot takes seconds. It goes on if the caller is cancelled.
    """
    return await asyncio.get_running_loop().run_in_executor(_behind, work)


def _step_behind() -> None:
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        this = (os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(*this, min(os.getpriority(*this) + BEHIND_NICE, 19))


_behind = ThreadPoolExecutor(BEHIND_THREADS, "behind", initializer=_step_behind)


async def remove_drafts(*drafts: Path) -> None:
    """Remove them, whatever is left of them; all, also if the caller is cancelled meanwhile."""

    def work() -> None:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)

    await in_a_thread(work)
