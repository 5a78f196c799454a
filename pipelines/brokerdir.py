"""The directory of a local broker: whose it is, who has it now, and how its Kafka is set up.

DIR/
  lock               held (flock) by the service and by its Kafka, as long as either lives
  broker.json        which Kafka, which cluster, and the ports it had last
  server.properties  made anew at every start, as log4j2.properties
  data/              Kafka's own: the records of all topics
  broker.log         what Kafka said; of earlier starts in broker.log.1
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import socket
from pathlib import Path
from typing import Self

import msgspec

from headrace.clock import new_id
from headrace.errors import CorruptStateError, ForeignStateError, LockedStateError
from headrace.pipelines.kafkajars import KAFKA_VERSION
from headrace.state.disk import make_directory, write_durably

IDENTITY = "broker.json"
LOCK = "lock"
LOG_BYTES_MAX = 10_000_000
"""A log larger than this is put aside at the next start."""
# Below the ports that the kernel hands out: a client that tries to reconnect while the broker is
# down may be given the very port that it calls, and would then talk to itself and keep it taken.
PORTS = range(20_000, 32_000)


class Ports(msgspec.Struct, frozen=True):
    """Where Kafka listens on the loopback: for clients, and for its own controller."""

    clients: int
    controller: int

    @classmethod
    def free(cls) -> Self:
        """Two ports that nobody has now."""
        start = int(new_id(), 16) % len(PORTS)
        around = (PORTS[(start + n) % len(PORTS)] for n in range(len(PORTS)))
        found = [port for port, _ in zip(filter(_free, around), range(2), strict=False)]
        if len(found) < 2:
            raise CorruptStateError(f"no free port in {PORTS.start}..{PORTS.stop - 1}")
        return cls(*found)

    def are_free(self) -> bool:
        return _free(self.clients) and _free(self.controller)


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which Kafka made the directory, for which cluster, and where it listened last."""

    kafka: str
    cluster_id: str
    ports: Ports


_DECODER = msgspec.json.Decoder(Identity)


class BrokerDirectory:
    """A directory that is locked for us and holds a Kafka of our version, or nothing yet.

    Order of calls: `open`; `formatted` says whether Kafka has made its files; `settle` after
    choosing ports; hand `lock` to Kafka; `close` last.
    """

    def __init__(self, path: Path, lock: int, identity: Identity) -> None:
        self.path = path
        self.lock = lock
        self.identity = identity
        self.log = path / "broker.log"

    @classmethod
    def open(cls, path: Path) -> BrokerDirectory:
        """Lock `path`, made if it is missing.

        Raises LockedStateError, ForeignStateError and CorruptStateError, each with what to do.
        """
        path = path.absolute()
        try:
            _refuse_others(path)
            make_directory(path)
            lock = _locked(path)
        except OSError as error:
            raise ForeignStateError(
                f"--broker local:{path} cannot be used: {error}; name a directory of your own"
            ) from error
        try:
            directory = cls(path, lock, _identity(path))
            directory._check_data()
            if directory.log.exists() and directory.log.stat().st_size > LOG_BYTES_MAX:
                directory.log.replace(path / "broker.log.1")
        except BaseException:
            os.close(lock)
            raise
        return directory

    @property
    def formatted(self) -> bool:
        """Whether Kafka has made its files; it writes this one last."""
        return self._meta.exists()

    @property
    def _meta(self) -> Path:
        return self.path / "data" / "meta.properties"

    def settle(self, ports: Ports) -> None:
        """Write down where Kafka listens from now on, and its settings. Raises OSError."""
        self.identity = msgspec.structs.replace(self.identity, ports=ports)
        text = msgspec.json.format(msgspec.json.encode(self.identity)) + b"\n"
        write_durably(self.path / IDENTITY, text)
        lines = {**_places(ports), **_SETTINGS}
        settings = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.path / "server.properties").write_text(settings, encoding="ascii")
        (self.path / "log4j2.properties").write_text(_LOGGING, encoding="ascii")

    def close(self) -> None:
        """Let go of the lock; Kafka's own hold on it ends with Kafka."""
        os.close(self.lock)

    def _check_data(self) -> None:
        if not self.formatted:
            return
        found = re.search(r"^cluster\.id=(.*)$", self._meta.read_text("utf-8"), re.MULTILINE)
        if found is None or found[1].strip() != self.identity.cluster_id:
            raise ForeignStateError(
                f"{self._meta} belongs to another cluster than {self.path / IDENTITY} says: "
                "restore the directory as a whole, or name another with --broker local:DIR"
            )


def _refuse_others(path: Path) -> None:
    """A directory with files in it and without our identity is somebody's: do not write there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ForeignStateError(f"--broker local:{path} is a file: name a directory")
    names = {entry.name for entry in path.iterdir()}
    if names - {LOCK} and IDENTITY not in names:
        what = (
            "is the data directory of another Kafka"
            if "meta.properties" in names
            else ("holds files of somebody else")
        )
        raise ForeignStateError(
            f"{path} {what}: name an empty or a new directory with --broker local:DIR, or start "
            "that Kafka yourself and use --broker kafka://host:port"
        )


def _locked(path: Path) -> int:
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        try:
            ports = _read(path / IDENTITY).ports
            there = f", or use it with --broker kafka://127.0.0.1:{ports.clients}"
        except (OSError, msgspec.MsgspecError):
            there = ""
        raise LockedStateError(
            f"the broker in {path} runs already, started by process {pid}: stop that{there}"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode("ascii"))
    return lock


def _identity(path: Path) -> Identity:
    file = path / IDENTITY
    if not file.exists():
        return Identity(KAFKA_VERSION, _cluster_id(), Ports.free())
    try:
        found = _read(file)
    except msgspec.MsgspecError as error:
        raise CorruptStateError(
            f"{file} cannot be read ({error}): restore it, or name another directory with "
            "--broker local:DIR"
        ) from None
    if found.kafka != KAFKA_VERSION:
        raise ForeignStateError(
            f"{path} was made by Kafka {found.kafka}, this Headrace brings {KAFKA_VERSION}: start "
            "the Headrace that made it, or name another directory with --broker local:DIR"
        )
    return found


def _read(file: Path) -> Identity:
    return _DECODER.decode(file.read_bytes())


def _cluster_id() -> str:
    """A random id as Kafka writes its own: 16 bytes in base64, no dash first."""
    return base64.urlsafe_b64encode(bytes.fromhex(new_id())).decode()[:22].replace("-", "_", 1)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does: connections of a broker that has just ended do not hold its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _places(ports: Ports) -> dict[str, str]:
    clients = f"PLAINTEXT://127.0.0.1:{ports.clients}"
    return {
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": clients,
        "controller.quorum.voters": f"1@127.0.0.1:{ports.controller}",
    }


_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": "data",  # Kafka runs in DIR, so that no name above it needs escaping
    # Kafka's own topics on the one node that there is.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # A topic keeps its records until somebody sets a retention for it.
    "log.retention.ms": -1,
    # One worker need not wait for others to join, nor long for one that was killed.
    "group.initial.rebalance.delay.ms": 0,
    # Nor long for the controller to believe that the broker of a former process is gone.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "group.min.session.timeout.ms": 500,
    # A heap of 512 MB; the default buffer takes a quarter of it.
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "log.cleaner.backoff.ms": 1_000,
}
_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n%throwable{8}
"""
