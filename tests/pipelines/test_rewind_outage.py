"""A rewind whose broker is away for a while: it is waited for, but nobody waits behind that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.errors import BadDiskError, UnavailableError
from headrace.pipelines import rewind
from headrace.pipelines.order import Chunk
from headrace.pipelines.replay import Replay
from headrace.pipelines.shard import Shard
from headrace.state.store import ShardStore
from headrace.views import Partition
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import told
from tests.pipelines.test_rewind_without_room import (
    closed,
    counted,
    counted_above,
    drafts,
    rewind_to_fifty,
    rewound,
)
from tests.simulation.broker import SimLogs, SimReplay

OUTAGE_S = 60.0  # in virtual time
STOP_S = 5.0  # in which a shard is closed that waits for nothing


class Outage:
    """While it is `on`, the logs cannot be read, and what has been fetched on the way is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.failures = 0
        self.begun: list[int] = []  # from where the log was read again
        self.pieces = 1 << 30  # after so many it begins
        self.open_now = 0
        outage = self

        class Away(SimReplay):
            async def upto(self, offset: int) -> Chunk | None:
                chunk = await super().upto(offset)
                outage.check()
                outage.pieces -= 1
                outage.on = outage.pieces == 0
                return chunk

        @asynccontextmanager
        async def replay(logs: SimLogs, partition: Partition, begin: int) -> AsyncIterator[Replay]:
            outage.check()
            outage.begun.append(begin)
            outage.open_now += 1
            try:
                yield Away(logs._broker, partition, begin)
            finally:
                outage.open_now -= 1

        monkeypatch.setattr(SimLogs, "replay", replay)

    def check(self) -> None:
        if self.on:
            self.failures += 1
            raise UnavailableError("broker_away", "the broker cannot be read")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    monkeypatch.setattr(rewind, "NEAR_RECORDS", 10)
    return Outage(monkeypatch)


def failures(place: Place) -> list[BaseException]:
    """What has ended what is done beside the shards, from now on."""
    found: list[BaseException] = []
    usual = place.in_background

    def noted(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            found.append(error)

    def in_background(*given: object) -> None:
        before = set(place.tasks)
        usual(*given)  # type: ignore[arg-type]
        for task in place.tasks - before:
            task.add_done_callback(noted)

    place.shards.in_background = in_background
    return found


async def until_epoch(shard: Shard, epoch: int) -> None:
    async with asyncio.timeout(10 * OUTAGE_S):
        while shard.origin.epoch != epoch:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)


def state(shard: Shard) -> dict[bytes, bytes]:
    return dict(shard.store.scan(b""))


def test_a_rewind_that_begins_while_the_broker_is_away_is_done_when_it_is_back(
    tmp_path: Path, outage: Outage
) -> None:
    """It ends neither the rewind nor the worker."""

    async def work(place: Place, shard: Shard) -> None:
        failed = failures(place)
        outage.on = True
        await rewound(place, shard)
        await asyncio.sleep(OUTAGE_S)
        assert (failed, shard.origin.epoch) == ([], 1)
        assert outage.failures > 1
        outage.on = False
        await until_epoch(shard, 2)
        assert shard.next_offset == 100

    told(tmp_path, work)


def test_what_a_twin_has_learned_outlasts_an_outage(tmp_path: Path, outage: Outage) -> None:
    """It goes on from where it stands, and misses nothing of what was on its way."""

    async def work(place: Place, shard: Shard) -> None:
        failed = failures(place)
        outage.pieces = 1
        await rewound(place, shard)
        before = state(shard)
        await asyncio.sleep(OUTAGE_S)
        assert outage.on
        outage.on = False
        await until_epoch(shard, 2)
        assert (failed, outage.begun) == ([], [50, 70])
        assert state(shard) == before
        assert drafts(place) == []

    told(tmp_path, work)


