"""An S3 server on this machine: moto's, which answers the real protocol over HTTP."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

_START_S = 30.0
_RUNNING = "Running on "


class S3Server:
    """A server with one empty bucket, `bucket`; `stop` ends it by its process id."""

    def __init__(self, log: Path) -> None:
        program = Path(sys.executable).with_name("moto_server")
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                # Port 0: the kernel chooses a free one, and the server says which.
                [sys.executable, str(program), "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.url = self._wait(log)
        with urlopen(Request(f"{self.url}/bucket", method="PUT"), timeout=_START_S) as answer:
            assert answer.status == 200

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _wait(self, log: Path) -> str:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            said = log.read_text(encoding="utf-8", errors="replace")
            if _RUNNING in said and "\n" in (rest := said.partition(_RUNNING)[2]):
                return rest.split()[0]
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"moto_server did not start: {log.read_text(encoding='utf-8')}")
