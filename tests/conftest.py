"""One broker for all tests: starting it costs 0.3 s (Kafka: 3 s), topics cost nothing."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.localbroker import LocalBroker
from headrace.pipelines.topics import Topics
from tests.mlflow_place import migrated
from tests.small_disk import SmallDisk

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--broker local`: the same tests on Apache Kafka (`make test-kafka`)."""
    parser.addoption("--broker", choices=("memory", "local"), default="memory", help="run on which")
    parser.addoption("--outage-s", type=float, default=6.0, help="how long brokers are away")


@pytest.fixture(scope="session")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """A running broker of the chosen kind, ended by its own process id."""
    make = {"memory": MemoryBroker, "local": LocalBroker}[request.config.getoption("--broker")]
    running: Broker = make(tmp_path_factory.mktemp("broker"))
    # Started from the main thread: the kernel ends the broker together with this thread.
    asyncio.run(running.start())
    yield running
    asyncio.run(running.stop())


@pytest.fixture
def outage_s(request: pytest.FixtureRequest) -> float:
    """How long a test's broker is away: long enough to be noticed."""
    seconds: float = request.config.getoption("--outage-s")
    return seconds


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of its own; where that cannot be had, the test is skipped with the reason."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite file with MLflow's tables, to copy."""
    return migrated(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def mlflow_uri(tmp_path: Path, mlflow_tables: Path) -> str:
    """An MLflow of this test's own, in a file."""
    return f"sqlite:///{shutil.copy(mlflow_tables, tmp_path / 'told.db')}"


@pytest.fixture
def kafka(broker: Broker) -> Broker:
    """The broker, if it is one that can do all that Kafka can; else the test is skipped."""
    if not (broker.durable and broker.can_transactions and broker.can_start_at_timestamp):
        pytest.skip(f"the broker {broker.url} cannot do this: see `make test-kafka`")
    return broker


@pytest.fixture
async def topics(broker: Broker) -> AsyncIterator[Topics]:
    """Topics of the chosen broker."""
    asked = Topics(broker)
    await asked.start()
    yield asked
    await asked.stop()
