"""Kafka in a directory: found again after a restart, never shared, never somebody else's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.errors import (
    CorruptStateError,
    ForeignStateError,
    LockedStateError,
    StateError,
    UnavailableError,
)
from headrace.pipelines import kafkajars
from headrace.pipelines.broker import Broker, open_broker
from headrace.pipelines.brokerdir import PORTS, BrokerDirectory, Ports
from headrace.pipelines.kafkajars import Jar
from headrace.pipelines.localbroker import LocalBroker
from tests.pipelines.test_broker import runs, within

PARENT = """
import asyncio, pathlib, sys
from headrace.pipelines.localbroker import LocalBroker
async def main():
    broker = LocalBroker(pathlib.Path(sys.argv[1]))
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def jar(content: bytes, *, size: int | None = None) -> Jar:
    digest = hashlib.sha256(content).hexdigest()
    return Jar(digest, len(content) if size is None else size, "org.example", "thing", "1.0")


def settled(path: Path) -> BrokerDirectory:
    """A directory as a broker leaves it before Kafka has made its files."""
    directory = BrokerDirectory.open(path)
    directory.settle(directory.identity.ports)
    return directory


# -- Kafka's files -----------------------------------------------------------------------------


def test_all_of_kafka_is_pinned() -> None:
    """Each file is listed once, with its size and SHA-256; clients and server are one version."""
    listed = kafkajars.listed()
    assert len({j.name for j in listed}) == len(listed) == 46
    assert all(re.fullmatch(r"[0-9a-f]{64}", j.sha256) and j.size > 0 for j in listed)
    assert {j.version for j in listed if j.group == "org.apache.kafka"} == {"4.1.0"}


async def test_files_that_are_there_need_no_network(tmp_path: Path) -> None:
    """What is cached and whole is used as it is."""
    (tmp_path / "thing-1.0.jar").write_bytes(b"whole")
    assert await kafkajars.fetch(tmp_path, jars=[jar(b"whole")]) == [tmp_path / "thing-1.0.jar"]


@pytest.mark.parametrize("content", [b"whale", b"who", b""])
async def test_a_file_with_another_sum_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """Nothing but the published bytes is given to Java, and the text says what to delete."""
    (tmp_path / "thing-1.0.jar").write_bytes(content)
    with pytest.raises(StateError, match=r"/thing-1\.0\.jar is not the published .*delete it"):
        await kafkajars.fetch(tmp_path, jars=[jar(b"whole")])


async def test_without_a_network_it_says_where_to_copy_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that fails leaves no half file behind."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with pytest.raises(StateError, match=f"cannot be fetched.*copy {tmp_path} from"):
        await kafkajars.fetch(tmp_path, jars=[jar(b"whole")])
    assert not any(tmp_path.rglob("*"))  # noqa: ASYNC240 - a look at a small directory


async def test_files_that_cannot_be_kept_are_reported(tmp_path: Path) -> None:
    """A cache that is no directory is named."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot be kept in .*file/cache"):
        await kafkajars.fetch(tmp_path / "file" / "cache", jars=[jar(b"whole")])


# -- the directory -----------------------------------------------------------------------------


def test_the_url_names_a_directory(tmp_path: Path) -> None:
    """`local:DIR` is our own, durable, and can do what Kafka can."""
    broker = open_broker(f"local:{tmp_path}", tmp_path)
    assert isinstance(broker, LocalBroker)
    assert (broker.own, broker.durable) == (True, True)
    assert (broker.can_transactions, broker.can_start_at_timestamp) == (True, True)


@pytest.mark.parametrize(
    ("file", "said"),
    [("notes.txt", "files of somebody else"), ("meta.properties", "directory of another Kafka")],
)
def test_somebody_elses_directory_is_refused(tmp_path: Path, file: str, said: str) -> None:
    """Nothing is written where there are files and none of ours."""
    (tmp_path / file).touch()
    with pytest.raises(ForeignStateError, match=f"{said}.*--broker local:DIR"):
        BrokerDirectory.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """Neither a file nor a path below one can hold a broker."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(ForeignStateError, match="name a directory"):
            BrokerDirectory.open(path)


def test_a_directory_of_another_kafka_is_refused(tmp_path: Path) -> None:
    """Another version's files are not opened, and not touched."""
    settled(tmp_path).close()
    file = tmp_path / "broker.json"
    file.write_bytes(file.read_bytes().replace(b"4.1.0", b"5.0.1"))
    with pytest.raises(ForeignStateError, match=r"made by Kafka 5\.0\.1, this Headrace brings"):
        BrokerDirectory.open(tmp_path)


def test_data_of_another_cluster_is_refused(tmp_path: Path) -> None:
    """A data directory that was put in place of the former is noticed."""
    settled(tmp_path).close()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\ncluster.id=other\n")
    with pytest.raises(ForeignStateError, match="another cluster"):
        BrokerDirectory.open(tmp_path)


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    """Nobody guesses whose records these are."""
    settled(tmp_path).close()
    (tmp_path / "broker.json").write_bytes(b"{")
    with pytest.raises(CorruptStateError, match=r"broker\.json cannot be read"):
        BrokerDirectory.open(tmp_path)


