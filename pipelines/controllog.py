"""The control log as a topic: append a record, follow it, wait until a record has been read back.

Every worker follows the log with a consumer of its own, outside of any group. The registry is
changed in one place only: where a record comes back from the log. A worker's own records take the
same way as everybody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from headrace.errors import ForeignStateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines import clients, control
from headrace.pipelines.presence import patiently
from headrace.pipelines.readable import Unread

log = logging.getLogger(__name__)

APPEND_WAIT_S = 10.0
"""How long a record may take until it has been appended and has come back."""

OnAccepted = Callable[[control.Accepted], Awaitable[None]]


class ControlLog:
    """Appends to the control log and keeps `registry` at what the log says.

    Order of calls: `start` (returns when all that was in the log has been folded), then `append`
    and `wait_for` at will, then `stop`. `on_accepted` is awaited for each command that changes
    something *after* start, in order.
    """

    def __init__(self, bootstrap: str, topic: str, *, worker: str, on_accepted: OnAccepted) -> None:
        self.registry = control.Registry()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._topic = topic
        self._worker = worker
        self._on_accepted = on_accepted
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer
        self._consumer: AIOKafkaConsumer
        self._taken = AsyncExitStack()
        self._changed = asyncio.Condition()
        # Its bound is kept where commands come in (`pipelines.commands`): a full queue would keep
        # the follower from the effects that applying the first entry waits for.
        self._accepted: asyncio.Queue[control.Accepted] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Commands that were read and have not been applied here yet."""
        return self._accepted.qsize()

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Follow the log no more. Who still waits for one of its records is told so."""
        self._stopped = True
        await self.wake()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._taken.aclose()

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        self._taken.push_async_callback(clients.stop, self._producer)
        await self._producer.start()
        # This consumer belongs to no group: every worker reads the whole log.
        self._consumer = clients.log_reader(self._bootstrap)
        self._taken.push_async_callback(clients.stop, self._consumer)
        await self._consumer.start()
        partition = TopicPartition(self._topic, 0)
        self._consumer.assign([partition])
        await self._consumer.seek_to_beginning(partition)
        # The end that a broker reports may be short of its last batch; a record of our own that
        # we read back is proof that everything before it has been read.
        end = await self._send(control.Hello(id=f"hello/{self._worker}", worker=self._worker))
        while self.registry.next_offset <= end:
            await self._read(announce=False)
        self._tasks = [
            asyncio.create_task(self._follow(), name="control-log follower"),
            asyncio.create_task(self._announce(), name="control-log commands"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def append_in_time(self, record: control.ControlRecord) -> int:
        """Append, and return the offset once this worker has read the record back.

        Raises UnavailableError: `broker_away` if the broker does not take it or give it back in
        time; it may have been taken all the same.
        """
        try:
            async with asyncio.timeout(APPEND_WAIT_S):
                offset = await self._send(record)
                await self.wait_for(lambda: self.registry.next_offset > offset)
        except TimeoutError:
            text = f"a record of the control log did not come back in {APPEND_WAIT_S:g} s"
            raise UnavailableError("broker_away", text) from None
        return offset

    async def append(self, record: control.ControlRecord) -> int:
        """Append, and wait for a broker that is away: the record may then be in the log twice.

        Raises UnavailableError `broker_away` only after `give_up`.
        """
        return await patiently(lambda: self.append_in_time(record), lambda: self._over)

    def give_up(self) -> None:
        """Wait for the broker no longer: the process is going down."""
        self._over = True

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is looked at again after every record read.

        Raises UnavailableError `stopping` if the log is not followed any more.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_over() or condition())
        if self._is_over():
            raise UnavailableError("stopping", "the control log is not followed any more")

    async def _send(self, record: control.ControlRecord) -> int:
        try:
            sent = await self._producer.send_and_wait(
                self._topic, control.encode(record), partition=0
            )
        except KafkaError as error:
            raise UnavailableError(
                "broker_away", f"the control log cannot be written: {error}"
            ) from error
        return int(sent.offset)

    async def _follow(self) -> None:
        while True:
            await self._read(announce=True)

    async def _read(self, *, announce: bool) -> None:
        fetched = await self._consumer.getmany(timeout_ms=200)
        for records in fetched.values():
            for record in records:
                if record.offset < self.registry.next_offset:
                    raise ForeignStateError(
                        f"the control log {self._topic} begins again at offset {record.offset}, "
                        f"but was read up to {self.registry.next_offset}: it was made anew. Start "
                        "the service with an empty --state-dir and deploy the agents again"
                    )
                accepted = self.registry.apply(self._decoded(record), record.offset)
                if accepted is not None and announce:
                    self._accepted.put_nowait(accepted)
        if fetched:
            await self.wake()

    def _decoded(self, record: Any) -> control.ControlRecord | None:
        """None: somebody else wrote it, because it is no JSON or none of an object with a `type`.

        Raises ForeignStateError for one that another Headrace may have written.
        """
        where = f"the record at offset {record.offset} of the control log {self._topic}"
        if isinstance(record, Unread):
            raise ForeignStateError(f"{where} stands for others: {record.unreadable}")
        try:
            return control.decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if control.is_ours(record.value or b""):
                raise ForeignStateError(
                    f"{where} is not one of this build: {error}. Start the build that wrote it"
                ) from error
            log.warning("control.foreign", extra=fields(topic=self._topic, offset=record.offset))
            return None

    async def _announce(self) -> None:
        # A task apart: applying a command appends effects and waits until they are read back,
        # which the follower above must go on doing meanwhile.
        while True:
            await self._on_accepted(await self._accepted.get())

    def _is_over(self) -> bool:
        return self._stopped or self.failed.done()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None or self.failed.done():
            return
        self.failed.set_exception(error)
        self._waking = asyncio.ensure_future(self.wake())

    async def wake(self) -> None:
        """Let those in `wait_for` look again."""
        async with self._changed:
            self._changed.notify_all()
