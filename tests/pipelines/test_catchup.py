"""Which shards learn apart, how they join, and what ends that before."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from headrace.errors import StateError, UnavailableError
from headrace.pipelines import control
from headrace.pipelines.broker import Broker
from headrace.pipelines.catchup import APART_MAX
from headrace.pipelines.order import Chunk
from headrace.pipelines.replay import replaying
from headrace.pipelines.topics import Topics
from headrace.ports import Record
from headrace.state.tombstones import Secret, tombstone
from headrace.views import Partition
from tests.pipelines.small_crowd import (
    AGENTS,
    RECORDS,
    Crowd,
    Watched,
    begun,
    decided,
    in_a_crowd,
    watching,
)
from tests.pipelines.small_place import WHERE

UNTRUSTED = StateError("the disk cannot be trusted")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """Every replay is one of these."""
    return watching(monkeypatch)


def test_a_shard_far_behind_is_left_out_of_the_reading_until_it_is_near(tmp_path: Path) -> None:
    """Meanwhile the others decide where the stream reads; then it goes back for it, a little."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        assert place.shards.next_offset(WHERE) == 0
        place.catchup.place([late])
        assert (late.apart, place.shards.next_offset(WHERE)) == (True, RECORDS)
        assert place.shards.durable_offset(WHERE) == 0  # what is committed is durable everywhere
        await asyncio.sleep(60)
        assert not late.apart
        assert RECORDS - 4 <= late.next_offset <= RECORDS
        assert place.gone_back == [late.next_offset] == [place.shards.next_offset(WHERE)]

    in_a_crowd(tmp_path, work)


@pytest.mark.parametrize(("upto", "apart"), [(RECORDS - 20, False), (RECORDS - 21, True)])
def test_who_is_a_little_behind_is_waited_for(tmp_path: Path, upto: int, apart: bool) -> None:
    """A reader of its own would cost more than the others' waiting."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b", upto)
        place.catchup.place([late])
        assert late.apart == apart
        await asyncio.sleep(60)

    in_a_crowd(tmp_path, work)


def test_of_shards_that_are_opened_together_the_farthest_on_sets_the_measure(
    tmp_path: Path,
) -> None:
    """After a rebalance no stream stands anywhere yet; and one alone has nobody to keep."""

    async def work(place: Crowd) -> None:
        await place.controls.start()
        alone = await place.opened("a", 5)
        place.catchup.place([alone])
        assert not alone.apart
        ahead, beside, behind = [
            await place.opened(name, upto) for name, upto in (("b", 200), ("c", 190), ("d", 100))
        ]
        await place.shards.close(alone, flush=True)
        place.catchup.place([behind, ahead, beside])
        assert [shard.apart for shard in (ahead, beside, behind)] == [False, False, True]
        assert place.shards.next_offset(WHERE) == 190
        await asyncio.sleep(60)

    in_a_crowd(tmp_path, work)


def test_a_new_shard_is_measured_by_where_the_stream_stands(tmp_path: Path) -> None:
    """Not by one that waits for the stream to come to it."""

    async def work(place: Crowd) -> None:
        await begun(place)
        await place.opened("b", 10)
        late = await place.opened("c")
        place.catchup.place([late])
        assert not late.apart

    in_a_crowd(tmp_path, work)


def test_what_is_learned_apart_is_what_the_stream_would_have_taught(tmp_path: Path) -> None:
    """The same rows, and decisions on the same events."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        place.catchup.place([late])
        await asyncio.sleep(60)
        await late.process(Chunk("events", 0, place.rows(RECORDS), RECORDS))
        await late.flush()
        plain = await place.opened("c", RECORDS)
        await plain.flush()
        assert dict(late.store.scan(b"k/")) == dict(plain.store.scan(b"k/")) != {}
        assert decided(place, "b") == decided(place, "c") != set()

    in_a_crowd(tmp_path, work)


