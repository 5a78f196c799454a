"""The command line as its user meets it: commands in process, one real service beside them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.app import app
from headrace.config import PREFIX
from headrace.pipelines.feeds import EventProducer, Outgoing
from tests.cli.served import Served

SPEC = """
agent: card-fraud
source: {topic: transactions, key: $.card, start: earliest}
features:
  amount: {type: number, range: [0, 1e6]}
  shop: {type: category, encode: hash, buckets: 8}
model: [preprocessing.StandardScaler, linear_model.LogisticRegression]
label: {field: $.fraud}
decide: {verdict: {block: 0.9, else: allow}}
metrics: [Accuracy]
"""
GOOD, BAD = 187, 13
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
FIXED = {**ENVIRON, "PYTHONHASHSEED": "0", "NO_COLOR": "1"}

# A shell starts what is to run in the background with Ctrl-C ignored, and children inherit that:
# what is spawned here is to heed it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Up(NamedTuple):
    """A worker in a process of its own."""

    process: subprocess.Popen[str]
    said: list[str]  # what it wrote to its standard output until it was ready

    def found(self, name: str) -> str:
        """The address that stands behind `name`."""
        match = re.search(rf"^{name} +(\S+)", "\n".join(self.said), re.MULTILINE)
        assert match, self.said
        return match[1]

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal, and give the exit code and what else it wrote."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def spawn(*arguments: str) -> subprocess.Popen[str]:
    """`headrace` in a process of its own, without colours."""
    return subprocess.Popen(
        [sys.executable, "-m", "headrace", *arguments],
        env=FIXED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(*arguments: str) -> Up:
    """`headrace up` on free ports, ready."""
    process = spawn("up", "--grpc-port", "0", "--metrics-port", "off", *arguments)
    said: list[str] = []
    output: IO[str] | None = process.stdout
    assert output is not None
    for line in output:
        said.append(line.rstrip("\n"))
        if line.startswith("ready"):
            return Up(process, said)
    raise AssertionError((said, process.communicate()))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A service with one agent that has met 187 good events and 13 without an amount."""
    up = started()
    folder = tmp_path_factory.mktemp("specs")
    try:
        spec = folder / "card-fraud.yaml"
        spec.write_text(SPEC)
        run = Run(up.found("gRPC"))
        assert run("deploy", str(spec)).exit_code == 0
        asyncio.run(_feed(up.found("events")))
        while sum(_counts(run)) < GOOD + BAD:
            pass
        yield up
    finally:
        up.end(signal.SIGINT)


async def _feed(bootstrap: str) -> None:
    producer = EventProducer(bootstrap)
    await producer.start()
    events = []
    for number in range(GOOD + BAD):
        event: dict[str, Any] = {"card": f"c{number % 5}", "shop": "7", "fraud": number % 7 == 0}
        if number % 15 or number >= 15 * BAD:
            event["amount"] = float(number)
        key = event["card"].encode()
        events.append(Outgoing("transactions", key, json.dumps(event).encode(), 1_700_000_000_000))
    await producer.send_all(events)
    await producer.stop()


def _counts(run: Run) -> tuple[int, int]:
    (agent,) = run.json("agents")
    return agent["shards"][0]["accepted"], agent["shards"][0]["quarantined"]


class Run:
    """Runs a command in this process, against the worker at `address` if there is one."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def __call__(self, *arguments: str, stdin: str | None = None, **environ: str) -> Result:
        given = list(arguments)
        if self._address is not None:
            given += ["--address", self._address]
        unset = dict.fromkeys(name for name in os.environ if name.startswith(PREFIX))
        return CliRunner().invoke(app, given, input=stdin, env={**unset, **environ})

    def json(self, *arguments: str) -> Any:
        """The JSON that the command prints."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def run(service: Up) -> Run:
    """Commands against the service."""
    return Run(service.found("gRPC"))


@pytest.fixture
def served() -> Iterator[Served]:
    """A server before a small real backend; a module that asks it has a `run` of its own."""
    served = Served()
    yield served
    served.stop()


@pytest.fixture
def before(served: Served) -> None:
    """A snapshot of `card-fraud` there, named `before`."""
    served.world.snapshots.take("card-fraud", "before", "named")


@pytest.fixture
def alone() -> Run:
    """Commands without a service."""
    return Run()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The file of the spec that the service has."""
    file = tmp_path / "card-fraud.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    """`up` takes all logs of its process: give them back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
