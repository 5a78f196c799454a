"""Work in a thread, which nobody can stop; so it may outlive the task that waits for it.

Three ways, by what that would do:

- `in_a_thread` where others would meet it: it opens, writes or removes files that whoever is told
  of the cancellation closes, opens or removes himself.
- `asyncio.to_thread` where nobody would: it only reads or reckons; or what it writes is whole at
  every moment, or lies in a draft that nobody else uses and the next start removes.
- `behind_others` where nobody would, nobody waits for it, and it keeps a core busy for seconds. It
  opens no store: RocksDB's threads, which all stores of the process share, are begun by whoever
  opens the first one, and stay as nice as he is. So are obstore's; a repository is claimed first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

from headrace.logs import fields

log = logging.getLogger(__name__)

BEHIND_NICE = 5
"""How much nicer than the others the threads are that step behind: a core that is wanted by others,
too, gives them a quarter of it instead of half, and all of it when nobody wants it.
"""
BEHIND_THREADS = 1
"""All that steps behind is publishing, and that is one snapshot after the other."""

T = TypeVar("T")


async def in_a_thread(work: Callable[[], T], call_off: Callable[[], None] | None = None) -> T:
    """Do what takes long with a disk, or all answers would wait for it. A cancellation waits for
    its end, and a second one, too: nobody shall meet a thread that is still at work on files that
    he opens or removes. `call_off` tells the work that it may end sooner.
    """
    # No task: `asyncio.run` would cancel it, and not wait for the thread.
    doing = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        if call_off is not None:
            call_off()
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # what was called off may say so, and nobody is there to hear it
        raise


async def behind_others(work: Callable[[], T]) -> T:
    """Do what nobody waits for, and what would take half of a busy core from learning and answers:
    to hash and copy all files of a snapshot takes seconds. It goes on if the caller is cancelled.
    Work that opens a store must not be done here.
    """
    return await asyncio.get_running_loop().run_in_executor(_behind, work)


def _step_behind() -> None:
    if sys.platform != "linux":  # elsewhere a thread has no priority of its own
        return
    this = (os.PRIO_PROCESS, threading.get_native_id())
    try:
        os.setpriority(*this, min(os.getpriority(*this) + BEHIND_NICE, 19))
    except OSError as error:  # some sandboxes forbid it; raised from here, it would end the pool
        log.warning("thread.not_behind", extra=fields(error=str(error)))


_behind = ThreadPoolExecutor(BEHIND_THREADS, "behind", initializer=_step_behind)


async def remove_drafts(*drafts: Path) -> None:
    """Remove them, whatever is left of them; all, also if the caller is cancelled meanwhile."""

    def work() -> None:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)

    await in_a_thread(work)