def test_a_rewind_that_a_shard_is_told_of_twice_is_learned_once(
    tmp_path: Path, outage: Outage
) -> None:
    """As when it was opened between the command's coming and its being told to all shards."""

    async def work(place: Place, shard: Shard) -> None:
        outage.pieces = 1
        await rewound(place, shard)
        await asyncio.sleep(OUTAGE_S)
        assert (outage.on, outage.begun) == (True, [50])
        await place.shards.apply(place.deployment.rollbacks()[-1])
        outage.on = False
        await until_epoch(shard, 2)
        await asyncio.sleep(1)  # it has let go of all that it had
        await place.shards.apply(place.deployment.rollbacks()[-1])
        await asyncio.sleep(1)
        assert outage.begun == [50, 70]
        assert drafts(place) == []

    told(tmp_path, work)


def test_an_outage_where_a_rewind_counts_is_waited_for_between_two_events(
    tmp_path: Path, outage: Outage
) -> None:
    """A worker that crashed before it was done comes to that place again."""

    async def work(place: Place, shard: Shard) -> None:
        again = await counted_above(place, shard)
        outage.on = True
        processing = asyncio.create_task(again.process(place.chunk()))
        await asyncio.wait({processing}, timeout=OUTAGE_S)
        assert (processing.done(), again.next_offset) == (False, 100)
        outage.on = False
        await processing
        assert (again.origin.epoch, again.next_offset) == (2, 100)

    told(tmp_path, work)


def test_a_stop_waits_for_no_chunk_that_waits_for_the_broker(
    tmp_path: Path, outage: Outage
) -> None:
    """The flow is stopped before the shards are closed; it counted, and is done the next time."""

    async def work(place: Place, shard: Shard) -> None:
        again = await counted_above(place, shard)
        flowing = True
        outage.on = True
        processing = asyncio.create_task(again.process(place.chunk(), lambda: flowing))
        await asyncio.sleep(OUTAGE_S)
        flowing = False
        async with asyncio.timeout(STOP_S):
            await processing
            await place.shards.close(again, flush=True)
        assert drafts(place) == []
        outage.on = False
        later = await place.shards.open(place.deployment, WHERE)
        assert (later.origin.epoch, later.next_offset) == (2, 100)

    told(tmp_path, work)


def test_a_shard_is_closed_although_its_rewind_waits_for_the_broker(
    tmp_path: Path, outage: Outage
) -> None:
    """Nothing of the rewind is left, and it is begun again when the shard is opened."""

    async def work(place: Place, shard: Shard) -> None:
        outage.on = True
        await rewound(place, shard)
        await asyncio.sleep(OUTAGE_S)
        assert place.tasks
        async with asyncio.timeout(STOP_S):
            await closed(place, shard)
        outage.on = False
        again = await place.shards.open(place.deployment, WHERE)
        await until_epoch(again, 2)

    told(tmp_path, work)


def test_a_shard_that_is_opened_waits_for_no_broker_in_its_rewind(
    tmp_path: Path, outage: Outage
) -> None:
    """Who opens it waits, and looks meanwhile whether the worker is to stop."""

    async def work(place: Place, shard: Shard) -> None:
        await counted(place, shard, flush=True)
        outage.on = True
        with pytest.raises(UnavailableError) as caught:
            async with asyncio.timeout(OUTAGE_S):
                await place.shards.open(place.deployment, WHERE)
        assert caught.value.code == "broker_away"
        assert drafts(place) == []
        outage.on = False
        later = await place.shards.open(place.deployment, WHERE)
        assert (later.origin.epoch, later.next_offset) == (2, 100)

    told(tmp_path, work)


def test_a_twin_that_cannot_be_closed_leaves_no_reader_and_no_draft(
    tmp_path: Path, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thing is given back whatever the others raise."""

    async def work(place: Place, shard: Shard) -> None:
        again = place.shards.works.rewind(await rewind_to_fifty(place, shard), lambda *_: None)
        await again.ready(shard)
        assert (outage.open_now, len(drafts(place))) == (1, 1)
        close = ShardStore.close

        def closed(store: ShardStore) -> None:
            close(store)
            if "drafts" in store.path.parts:
                raise BadDiskError("a write to the disk failed")

        monkeypatch.setattr(ShardStore, "close", closed)
        with pytest.raises(BadDiskError):
            await again.end()
        assert (outage.open_now, drafts(place)) == (0, [])

    told(tmp_path, work)
