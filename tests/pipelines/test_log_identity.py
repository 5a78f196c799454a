"""A state is refused on a log that is not the one it was learned from."""

from __future__ import annotations

import pytest

from headrace.errors import ForeignStateError
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.reader import KafkaLogs, LogSpan
from headrace.ports import Record
from headrace.views import Partition
from tests.pipelines.small_shard import Event, Sink, Store, chunk, event, open_shard

READINGS = Partition("readings", 0)


class Log(KafkaLogs):
    """A log in this process; `begin`: retention has taken the records below it."""

    def __init__(self, records: list[Event], begin: int = 0) -> None:
        super().__init__("nowhere")
        self._records = records
        self._begin = begin

    async def span(self, partition: Partition) -> LogSpan:
        return LogSpan(self._begin, len(self._records))

    async def record_at(self, partition: Partition, offset: int) -> Record | None:
        return self._records[offset] if offset >= self._begin else None


FORMER = [event(n) for n in range(10)]
PRESENT = [event(n, key="b") for n in range(30)]


async def learned(*chunks: list[Event]) -> Store:
    """What a shard has written that was given these, one after the other."""
    shard = open_shard(sink := Sink(), store := Store(sink))
    for records in chunks:
        await shard.process(chunk(*records))
    await shard.flush()
    return store


async def test_the_log_that_it_was_learned_from_is_known_again() -> None:
    """By the first record as by the last one, and when retention has taken either."""
    meta = (await learned(PRESENT[:10], PRESENT[10:20])).meta
    assert meta is not None
    for begin in (0, 1, 20):
        log = Log(PRESENT, begin)
        assert await check_log(log, "c", READINGS, meta) == (begin, 30)


@pytest.mark.parametrize(("taught", "told"), [
    ([FORMER], "offset 0 "),
    ([FORMER, PRESENT[10:]], "offset 0 "),
    ([PRESENT[:10], [event(n) for n in range(10, 12)]], "offset 11 "),
])  # fmt: skip
async def test_another_log_is_refused(taught: list[list[Event]], told: str) -> None:
    """Also by a state that was taught by both, before anybody looked whether the log is the same:
    its last record is of the present log then, and its first one is not.
    """
    meta = (await learned(*taught)).meta
    assert meta is not None
    with pytest.raises(ForeignStateError, match=f"{told}.*made anew.*deploy it again"):
        await check_log(Log(PRESENT), "c", READINGS, meta)