def test_few_learn_apart_at_a_time(tmp_path: Path, watched: type[Watched]) -> None:
    """The others answer, and have their turn when one has joined or is gone."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = [await place.opened(name) for name in AGENTS]
        place.catchup.place(late)
        assert all(shard.apart for shard in late)
        await asyncio.sleep(0.05)
        await place.shards.close(late[0], flush=True)
        await asyncio.sleep(60)
        assert watched.most == APART_MAX < len(AGENTS)
        assert watched.open_now == 0
        assert not any(shard.apart for shard in late[1:])
        assert all(shard.next_offset >= RECORDS - 4 for shard in late[1:])

    in_a_crowd(tmp_path, work)


def test_a_close_ends_it_at_once(tmp_path: Path, watched: type[Watched]) -> None:
    """As a rebalance, a stop or a delete does; what was learned by then is durable."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        place.catchup.place([late])
        await asyncio.sleep(0.1)
        await place.shards.close(late, flush=True)
        assert 0 < late.next_offset == late.durable_offset < RECORDS
        await asyncio.sleep(1.0)
        assert watched.open_now == 0
        assert (place.gone_back, place.failed) == ([], [])

    in_a_crowd(tmp_path, work)


def test_when_nobody_has_the_stream_the_farthest_on_takes_it(tmp_path: Path) -> None:
    """There is nobody left to wait for it; the other is measured by that one."""

    async def work(place: Crowd) -> None:
        gone = await begun(place)
        behind, ahead = await place.opened("b"), await place.opened("c", 100)
        place.catchup.place([behind, ahead])
        assert (ahead.apart, behind.apart) == (True, True)
        await place.shards.close(gone, flush=True)
        await asyncio.sleep(60)
        assert not ahead.apart
        assert 100 <= ahead.next_offset < RECORDS - 4
        assert place.gone_back[0] == ahead.next_offset
        assert not behind.apart
        assert behind.next_offset >= ahead.next_offset - 4

    in_a_crowd(tmp_path, work)


def test_the_farthest_on_takes_the_stream_before_its_turn(tmp_path: Path) -> None:
    """It would get nothing, and nobody decide on what comes, until one of those had come to it."""

    async def work(place: Crowd) -> None:
        gone = await begun(place)
        turns = [await place.opened("b"), await place.opened("c")]
        ahead = await place.opened("d", 200)
        place.catchup.place([*turns, ahead])
        assert all(shard.apart for shard in (*turns, ahead))
        closing = asyncio.create_task(place.shards.close(gone, flush=True))
        while ahead.apart:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        assert max(shard.next_offset for shard in turns) < 190
        assert place.gone_back == [ahead.next_offset] == [200]
        await closing
        await asyncio.sleep(60)
        assert not any(shard.apart for shard in turns)

    in_a_crowd(tmp_path, work)


def test_a_command_counts_where_the_shard_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: type[Watched]
) -> None:
    """A pause comes between two pieces; it says nothing of events that were learned before."""
    upto = watched.upto

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        deployment = place.controls.registry.get("b")

        async def when_it_counts(self: Watched, offset: int) -> Chunk | None:
            while late.next_offset and deployment.effect("wait", WHERE) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return await upto(self, offset)

        monkeypatch.setattr(Watched, "upto", when_it_counts)
        place.catchup.place([late])
        while not late.next_offset:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.01)
        place.command(control.Pause(id="wait", agent="b"))
        await asyncio.sleep(60)
        effect = deployment.effect("wait", WHERE)
        assert effect is not None
        assert 0 < effect < RECORDS - 4
        assert (late.paused, late.apart) == (True, False)

    in_a_crowd(tmp_path, work)


