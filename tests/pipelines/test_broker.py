"""What a broker promises: it answers after `start`, it ends with us, and it says why it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError

from headrace.errors import ConfigError, UnavailableError
from headrace.pipelines.broker import Broker, ClusterBroker, MemoryBroker, ask, open_broker

PARENT = """
import asyncio, pathlib, sys
from headrace.pipelines.broker import MemoryBroker
async def main():
    broker = MemoryBroker(pathlib.Path(sys.argv[1]))
    await broker.start()
    print(broker.pid, flush=True)
    if sys.argv[2] == "stay":
        await asyncio.sleep(60)
asyncio.run(main())
"""


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie has ended; its new parent has not looked yet


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether `true` becomes so in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_the_embedded_broker_takes_records(broker: Broker) -> None:
    """After `start` a producer can write at once."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        sent = await producer.send_and_wait("broker-takes-records", b"value", partition=0)
    assert sent.offset == 0


@pytest.mark.parametrize("requests", [1, 2])
async def test_a_question_that_is_given_up_leaves_no_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    """The service asks every other second, and a stop may come while it waits for either answer."""
    asked: list[AIOKafkaConnection] = []
    send = AIOKafkaConnection.send

    def noted(connection: AIOKafkaConnection, *request: Any, **how: Any) -> Any:
        asked.append(connection)
        return send(connection, *request, **how)

    monkeypatch.setattr(AIOKafkaConnection, "send", noted)
    asking = asyncio.create_task(ask(broker.bootstrap, 5.0))
    while len(asked) < requests:  # noqa: ASYNC110 - aiokafka tells nobody
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert not any(connection.connected() for connection in asked)


@pytest.mark.parametrize("other", ["drops", "is silent", "refuses"])
async def test_one_server_that_answers_is_enough(broker: Broker, other: str) -> None:
    """Whatever the one before it does; and where none answers, all have the same time for it."""

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if other == "is silent":
            await reader.read()
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        if other == "refuses":
            server.close()
        there = f"127.0.0.1:{port}"
        await ask(f"{there},{broker.bootstrap}", 30.0)
        began = time.monotonic()
        with pytest.raises((OSError, KafkaError)):
            await ask(",".join([there] * 10), 0.5)
        assert time.monotonic() - began < 4.0


async def test_stop_ends_the_embedded_broker_by_its_own_pid(tmp_path: Path) -> None:
    """`stop` ends the process that `start` made, and may be called twice."""
    broker = MemoryBroker(tmp_path)
    await broker.start()
    pid = broker.pid
    assert pid is not None
    assert runs(pid)
    await broker.stop()
    await broker.stop()
    assert not runs(pid)


async def test_every_start_is_another_cluster(tmp_path: Path) -> None:
    """Two embedded brokers have different cluster ids, so old state is recognised as foreign."""
    assert MemoryBroker(tmp_path).cluster_id != MemoryBroker(tmp_path).cluster_id


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(PR_SET_PDEATHSIG) is Linux's")
def test_the_embedded_broker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """A kill -9 of the service leaves no broker behind."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), "stay"], stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        os.kill(parent.pid, signal.SIGKILL)
    assert within(5.0, lambda: not runs(pid))


def test_the_embedded_broker_ends_at_exit(tmp_path: Path) -> None:
    """A program that forgets `stop` leaves no broker behind either."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path), "leave"], capture_output=True, check=True
    )
    assert not runs(int(done.stdout))


async def test_a_broker_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's own last words are in the error."""
    monkeypatch.setattr("headrace.pipelines.broker._tansu", lambda: "/bin/ls")
    with pytest.raises(UnavailableError, match=r"did not start.*it said: .*ls: .*option"):
        await MemoryBroker(tmp_path).start()


async def test_an_unreachable_cluster_is_reported_after_the_wait() -> None:
    """The error names the address, the bound and the reason."""
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        broker = ClusterBroker(address, wait_s=0.3)
        with pytest.raises(UnavailableError) as caught:
            await broker.start()
    assert caught.value.code == "broker_away"
    assert f"broker at {address} does not answer after 0.3 s: " in str(caught.value)


async def test_something_that_is_no_broker_is_reported() -> None:
    """A server that accepts connections and speaks no Kafka counts as away."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="does not answer"):
            await ClusterBroker(address, wait_s=0.1).start()


async def test_a_cluster_is_reached_through_any_of_its_servers(broker: Broker) -> None:
    """One server that is down does not keep us from the others."""
    cluster = ClusterBroker(f"127.0.0.1:1,{broker.bootstrap}", wait_s=5)
    assert await cluster.start() is None  # type: ignore[func-returns-value]


def test_urls_open_what_they_name(tmp_path: Path) -> None:
    """`memory:` is our own and volatile; `kafka://` is somebody else's and durable."""
    memory = open_broker("memory:", tmp_path)
    cluster = open_broker("kafka://a:9092,b:9093", tmp_path)
    assert (memory.durable, memory.can_transactions, memory.can_start_at_timestamp) == (
        False,
        False,
        False,
    )
    assert (cluster.durable, cluster.can_transactions, cluster.can_start_at_timestamp) == (
        True,
        True,
        True,
    )
    assert cluster.bootstrap == "a:9092,b:9093"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://x", "known are kafka://, local:, memory:"),
        ("local:", "local:DIR"),
        ("memory:/tmp/x", "takes nothing"),
        ("kafka://", "host:port"),
        ("kafka://host", "host:port"),
        ("kafka://host:0", "host:port"),
        ("kafka://host:9092,other", "'other'"),
    ],
)
def test_other_urls_are_refused(url: str, said: str, tmp_path: Path) -> None:
    """A wrong URL is refused with what would be right."""
    with pytest.raises(ConfigError, match=said):
        open_broker(url, tmp_path)
