"""State that this build cannot read: the agent begins anew where somebody says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import OtherBuildError
from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.views import Exclusion, How, Partition
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, reopened, taken, told


async def anew(place: Place, how: How, name: str = "m") -> None:
    """Somebody says that the agent begins anew, with the spec that it has; this is known then."""
    deploy, epoch = place.deployment.deploy, place.deployment.epoch
    place.command(
        control.Migrate(
            id=name,
            agent="a",
            life=1,
            how=how,
            replaces=deploy.digest,
            spec=deploy.spec,
            digest=deploy.digest,
            emit_topic=deploy.emit_topic,
            partitions=1,
            bases=(control.Base(partition=0, epoch=0, next_offset=0, digest=""),),
            anew=True,
        )
    )
    while place.deployment.epoch == epoch:  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("how", "begin"), [("refold", 0), ("reset", 50)])
def test_what_is_refused_begins_anew_where_somebody_says_so(
    tmp_path: Path, steps_otherwise: Callable[[], None], how: How, begin: int
) -> None:
    """In a new epoch, from the log's beginning or from where the decisions end."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        steps_otherwise()
        with pytest.raises(OtherBuildError):
            await reopened(place, shard, river="99")
        await anew(place, how)
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, begin)
        assert place.deployment.effect("m", WHERE) == 50
        assert place.directory.former("a", range(9), *WHERE) == []
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


def test_a_crash_after_the_effect_begins_it_anew_at_the_same_place(
    tmp_path: Path, steps_otherwise: Callable[[], None]
) -> None:
    """The effect is in the log, the store was not there yet: it is made then."""

    async def work(place: Place, shard: Shard) -> None:
        await taken(place, shard)
        await place.shards.close(shard, flush=True)
        steps_otherwise()
        place.become(river="99")
        await anew(place, "reset")
        again = await place.shards.open(place.deployment, WHERE)
        await place.shards.close(again, flush=False)
        path = place.directory.shard_path("a", 2, *WHERE)
        place.directory.drop_shard(path)
        path.mkdir(parents=True)  # in which RocksDB had made nothing
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.origin.epoch, again.next_offset) == (2, 50)
        await place.shards.close(again, flush=True)

    told(tmp_path, work)


@pytest.mark.parametrize("where", ["here", "in a snapshot"])
def test_to_begin_anew_is_agreed_to_once(
    tmp_path: Path, steps_otherwise: Callable[[], None], where: str
) -> None:
    """What was learned since is another state: the next build does not throw it away in silence."""

    async def work(place: Place, shard: Shard) -> None:
        await anew(place, "reset")
        while shard.origin.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        await more(place, shard)
        if where == "in a snapshot":
            await taken(place, shard)
        await place.shards.close(shard, flush=True)
        if where == "in a snapshot":
            place.directory.drop_agent("a", through=2)
        steps_otherwise()
        place.become(river="99")
        with pytest.raises(OtherBuildError):
            await place.shards.open(place.deployment, WHERE)
        await anew(place, "reset", "once more")
        agreed = await place.shards.open(place.deployment, WHERE)
        assert (agreed.origin.epoch, agreed.next_offset) == (3, 100)
        await place.shards.close(agreed, flush=True)

    told(tmp_path, work)


def test_what_a_rewind_left_out_is_not_learned_anew_and_nothing_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a refold beside a state that can be read; also after a restart on the way, when old
    decisions have been retired.
    """

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        base = control.Base(partition=0, epoch=1, next_offset=50, digest=vouched.digest)
        await more(place, shard)
        out = Exclusion(decisions=("a/1/events/0/60", "a/1/events/0/61"))
        rollback = control.Rollback(id="r", agent="a", life=1, snapshot_id="a.s1", bases=(base,))
        place.command(structs.replace(rollback, mode="rewind", exclude=out))
        while shard.origin.epoch < 2:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        rows = dict(shard.store.scan(KEY_ROW))
        decided = place.broker.logs[Partition("decided", 0)]
        refused = place.broker.logs[Partition("sim.quarantine", 0)]
        told_once = refused.end
        assert told_once > 0
        await taken(place, shard, "s2")
        await place.shards.close(shard, flush=True)
        monkeypatch.setattr(Probing, "accepts", lambda *_: ("it goes on otherwise",))
        place.become(river="99")
        await anew(place, "refold")
        again = await place.shards.open(place.deployment, WHERE)
        await again.process(Chunk("events", 0, place.chunk().records[:55], 55))
        await place.shards.close(again, flush=True)
        decided.begin = decided.end
        again = await place.shards.open(place.deployment, WHERE)
        await again.process(place.chunk())
        await again.flush()
        assert set(again.store.scan(KEY_ROW)) == set(rows.items())
        assert (decided.end, refused.end) == (decided.begin, told_once)
        await place.shards.close(again, flush=True)

    told(tmp_path, work)
