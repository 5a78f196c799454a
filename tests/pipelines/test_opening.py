"""What a shard begins with: no decision is sent again, however often it is learned again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headrace.errors import ForeignStateError
from headrace.models.decisions import Decision, encode_decision
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.ports import Record
from headrace.views import Partition, Position
from tests.pipelines.small_place import WHERE, Place, live
from tests.simulation.broker import Log, SimLogs

DECIDED = Partition("decided", 0)


def offsets(place: Place) -> list[int]:
    """The events that were decided on, in the order of the topic of decisions."""
    rows = place.broker.logs[DECIDED].rows()
    return [msgspec.json.decode(row.value or b"")["position"]["offset"] for row in rows]


async def decided_and_lost(place: Place) -> None:
    """All that is in the log is decided on, and then the state is gone."""
    await place.controls.start()
    shard = await place.shards.open(place.deployment, WHERE)
    await shard.process(place.chunk())
    await place.shards.close(shard, flush=True)
    place.directory.drop_agent("a", through=1)


def test_a_stop_before_it_has_caught_up_repeats_no_decision(tmp_path: Path) -> None:
    """On an empty disk it learns half of what was decided, stops in order, and starts again."""

    async def work(place: Place) -> None:
        await place.controls.start()
        whole = place.chunk()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(whole)
        await place.shards.close(shard, flush=True)
        first = offsets(place)
        place.directory.drop_agent("a", through=1)
        for chunk in (Chunk("events", 0, whole.records[:25], 25), whole):
            shard = await place.shards.open(place.deployment, WHERE)
            await shard.process(chunk)
            await place.shards.close(shard, flush=True)
            assert offsets(place) == first

    live(tmp_path, work)


def test_decisions_of_others_hide_none(tmp_path: Path) -> None:
    """What stands in its topic of another agent, another topic or an earlier life says nothing."""

    def foreign(agent: str, topic: str, epoch: int) -> bytes:
        place = Position(topic, 0, 49)
        return encode_decision(
            Decision(
                id=f"{agent}/{epoch}/{topic}/0/49",
                agent=agent,
                spec_version=1,
                epoch=epoch,
                key="1",
                position=place,
                event_time=1,
                decision="score",
            )
        )

    async def work(place: Place) -> None:
        for of in (("b", "events", 1), ("a", "else", 1), ("a", "events", 0)):
            place.broker.logs[DECIDED].append(b"1", foreign(*of))
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await place.shards.close(shard, flush=False)  # it dies before anything was decided
        place.directory.drop_agent("a", through=1)
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await place.shards.close(shard, flush=True)
        assert len(offsets(place)) > 3

    live(tmp_path, work)


def test_decisions_on_events_that_the_log_has_not_are_of_another_log(tmp_path: Path) -> None:
    """The topic was made anew and is shorter, and the state is gone: what it is taught now would
    count as decided on, up to where the former log reached.
    """

    async def work(place: Place) -> None:
        await decided_and_lost(place)
        former = place.broker.logs[WHERE].rows()
        for left in (0, 30, 49):
            anew = place.broker.logs[WHERE] = Log()
            for row in former[:left]:
                anew.append(row.key, row.value, row.timestamp)
            with pytest.raises(ForeignStateError, match=f"on offset 49 .*ends at {left}: .*anew"):
                await place.shards.open(place.deployment, WHERE)

    live(tmp_path, work)


def test_decisions_of_who_held_it_before_may_come_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not heard yet that it holds the partition no more: its log is no other one."""

    async def work(place: Place) -> None:
        await decided_and_lost(place)
        newest = SimLogs.newest
        decided = place.broker.logs[DECIDED]

        async def decides(logs: SimLogs, partition: Partition, count: int) -> list[Record]:
            row = place.broker.logs[WHERE].rows()[-1]
            place.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
            last = msgspec.json.decode(decided.rows()[-1].value or b"")
            last |= {"id": "a/1/events/0/50", "position": {**last["position"], "offset": 50}}
            decided.append(row.key, msgspec.json.encode(last))
            return await newest(logs, partition, count)

        monkeypatch.setattr(SimLogs, "newest", decides)
        shard = await place.shards.open(place.deployment, WHERE)
        before = offsets(place)
        await shard.process(place.chunk())
        assert before[-1] == 50
        assert offsets(place) == before

    live(tmp_path, work)


def test_a_log_that_has_taught_it_nothing_yet_is_known_again(tmp_path: Path) -> None:
    """By the record before the one that it begins with: in another log that place says nothing."""

    async def work(place: Place) -> None:
        await place.controls.start()
        spec = place.deployment.deploy.spec
        source = {**spec["source"], "start": "latest"}
        text = msgspec.json.encode({**spec, "agent": "c", "source": source})
        digest = load_spec(text).digest
        place.command(
            control.Deploy(
                id="c", agent="c", spec=load_spec(text).to_dict(), digest=digest, emit_topic="of-c"
            )
        )
        await asyncio.sleep(1)  # the control log is followed
        deployment = place.controls.registry.get("c")
        for _ in range(2):
            shard = await place.shards.open(deployment, WHERE)
            assert shard.next_offset == 50
            assert shard.anchor is not None
            assert shard.anchor.offset == 49
            await place.shards.close(shard, flush=True)
        former = place.broker.logs[WHERE].rows()
        anew = place.broker.logs[WHERE] = Log()
        for row in former:
            anew.append(row.key, row.value, row.timestamp + 1)
        with pytest.raises(ForeignStateError, match=r"offset 49 .*made anew.*deploy it again"):
            await place.shards.open(deployment, WHERE)

    live(tmp_path, work)
