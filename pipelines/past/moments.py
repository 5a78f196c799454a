"""Where in a log a time begins, and when a command counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from headrace.errors import RequestError
from headrace.pipelines import control
from headrace.pipelines.reader import Logs
from headrace.pipelines.replay import IDLE_S
from headrace.ports import Record
from headrace.views import Partition

READ_MAX = 200_000
"""Records that are read to find a time, where the broker cannot find it."""


async def first_at(logs: Logs, partition: Partition, time_ms: int, *, indexed: bool) -> int | None:
    """The first offset whose record's timestamp is at or after the time; None: there is none yet.

    Not `indexed`: the broker does not know, and the log is read. Raises RequestError `too_large`,
    UnavailableError.
    """
    if indexed:
        return await logs.offset_at_time(partition, time_ms)
    begin, end = await logs.span(partition)
    if end - begin > READ_MAX:
        raise RequestError(
            "too_large",
            f"this broker finds no times, and {end - begin:,} records are too many to look through "
            f"(at most {READ_MAX:,}): ask for an offset",
        )
    async with aclosing(_records(logs, partition, begin, end)) as records:
        async for record in records:
            if record.timestamp >= time_ms:
                return record.offset
    return None


async def counted_ms(
    logs: Logs, control_log: Partition, accepted: control.Accepted, partition: Partition
) -> int | None:
    """When the control log was told where the command counts in that partition, which it has been;
    None: that is not there any more. Raises UnavailableError.
    """
    end = (await logs.span(control_log)).end
    async with aclosing(_records(logs, control_log, accepted.offset, end)) as records:
        async for record in records:
            if _tells(record.value, accepted.control_id, partition):
                return record.timestamp
    return None


async def _records(
    logs: Logs, partition: Partition, begin: int, end: int
) -> AsyncGenerator[Record, None]:
    """Those of a log from `begin` to before `end`, which it has. Raises UnavailableError."""
    async with logs.replay(partition, begin) as replay:
        while begin < end:
            chunk = await replay.upto(end)
            if chunk is None:
                await asyncio.sleep(IDLE_S)
                continue
            for record in chunk.records:
                yield record
            begin = chunk.next_offset


def _tells(value: bytes | None, control_id: str, partition: Partition) -> bool:
    try:
        told = control.decode(value or b"")
    except msgspec.DecodeError:
        return False
    if not isinstance(told, control.ShardEffect):
        return False
    return (told.control_id, told.topic, told.partition) == (control_id, *partition)
