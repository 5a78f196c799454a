"""A broker that is there and does not answer: its process is stopped, and goes on later."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.pipelines.broker import MemoryBroker
from headrace.pipelines.localbroker import LocalBroker


@contextmanager
def silent(broker: object) -> Iterator[None]:
    """Within it, the broker takes connections and answers nothing; afterwards all that it got."""
    assert isinstance(broker, MemoryBroker | LocalBroker)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        while not _stopped(broker.pid):
            os.sched_yield()  # one thread takes the signal and tells the others: it is soon done
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def _stopped(pid: int) -> bool:
    """Whether every thread of the process stands still."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in _tasks(pid)]
    return set(states) == {"T"}


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))
