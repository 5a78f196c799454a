"""A topic of one partition that only the service writes: append a record, follow all, wait for one.

Every worker follows it with a consumer of its own, outside of any group. What a record means counts
only where it comes back from the log, so a worker's own records take the same way as all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord

from headrace.errors import ForeignStateError, RequestError, UnavailableError
from headrace.pipelines import clients
from headrace.pipelines.presence import patiently

APPEND_WAIT_S = 10.0
"""How long a record may take until it has been appended and has come back."""
POLL_MS = 200

Take = Callable[[ConsumerRecord], None]


class OwnLog:
    """Order of calls: `start` (returns when all that was in the log has been taken), then `append`
    and `wait_for` at will, then `stop`. `take` is told of each record, in order.

    `called`: what people call it, for errors.
    """

    def __init__(self, bootstrap: str, topic: str, take: Take, *, called: str) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.topic = topic
        self.next_offset = 0
        self._called = called
        self._take = take
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer
        self._consumer: AIOKafkaConsumer
        self._taken = AsyncExitStack()
        self._changed = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self._over = False
        self._stopped = False

    async def start(self, key: bytes | None, greeting: bytes) -> None:
        """`greeting` is appended, and all is read until it comes back."""
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        self._taken.push_async_callback(clients.stop, self._producer)
        await clients.start(self._producer)
        self._consumer = clients.log_reader(self._bootstrap)
        self._taken.push_async_callback(clients.stop, self._consumer)
        await clients.start(self._consumer)
        partition = TopicPartition(self.topic, 0)
        self._consumer.assign([partition])
        await self._consumer.seek_to_beginning(partition)
        # The end that a broker reports may be short of its last batch; a record of our own that
        # we read back is proof that everything before it has been read.
        try:
            end = await self._send(key, greeting)
        except KafkaError as error:
            raise self._not_taken(error) from error
        while self.next_offset <= end:
            await self._read()
        self._follower = asyncio.create_task(self._follow(), name=f"follower of {self.topic}")
        self._follower.add_done_callback(self.ended)

    async def stop(self) -> None:
        """Follow the log no more. Who still waits for one of its records is told so."""
        self._stopped = True
        await self.wake()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._taken.aclose()

    async def append_in_time(self, key: bytes | None, value: bytes | None) -> int:
        """Append, and return the offset once this worker has read the record back.

        Raises RequestError `too_large`, and UnavailableError: `broker_away` if the broker refuses
        it, or does not take it or give it back in time; then it may have been taken all the same.
        """
        try:
            return await self._appended(key, value)
        except KafkaError as error:
            raise self._not_taken(error) from error

    async def append(self, key: bytes | None, value: bytes | None) -> int:
        """Append, and wait for a broker that is away: the record may then be in the log twice.

        Raises UnavailableError: `broker_away` only after `give_up`, and `stopping` if the broker
        refuses it for good, as no waiting cures that: the process ends with it.
        """
        try:
            return await patiently(lambda: self._appended(key, value), lambda: self._over)
        except KafkaError as error:
            self._fail(error)
            raise UnavailableError("stopping", f"the worker ends: {error}") from error

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
            raise UnavailableError("stopping", f"{self._called} is not followed any more")

    async def wake(self) -> None:
        """Let those in `wait_for` look again."""
        async with self._changed:
            self._changed.notify_all()

    def ended(self, task: asyncio.Task[None]) -> None:
        """A task without which the log is of no use has ended: tell everybody why."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self._waking = asyncio.ensure_future(self.wake())

    async def _appended(self, key: bytes | None, value: bytes | None) -> int:
        """As `append_in_time`, but raises KafkaError as it came where no waiting cures it."""
        try:
            async with asyncio.timeout(APPEND_WAIT_S):
                offset = await self._send(key, value)
                await self.wait_for(lambda: self.next_offset > offset)
        except TimeoutError:
            text = f"a record of {self._called} did not come back in {APPEND_WAIT_S:g} s"
            raise UnavailableError("broker_away", text) from None
        return offset

    async def _send(self, key: bytes | None, value: bytes | None) -> int:
        try:
            sent = await self._producer.send_and_wait(self.topic, value, key=key, partition=0)
        except KafkaError as error:
            # A producer that is stopped refuses whatever it is: that is no answer of the broker's.
            if not (clients.waiting_cures(error) or self._stopped):
                raise
            raise self._not_taken(error) from error
        return int(sent.offset)

    def _not_taken(self, error: KafkaError) -> RequestError:
        text = f"{self._called} cannot be written: {error}"
        if isinstance(error, MessageSizeTooLargeError):
            return RequestError("too_large", text)
        return UnavailableError("broker_away", text)

    async def _follow(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
        for records in fetched.values():
            for record in records:
                if record.offset < self.next_offset:
                    raise ForeignStateError(
                        f"{self._called} {self.topic} begins again at offset {record.offset}, "
                        f"but was read up to {self.next_offset}: it was made anew. Start "
                        "the service with an empty --state-dir and deploy the agents again"
                    )
                self._take(record)
                self.next_offset = record.offset + 1
        if fetched:
            await self.wake()

    def _is_over(self) -> bool:
        return self._stopped or self.failed.done()
