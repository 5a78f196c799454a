"""MLflow for tests: a sqlite file whose tables are made once, a real server over such a file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from headrace.config import settle_mlflow

_START_S = 180.0  # beside other tests on a slow machine it took more than 60


def migrated(directory: Path) -> Path:
    """A sqlite file with MLflow's tables: making them takes seconds, a copy nothing."""
    file = directory / "mlflow.db"
    client_of(f"sqlite:///{file}").search_experiments()
    return file


def client_of(uri: str) -> Any:
    """MLflow's own client."""
    settle_mlflow()
    import mlflow

    return mlflow.MlflowClient(uri, uri)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def hanging(server: MlflowServer) -> Iterator[None]:
    """Within it, the server takes connections and answers nothing; it goes on afterwards."""
    pids = server.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class MlflowServer:
    """`mlflow server` over a file of its own, a copy of `tables`. `stop` ends it by its process id.

    Order of calls: `start`, `stop`, as often as you like; it keeps its port and what it was told.
    """

    def __init__(self, directory: Path, tables: Path) -> None:
        self._directory = directory
        directory.mkdir()
        shutil.copy(tables, directory / "server.db")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    @property
    def pids(self) -> list[int]:
        """Its processes: the one that was started, and the worker that this one has."""
        if self._process is None:
            return []
        task = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        return [self._process.pid, *map(int, Path(task).read_text().split())]

    def start(self) -> None:
        """Returns when it answers; at once if it does."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._directory / 'server.db'}"]
        command += ["--artifacts-destination", str(self._directory / "artifacts")]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urlopen(f"{self.uri}/health", timeout=1):
                    return
            except (URLError, OSError):
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"mlflow did not start: {(self._directory / 'log').read_text()}")

    def stop(self) -> None:
        """It ends the one worker that it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=_START_S)
            self._process = None
