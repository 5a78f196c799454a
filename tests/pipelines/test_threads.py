"""Work in threads: who waits for it, and who goes first."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from headrace.pipelines.threads import BEHIND_NICE, behind_others, in_a_thread


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
async def test_what_nobody_waits_for_steps_behind_and_nothing_else_does() -> None:
    """Its threads are nicer than the others, which stay as they were."""
    usual = _niceness()
    assert await behind_others(_niceness) == min(usual + BEHIND_NICE, 19)
    assert await in_a_thread(_niceness) == usual == _niceness()