def test_a_directory_has_one_broker(tmp_path: Path) -> None:
    """A second one is refused with the address of the first, until that lets go."""
    first = settled(tmp_path)
    at = first.identity.ports.clients
    with pytest.raises(LockedStateError, match=f"kafka://127.0.0.1:{at}"):
        BrokerDirectory.open(tmp_path)
    first.close()
    BrokerDirectory.open(tmp_path).close()


def test_a_directory_keeps_its_cluster_and_ports(tmp_path: Path) -> None:
    """What was settled is found again; the ports lie below those that the kernel hands out."""
    first = settled(tmp_path)
    first.close()
    again = BrokerDirectory.open(tmp_path)
    again.close()
    assert again.identity == first.identity
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", first.identity.cluster_id)
    assert {first.identity.ports.clients, first.identity.ports.controller} <= set(PORTS)


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    """The log of earlier starts does not grow for ever."""
    settled(tmp_path).close()
    with (tmp_path / "broker.log").open("wb") as log:
        log.truncate(11_000_000)
    BrokerDirectory.open(tmp_path).close()
    assert not (tmp_path / "broker.log").exists()
    assert (tmp_path / "broker.log.1").stat().st_size == 11_000_000


# -- the broker --------------------------------------------------------------------------------


async def _topic_with_progress(broker: LocalBroker) -> None:
    """A topic of two partitions, ten records, and a group that has read seven of them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for n in range(10):
            await producer.send_and_wait("kept", b"%d" % n, partition=1)
    async with AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, group_id="readers", enable_auto_commit=False
    ) as consumer:
        consumer.assign([TopicPartition("kept", 1)])
        await consumer.commit({TopicPartition("kept", 1): 7})


async def _progress(broker: LocalBroker) -> tuple[int, bytes | None]:
    """The group's position, and the record there. Right after a start, on a machine that is busy,
    aiokafka has waited for ever: it is asked anew then. It also takes a group that the broker is
    still loading for one without a position: so the record comes first.
    """
    at = TopicPartition("kept", 1)
    for _ in range(3):
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(20),
                AIOKafkaConsumer(
                    bootstrap_servers=broker.bootstrap, group_id="readers", enable_auto_commit=False
                ) as consumer,
            ):
                consumer.assign([at])
                value = (await consumer.getone()).value
                return await consumer.committed(at), value
    raise AssertionError("it does not answer")


@pytest.mark.usefixtures("kafka")
async def test_a_restart_finds_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics, records, group positions, cluster and address are the same; after a kill too.

    Whatever the directory is called, and whichever Java the environment speaks of.
    """
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption=1")
    monkeypatch.setenv("PATH", "/nowhere")
    path = tmp_path / "of Zoë, with a comma"
    broker = LocalBroker(path)
    await broker.start()
    first = (broker.cluster_id, broker.bootstrap)
    await _topic_with_progress(broker)
    await broker.stop()
    broker = LocalBroker(path)
    await broker.start()
    assert (broker.cluster_id, broker.bootstrap) == first
    assert await _progress(broker) == (7, b"7")
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    await broker.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(first[1].rpartition(":")[2])))
        taken.listen()
        await broker.start()
    assert broker.cluster_id == first[0]
    assert broker.bootstrap != first[1]
    assert await _progress(broker) == (7, b"7")
    await broker.stop()
    await broker.stop()


@pytest.mark.usefixtures("kafka")
@pytest.mark.skipif(sys.platform != "linux", reason="prctl(PR_SET_PDEATHSIG) is Linux's")
async def test_kafka_dies_with_a_killed_parent_and_its_directory_is_free(tmp_path: Path) -> None:
    """While the service lives nobody else gets the directory; after a kill -9 anybody does."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220 - it waits
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        with pytest.raises(LockedStateError, match=f"process {parent.pid}"):
            await LocalBroker(tmp_path).start()
        os.kill(parent.pid, signal.SIGKILL)
    again = LocalBroker(tmp_path)
    await again.start()
    assert within(1.0, lambda: not runs(pid))
    await again.stop()


@pytest.mark.usefixtures("kafka")
async def test_a_kafka_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its last words are in the error, and the directory is let go."""
    broker = LocalBroker(tmp_path)
    await broker.start()
    await broker.stop()
    meta = tmp_path / "data" / "meta.properties"
    good = meta.read_text()
    meta.write_text(good.replace("node.id=1", "node.id=2"))
    with pytest.raises(UnavailableError, match=r"(?s)broker\.log ends with: .*node id 2"):
        await broker.start()
    meta.write_text(good)
    await broker.start()
    await broker.stop()


@pytest.mark.usefixtures("kafka")
async def test_a_format_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    """A crash before Kafka's last file was made costs nothing, as there are no records yet."""
    broker = LocalBroker(tmp_path)
    await broker.start()
    await broker.stop()
    (tmp_path / "data" / "meta.properties").rename(tmp_path / "elsewhere")
    for entry in (tmp_path / "data").iterdir():
        if entry.is_file() and entry.name != "bootstrap.checkpoint":
            entry.unlink()
    await broker.start()
    assert broker.cluster_id
    await broker.stop()


def test_tests_of_kafka_say_where_they_run(broker: Broker) -> None:
    """The chosen broker is one of the two that are our own."""
    assert broker.own
    assert Ports.free().are_free()
