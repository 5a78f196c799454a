"""The control log as a topic: append a record, follow it, wait until a record has been read back.

The registry is changed in one place only: where a record comes back from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from headrace.errors import ForeignStateError
from headrace.logs import fields
from headrace.pipelines import control
from headrace.pipelines.ownlog import OwnLog
from headrace.pipelines.readable import Unread

log = logging.getLogger(__name__)

OnAccepted = Callable[[control.Accepted], Awaitable[None]]


class ControlLog:
    """Appends to the control log and keeps `registry` at what the log says.

    Order of calls: as of `OwnLog`. `on_accepted` is awaited for each command that changes
    something *after* start, in order.
    """

    def __init__(self, bootstrap: str, topic: str, *, worker: str, on_accepted: OnAccepted) -> None:
        self.registry = control.Registry()
        self._log = OwnLog(bootstrap, topic, self._take, called="the control log")
        self._worker = worker
        self._on_accepted = on_accepted
        # Its bound is kept where commands come in (`pipelines.commands`): a full queue would keep
        # the follower from the effects that applying the first entry waits for.
        self._accepted: asyncio.Queue[control.Accepted] = asyncio.Queue()
        self._started = False
        self._commands: asyncio.Task[None] | None = None
        self.failed = self._log.failed
        self.give_up = self._log.give_up
        self.wait_for = self._log.wait_for
        self.wake = self._log.wake

    @property
    def waiting(self) -> int:
        """Commands that were read and have not been applied here yet."""
        return self._accepted.qsize()

    async def start(self) -> None:
        try:
            hello = control.Hello(id=f"hello/{self._worker}", worker=self._worker)
            await self._log.start(None, control.encode(hello))
        except BaseException:
            await self.stop()
            raise
        self._started = True
        self._commands = asyncio.create_task(self._announce(), name="control-log commands")
        self._commands.add_done_callback(self._log.ended)

    async def stop(self) -> None:
        """Follow the log no more. Who still waits for one of its records is told so."""
        if self._commands is not None:
            self._commands.cancel()
        await self._log.stop()
        if self._commands is not None:
            await asyncio.gather(self._commands, return_exceptions=True)

    async def append_in_time(self, record: control.ControlRecord) -> int:
        """As of `OwnLog`."""
        return await self._log.append_in_time(None, control.encode(record))

    async def append(self, record: control.ControlRecord) -> int:
        """As of `OwnLog`."""
        return await self._log.append(None, control.encode(record))

    def _take(self, record: Any) -> None:
        accepted = self.registry.apply(decoded(record), record.offset)
        if accepted is not None and self._started:
            self._accepted.put_nowait(accepted)

    async def _announce(self) -> None:
        # A task apart: applying a command appends effects and waits until they are read back,
        # which the follower must go on doing meanwhile.
        while True:
            await self._on_accepted(await self._accepted.get())


def decoded(record: Any) -> control.ControlRecord | None:
    """A record of the control log. None: somebody else wrote it, because it is no JSON or none of
    an object with a `type`.

    Raises ForeignStateError for one that another Headrace may have written.
    """
    where = f"the record at offset {record.offset} of the control log {record.topic}"
    if isinstance(record, Unread):
        raise ForeignStateError(f"{where} stands for others: {record.unreadable}")
    try:
        return control.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if control.is_ours(record.value or b""):
            raise ForeignStateError(
                f"{where} is not one of this build: {error}. Start the build that wrote it"
            ) from error
        log.warning("control.foreign", extra=fields(topic=record.topic, offset=record.offset))
        return None
