"""Which state and which spec a shard has after a migration, whatever there is on disk and afar."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from headrace.errors import AwayStateError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec, load_spec
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.shard import Shard
from headrace.state.catalogue import encode
from headrace.state.memory import MemoryStore
from headrace.views import How
from tests.fold.versions import versions
from tests.pipelines.small_place import WHERE
from tests.pipelines.snapshots_of_one import dropped
from tests.pipelines.test_rollback_laws import AGENTS, History, Two, lived

EVENTS = 50
HISTORY = History(7, ("1", "2", "3", "4", "1") * (EVENTS // 5), 30, EVENTS)
OLD, NEW, OTHER = (load_spec(each.spec) for each in versions(AGENTS["a"], 0.1))


def migrate(place: Two, control_id: str, how: How, spec: Spec = NEW) -> control.Migrate:
    there = place.controls.registry.get("a")
    return control.Migrate(
        id=control_id,
        agent="a",
        life=there.life,
        how=how,
        replaces=there.deploy.digest,
        spec=spec.to_dict(),
        digest=spec.digest,
        emit_topic=spec.emit_topic,
        partitions=1,
        bases=(control.Base(partition=0, epoch=0, next_offset=0, digest=""),),
    )


def effect(control_id: str, offset: int, epoch: int) -> control.ShardEffect:
    """Another worker has said where it counts."""
    return control.ShardEffect(
        id=f"{control_id}/events/0",
        control_id=control_id,
        agent="a",
        epoch=epoch,
        topic="events",
        partition=0,
        next_offset=offset,
        worker="another",
    )


async def reopened(place: Two) -> Shard:
    """The agent's shard, closed and opened again."""
    if (there := place.shards.find("a", WHERE)) is not None:
        await place.shards.close(there, flush=True)
    return await place.shards.open(place.controls.registry.get("a"), WHERE)


async def rest(place: Two, shard: Shard) -> None:
    """All that is in the log."""
    await shard.process(Chunk("events", 0, place.rows[: place.log.end], place.log.end))


def learned(spec: Spec, place: Two, first: int) -> dict[bytes, bytes]:
    """The rows of one learner over all events from there on."""
    learner = Learner(spec, Origin("a", 1, 1, *WHERE), MemoryStore())
    learner.step(place.rows[first:])
    return {row: data for row, data in learner.changed() if data is not None}


def test_a_state_from_behind_a_migration_is_learned_anew() -> None:
    """A worker that was held up has learned under the old spec what belongs to the new one."""

    async def work(place: Two) -> None:
        await place.feed(EVENTS)
        await place.shards.close(place.shard("a"), flush=True)
        command = migrate(place, "m", "reset")
        place.command(command)
        place.command(effect("m", 30, 2))
        await place.until(lambda: place.controls.registry.get("a").epoch == 2)
        shard = await reopened(place)
        await rest(place, shard)
        assert (shard.origin.epoch, shard.origin.spec_version) == (2, 2)
        assert await place.stored("a") == learned(NEW, place, 30)

    lived(HISTORY, work)


def test_a_snapshot_of_another_spec_is_not_restored() -> None:
    """Even if the catalogue says that it is of the epoch that there is."""

    async def work(place: Two) -> None:
        await place.feed(30)
        snapshot_id = await place.snapshot("a")
        place.command(migrate(place, "m", "reset"))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        await place.feed(EVENTS)
        await place.shards.close(place.shard("a"), flush=True)
        place.directory.drop_agent("a", through=2)
        vouched = place.vault.catalogue.shards(snapshot_id)[WHERE]
        forged = msgspec.structs.replace(vouched, epoch=2, next_offset=40)
        await place.catalogue.append(forged.key, encode(forged))
        await place.until(lambda: place.vault.catalogue.shards(snapshot_id)[WHERE].epoch == 2)
        shard = await reopened(place)
        await rest(place, shard)
        assert await place.stored("a") == learned(NEW, place, 30)

    lived(HISTORY, work)


def test_a_migration_that_cannot_be_done_leaves_state_and_spec() -> None:
    """The log was cut meanwhile: the effect says so, a restart finds the old spec, and the same
    one can be deployed again.
    """

    async def work(place: Two) -> None:
        await place.feed(EVENTS)
        before = await place.stored("a")
        place.log.begin = 10
        place.command(migrate(place, "m", "refold"))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        deployment = place.controls.registry.get("a")
        assert "does not reach back" in deployment.failed("m")[WHERE]
        for shard in (place.shard("a"), await reopened(place)):
            assert shard.origin == Origin("a", 1, 2, *WHERE)
            assert shard.learner.spec.digest == load_spec(AGENTS["a"].spec).digest
        assert await place.stored("a") == before
        place.command(migrate(place, "again", "reset"))
        await place.until(lambda: place.shard("a").origin == Origin("a", 3, 3, *WHERE))

    lived(HISTORY, work)


def test_a_refold_is_the_fold_of_the_log_under_the_new_spec() -> None:
    """Row by row, metrics and counters too."""

    async def work(place: Two) -> None:
        await place.feed(EVENTS)
        place.command(migrate(place, "m", "refold", OTHER))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        assert await place.stored("a") == learned(OTHER, place, 0)

    lived(HISTORY, work)


def test_a_rewind_learns_under_the_spec_that_holds_where_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is prepared while the shard learns again what came before a migration: a worker that had
    an older state took over, and does not get at the newest snapshot.
    """

    async def work(place: Two) -> None:
        await place.feed(20)
        await place.shards.close(place.shard("a"), flush=True)
        there, older = place.directory.path / "shards" / "a", tmp_path / "older"
        shutil.copytree(there, older)
        await reopened(place)
        await place.feed(30)
        place.command(migrate(place, "m", "reset", OTHER))
        await place.until(lambda: place.shard("a").origin.epoch == 2)
        await place.feed(32)
        snapshot_id = await place.snapshot("a")
        await place.feed(EVENTS)
        await place.shards.close(place.shard("a"), flush=True)
        shutil.rmtree(there)
        shutil.copytree(older, there)
        await dropped(place, snapshot_id)

        async def away(*_: object) -> Path:
            raise AwayStateError("Connection refused")

        with monkeypatch.context() as patched:
            patched.setattr(place.vault, "fetch", away)
            shard = await reopened(place)
        assert (shard.next_offset, shard.origin.epoch) == (20, 1)
        place.command(place.back("a", snapshot_id, mode="rewind"))
        await asyncio.sleep(2.0)
        await rest(place, shard)
        await place.until(lambda: shard.origin.epoch == 3)
        (rollback,) = place.controls.registry.get("a").rollbacks()
        assert place.controls.registry.get("a").failed(rollback.control_id) == {}
        assert await place.stored("a") == learned(OTHER, place, 30)

    lived(HISTORY, work)
