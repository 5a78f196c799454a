"""Is each log still the one that its shards learn from, while they do?

At start and after each rebalance `logidentity.check_log` answers that when a shard is opened. In
between a topic may be deleted and made anew under the same name, and an offset alone does not show
it: reading just goes on, in another log. So each shard has an *anchor*, a record that it applied,
or began behind, and that the log was seen to hold; the watch reads the anchors again every few
seconds, and when the broker has been away. Once they are there, what was applied before that look
is the next anchor.

What is found concerns the agents of that log alone: they are given up, and the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from headrace.errors import ForeignStateError, UnavailableError
from headrace.logs import fields
from headrace.pipelines import clients
from headrace.pipelines.applied import is_that
from headrace.pipelines.holdings import Drop
from headrace.pipelines.logidentity import check_log
from headrace.pipelines.reader import Logs, LogSpan
from headrace.pipelines.shard import Shard
from headrace.pipelines.wakeup import Wakeup
from headrace.ports import Record
from headrace.state.store import AppliedRecord, ShardMeta
from headrace.views import Partition

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at the logs: one fetch of a few bytes for each shard."""
ANSWER_S = 3.0
"""How long one look waits for the anchors; those that do not come are looked for next time."""
SPAN_S = 5.0
"""How long it waits for what else one log is asked, where the anchor did not suffice."""
LOGS_AT_ONCE = 8
"""Of which that is asked at a time."""
MISSES_TOLD = 12
"""Looks in a row, a minute, in which a log did not answer: then the log has a line."""
POLL_MS = 60
GONE_PAUSE_S = 0.5
"""Before a log that lacked a position is read again: what it has may not be known at once."""


class ClusterId(NamedTuple):
    """The cluster that the shards learn from, and how to ask which one it is now."""

    known: str
    ask: Callable[[], Awaitable[str]]


class _Seen(NamedTuple):
    """A shard at the beginning of a look; both None: it has neither applied nor begun behind any.

    `newest` is the next anchor, if the log is the same.
    """

    shard: Shard
    anchor: AppliedRecord | None
    newest: AppliedRecord | None