def test_a_forget_waits_until_the_shard_has_joined(tmp_path: Path) -> None:
    """Else it would learn what the log had of the key before anybody asked."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        place.catchup.place([late])
        secret = Secret(value="5e" * 32)
        await place.vault.note(secret)
        place.command(
            control.Forget(
                id="f", agent="b", secret_id=secret.id, tombstone=tombstone(secret, "b", "k1")
            )
        )
        await asyncio.sleep(60)
        effect = place.controls.registry.get("b").effect("f", WHERE)
        assert effect is not None
        assert effect >= RECORDS - 4

    in_a_crowd(tmp_path, work)


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path, watched: type[Watched]) -> None:
    """It goes on where it stood."""

    async def work(place: Crowd) -> None:
        await begun(place)
        watched.away = 3
        late = await place.opened("b")
        place.catchup.place([late])
        await asyncio.sleep(60)
        assert (watched.away, late.apart, place.failed) == (0, False, [])

    in_a_crowd(tmp_path, work)


def test_a_log_that_lacks_the_position_is_looked_at_closely(tmp_path: Path) -> None:
    """As in the stream. What is found then is said; if nothing is, it is tried again."""

    async def work(place: Crowd) -> None:
        ahead = await begun(place)
        late = await place.opened("b")
        place.broker.logs[WHERE].begin = 10
        place.catchup.place([late])
        await asyncio.sleep(1.0)
        assert len(place.looked) > 1
        place.cut = StateError("retention has cut it")
        async with asyncio.timeout(60):
            while "b" not in place.holdings.broken:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.1)
        assert set(place.looked) == {late}
        assert str(place.holdings.broken["b"]) == "retention has cut it"
        assert (place.shards.all(), place.failed) == ([ahead], [])

    in_a_crowd(tmp_path, work)


def test_a_state_that_cannot_be_used_is_its_agents_own_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent is given up, the next one has its turn."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = [await place.opened(name) for name in AGENTS]

        async def damaged(*_: object) -> bool:
            raise UNTRUSTED

        for shard in late[:APART_MAX]:
            monkeypatch.setattr(shard, "process", damaged)
        place.catchup.place(late)
        await asyncio.sleep(60)
        assert set(place.holdings.broken) == set(AGENTS[:APART_MAX])
        assert [shard.apart for shard in late[APART_MAX:]] == [False] * 2
        assert place.failed == []

    in_a_crowd(tmp_path, work)


def test_what_concerns_all_agents_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard that met with it learns no more, and no other begins."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = [await place.opened(name) for name in AGENTS]
        tried: list[int] = []

        async def refused(number: int, *_: object) -> bool:
            tried.append(number)
            raise KafkaError("a record that is too large")

        for number, shard in enumerate(late):
            monkeypatch.setattr(shard, "process", partial(refused, number))
        place.catchup.place(late)
        await asyncio.sleep(60)
        assert sorted(tried) == list(range(APART_MAX))
        assert len(place.failed) == APART_MAX

    in_a_crowd(tmp_path, work)


def test_a_stop_that_gives_the_broker_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says that the last state is not flushed, as it does for the stream."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        gone = UnavailableError("broker_away", "the broker has not taken the last decisions")

        async def given_up(*_: object) -> None:
            place.stopping = True
            raise gone

        monkeypatch.setattr(late, "process", given_up)
        place.catchup.place([late])
        await asyncio.sleep(60)
        assert (place.given_up, place.failed, late.apart) == ([gone], [], True)

    in_a_crowd(tmp_path, work)


def test_a_shard_that_takes_half_a_piece_is_read_for_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for ever for what its reader has left behind."""

    async def work(place: Crowd) -> None:
        await begun(place)
        late = await place.opened("b")
        process, halves = late.process, iter([True, False, True])

        async def by_half(chunk: Chunk, flowing: Any) -> None:
            assert len(chunk.records) <= place.catchup.bounds.piece
            if next(halves, False):
                chunk = Chunk(*chunk_of(chunk, chunk.next_offset - 2))
            await process(chunk, flowing)

        monkeypatch.setattr(late, "process", by_half)
        place.catchup.place([late])
        await asyncio.sleep(60)
        assert (late.apart, late.next_offset >= RECORDS - 4, place.failed) == (False, True, [])

    in_a_crowd(tmp_path, work)


def chunk_of(chunk: Chunk, end: int) -> tuple[str, int, list[Record], int, int]:
    """What there is of it below an offset."""
    records = [record for record in chunk.records if record.offset < end]
    return chunk.topic, chunk.partition, records, end, chunk.begins


async def test_what_a_reader_meets_with_is_not_taken_for_the_brokers_absence(
    broker: Broker, topics: Topics
) -> None:
    """An answer to the emitter that waiting does not cure would be waited for."""
    await topics.ensure("t-met", partitions=1, ours=False)
    with pytest.raises(KafkaError, match="too large"):
        async with replaying(broker.bootstrap, Partition("t-met", 0), 0):
            raise KafkaError("a record that is too large")
