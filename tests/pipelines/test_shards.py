"""How shards are opened, closed and deleted while commands and rebalances come in between."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from headrace.errors import ForeignStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.shard import Shard
from tests.pipelines.small_place import ORIGIN, WHERE, Place, live


def test_a_command_that_comes_while_a_shard_is_opened_takes_effect(tmp_path: Path) -> None:
    """A resume is accepted while the pause before it is applied: the shard learns again."""

    async def work(place: Place) -> None:
        place.command(control.Pause(id="p", agent="a"))
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        assert [c.kind for c in place.deployment.commands] == ["deploy", "pause", "resume"]
        assert place.deployment.effect("r", WHERE) == 0
        assert not shard.paused

    live(tmp_path, work)


def test_what_takes_long_begins_when_the_shard_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who fails at it gives the shard up, which has to be found for that."""
    found: list[bool] = []

    def in_background(place: Place, shard: Shard, work: Coroutine[Any, Any, None]) -> None:
        found.append(place.shards.find("a", WHERE) is shard)
        work.close()

    monkeypatch.setattr(Place, "in_background", in_background)

    async def work(place: Place) -> None:
        base = control.Base(partition=0, epoch=1, next_offset=0, digest="0" * 64)
        place.command(
            control.Rollback(
                id="r", agent="a", life=1, snapshot_id="a.s1", bases=(base,), mode="rewind"
            )
        )
        await place.controls.start()
        await place.shards.open(place.deployment, WHERE)
        assert found == [True]

    live(tmp_path, work)


def test_a_shard_that_is_being_closed_is_opened_again_when_it_is(tmp_path: Path) -> None:
    """Not before: its database would still be open."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        place.sink.released.clear()
        closing = asyncio.create_task(place.shards.close(shard, flush=True))
        opening = asyncio.create_task(place.shards.open(place.deployment, WHERE))
        await asyncio.sleep(10)
        assert not opening.done()
        assert place.shards.durable_offset(WHERE) == 0
        place.sink.released.set()
        await closing
        assert (await opening).next_offset == 50

    live(tmp_path, work)


def test_a_delete_waits_for_shards_that_a_rebalance_closes(tmp_path: Path) -> None:
    """The directory of an agent goes only when none of its stores is open any more."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        path = place.directory.shard_path("a", 1, *WHERE)
        closing = asyncio.create_task(place.shards.close(shard, flush=True))
        place.command(control.Delete(id="x", agent="a"))
        await place.deleted.wait()
        await closing
        assert not path.exists()

    live(tmp_path, work)


def test_a_delete_counts_behind_what_a_closed_shard_may_have_decided(tmp_path: Path) -> None:
    """Where no shard is open, the effect of a delete is at the end of the log."""

    async def work(place: Place) -> None:
        await place.controls.start()
        place.owned = [WHERE]
        place.command(control.Delete(id="x", agent="a"))
        await place.deleted.wait()
        last = place.controls.registry.last("a")
        assert last is not None
        assert last.effect("x", WHERE) == 50

    live(tmp_path, work)


def test_a_delete_counts_when_all_that_was_decided_is_in_the_log(tmp_path: Path) -> None:
    """Nobody would decide again what a crash lost behind the effect of a delete."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        place.sink.released.clear()
        await shard.process(place.chunk())
        place.command(control.Delete(id="x", agent="a"))
        await asyncio.sleep(60)
        last = place.controls.registry.last("a")
        assert last is not None
        assert last.deleted
        assert last.effect("x", WHERE) is None
        place.sink.released.set()
        await place.deleted.wait()
        assert last.effect("x", WHERE) == 50
        assert place.sink.unacknowledged(ORIGIN) == []

    live(tmp_path, work)


def test_a_closed_shard_is_not_swept(tmp_path: Path) -> None:
    """A shard may be closed between its flush by the timer and the sweep after it."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await place.shards.close(shard, flush=True)
        await shard.sweep()
        assert shard.durable_offset == shard.next_offset == 50

    live(tmp_path, work)


def test_a_state_that_another_control_log_began_is_refused(tmp_path: Path) -> None:
    """Where the control log was made anew, the same epoch of the same name is another agent."""

    async def work(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await place.shards.close(shard, flush=True)
        again = await place.shards.open(place.deployment, WHERE)
        await place.shards.close(again, flush=True)
        place.deployment.effects.clear()
        with pytest.raises(ForeignStateError, match="the control log was made anew"):
            await place.shards.open(place.deployment, WHERE)

    live(tmp_path, work)


def test_a_spec_that_this_build_refuses_concerns_its_agent_alone(tmp_path: Path) -> None:
    """The log may hold what another build took: that is no bug, which would end the process."""

    async def work(place: Place) -> None:
        await place.controls.start()
        taken = place.deployment
        odd = structs.replace(taken.deploy, spec={"agent": "a", "features": 7})
        taken.commands[0] = structs.replace(taken.commands[0], command=odd)
        with pytest.raises(StateError, match="this build refuses the spec of agent 'a'"):
            await place.shards.open(taken, WHERE)

    live(tmp_path, work)
