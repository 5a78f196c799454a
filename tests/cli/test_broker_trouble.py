"""A running service whose broker ends, or is away when it has to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cli.conftest import Up, started


def broker_of(up: Up) -> int:
    """The process of the embedded broker."""
    tasks = Path(f"/proc/{up.process.pid}/task").glob("*/children")
    (pid,) = {int(child) for task in tasks for child in task.read_text().split()}
    return pid


def test_an_embedded_broker_that_ends_is_the_end() -> None:
    """It will not be back, and its events neither: the service says so and ends with 1."""
    up = started()
    os.kill(broker_of(up), signal.SIGKILL)
    _, err = up.process.communicate(timeout=30)
    assert up.process.returncode == 1
    assert "error: the embedded broker is gone, and all events with it; start again" in err
    assert "Traceback" not in err


def test_a_stop_while_the_broker_is_away_is_bounded() -> None:
    """It ends in order, within seconds, although nobody answers."""
    up = started()
    os.kill(broker_of(up), signal.SIGSTOP)
    code, out, err = up.end(signal.SIGTERM)
    assert (code, out) == (0, "stopped\n")
    assert "Traceback" not in err