class LogWatch:
    """Order of calls: `start`, then `watch` as a task and `look` at will, then `stop`."""

    def __init__(
        self,
        bootstrap: str,
        logs: Logs,
        shards: Callable[[], Iterable[Shard]],
        drop: Drop,
        cluster_id: ClusterId,
    ) -> None:
        self._logs = logs
        self._shards = shards
        self._drop = drop
        self._known_id, self._ask_id = cluster_id
        self._timer = Wakeup()
        self._reading = asyncio.Lock()  # one at a time has the consumer
        self._missed: Counter[Partition] = Counter()  # looks in which a log did not answer
        # What retention or compaction has taken away cannot be read again: until the shard has
        # applied more, the cluster's id must suffice, as at a start. One that has applied nothing
        # goes by the record before it.
        self._retired: WeakKeyDictionary[Shard, AppliedRecord] = WeakKeyDictionary()
        self._consumer = clients.log_reader(
            bootstrap, auto_offset_reset="none", max_partition_fetch_bytes=1
        )

    async def start(self) -> None:
        await clients.start(self._consumer)

    async def stop(self) -> None:
        await clients.stop(self._consumer)

    def hurry(self) -> None:
        """Look now: the broker has been away, and may be another one."""
        self._timer.wake()

    async def watch(self) -> None:
        """Look at all logs again and again, for ever."""
        while True:
            await self._timer.sleep(LOOK_S)
            await self.look(self._shards())

    async def look(self, shards: Iterable[Shard], *, closely: bool = False) -> None:
        """Give up those shards whose log is not the one it was, or lacks what they have to read.

        `closely`: ask for all of a log's span, not only for the anchors, of which few bytes tell.
        Does nothing while the broker is away.
        """
        seen = [
            _Seen(shard, shard.anchor or newest, newest)
            for shard in shards
            if (newest := shard.applied or shard.anchor) != self._retired.get(shard) or closely
        ]
        anchors = {one.shard: one.anchor for one in seen if one.anchor is not None}
        try:
            there = {} if closely else await self._there(anchors)
            cluster_id = await self._ask_id() if seen else ""
        except (KafkaError, UnavailableError) as error:
            _tell_not_seen(error)
            return
        doubtful: defaultdict[Partition, list[_Seen]] = defaultdict(list)
        for one in seen:
            if there.get(one.shard) and cluster_id == self._known_id:
                self._settled(one)
            else:
                doubtful[one.shard.partition].append(one)
        some = asyncio.Semaphore(LOGS_AT_ONCE)

        async def settle(shards: list[_Seen]) -> None:
            async with some:
                await self._settle(shards, there, cluster_id)

        await asyncio.gather(*map(settle, doubtful.values()))

    async def _settle(
        self, shards: list[_Seen], there: Mapping[Shard, bool], cluster_id: str
    ) -> None:
        """Of one log, those for whom their anchor did not suffice. If it is away, the next look
        tries again: this one is for the others, too.
        """
        for one in shards:
            shard, newest = one.shard, one.newest
            try:
                span = await self._closely(one, cluster_id)
            except (TimeoutError, UnavailableError) as error:
                _tell_not_seen(error)
                self._missed[shard.partition] += 1
                if self._missed[shard.partition] == MISSES_TOLD:
                    what = fields(topic=shard.partition.topic, partition=shard.partition.partition)
                    log.warning("logs.not_verified", extra=what)
                return
            except ForeignStateError as error:
                await self._drop(shard, error)
                continue
            if newest is not None and (shard in there or newest.offset < span.begin):
                self._retired[shard] = newest
            self._settled(one)

    def _settled(self, one: _Seen) -> None:
        one.shard.anchor = one.newest
        self._missed.pop(one.shard.partition, None)

    async def look_closely(self, shards: Iterable[Shard]) -> None:
        """Give up those shards whose log lacks what they have to read, which was not found there;
        the others may be read on then.
        """
        await self.look(shards, closely=True)
        await asyncio.sleep(GONE_PAUSE_S)

    async def _closely(self, one: _Seen, cluster_id: str) -> LogSpan:
        """Where an anchor did not suffice: the log's span, if it is the same.

        Raises ForeignStateError if it is not, and UnavailableError or TimeoutError if the broker
        did not answer: of a topic that is away a client would wait for as long as a request may
        take, though the broker be there.
        """
        shard = one.shard
        stands = ShardMeta(
            next_offset=shard.next_offset,
            epoch=shard.origin.epoch,
            spec_digest="",
            control_offset=-1,
            cluster_id=self._known_id,
            applied=one.anchor,
        )
        async with asyncio.timeout(SPAN_S):
            return await check_log(self._logs, cluster_id, shard.partition, stands)

    async def _there(self, wanted: Mapping[Shard, AppliedRecord]) -> dict[Shard, bool]:
        """Whether the logs hold these records; absent: not known."""
        at: dict[tuple[Partition, int], Record] = {}
        # The anchors of one partition are at different offsets; one is read at a time.
        rounds: list[dict[Partition, int]] = []
        for shard, anchor in wanted.items():
            for turn in rounds:
                if turn.setdefault(shard.partition, anchor.offset) == anchor.offset:
                    break
            else:
                rounds.append({shard.partition: anchor.offset})
        late: set[Partition] = set()  # what is away is not waited for again and again
        for turn in rounds:
            asked = {where: offset for where, offset in turn.items() if where not in late}
            if not asked:
                continue
            async with self._reading:
                came = await self._read(asked)
            late |= asked.keys() - came.keys()
            for where, record in came.items():
                if record is not None:
                    at[where, asked[where]] = record
        found = {}
        for shard, anchor in wanted.items():
            held = at.get((shard.partition, anchor.offset))
            if held is not None:
                found[shard] = held.offset == anchor.offset and is_that(held, anchor)
        return found

    async def _read(self, wanted: Mapping[Partition, int]) -> dict[Partition, Record | None]:
        """The first record from each of these offsets on; None: the log does not have that offset;
        absent: it did not come in time.

        Raises KafkaError.
        """
        consumer: AIOKafkaConsumer = self._consumer
        consumer.assign([TopicPartition(*partition) for partition in wanted])
        for partition, offset in wanted.items():
            consumer.seek(TopicPartition(*partition), offset)
        missing = {TopicPartition(*partition) for partition in wanted}
        found: dict[Partition, Record | None] = {}
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        try:
            while missing and asyncio.get_running_loop().time() < deadline:
                try:
                    # One record, of any partition that has come: its batch is read as a whole, and
                    # to make thousands of records of it would stop the loop for much longer.
                    fetched = await consumer.getmany(*missing, timeout_ms=POLL_MS, max_records=1)
                except OffsetOutOfRangeError as error:
                    found.update((Partition(*tp), None) for tp in error.args[0])
                    missing -= error.args[0].keys()
                    continue
                for tp, records in fetched.items():
                    if records:
                        found[Partition(tp.topic, tp.partition)] = records[0]
                        missing.discard(tp)
        finally:
            consumer.unsubscribe()  # else it would go on fetching until the next look
        return found


def _tell_not_seen(error: Exception) -> None:
    log.debug("logs.not_seen", extra=fields(error=repr(error)))
