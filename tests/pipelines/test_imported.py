"""Rollbacks to a snapshot that was imported: of another log, so its epoch is 0 here."""

from __future__ import annotations

import asyncio
import io
import shutil
from dataclasses import replace

import pytest

from headrace.pipelines import control
from headrace.pipelines.bases import bases
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import undo_id
from headrace.state.archive import Index
from tests.fold import compare
from tests.fold.fold import fold
from tests.fold.state import Folded
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_forgetting import GONE, OTHER, forget
from tests.pipelines.test_past import Lived
from tests.pipelines.test_rollback_laws import AGENTS, History, Two, lived

THERE = History(11, (OTHER, GONE, OTHER, OTHER, GONE) * 24, 0, 0)
HERE = History(3, (GONE, GONE, OTHER, GONE) * 40, 0, 0)
LEARNED_THERE = 101


class Importing(Lived):
    """A place with an agent that is rolled back to what another place has learned."""

    agent = "a"

    async def bring(self, archive: bytes, digest: str) -> str:
        """Import an archive; the snapshot's id."""

        def anything(_: Index) -> None:
            """Nothing speaks against it."""

        coming = self.vault.coming(io.BytesIO(archive), "the archive", digest)
        index = await asyncio.to_thread(coming.index)
        await self.vault.bring(coming, anything)
        return index.snapshot_id

    async def go_back(self, snapshot_id: str) -> str:
        """Roll the agent back to it, as people ask for it; the rollback's id."""
        view = self.vault.catalogue.get(snapshot_id)
        assert view is not None
        deployment = self.controls.registry.get(self.agent)
        epoch = deployment.epoch
        command = control.Rollback(
            id=f"r{epoch}",
            agent=self.agent,
            life=deployment.life,
            snapshot_id=snapshot_id,
            bases=await bases(self.vault, view),
        )
        assert command.base(0).epoch == 0
        self.command(command)
        await self.until(lambda: self.shard(self.agent).origin.epoch == epoch + 1)
        return command.id

    def folded(self, agent: str, offset: int) -> Folded:
        life, where = self.life(agent), (WHERE.topic, WHERE.partition)
        elsewhere = {LEARNED_THERE: THERE.rows()[:LEARNED_THERE]}
        return fold(
            AGENTS[agent],
            life.origin(where),
            [row for row in self.log.rows() if row.offset < offset],
            replace(life.course(where, offset), imported=elsewhere),
        )

    async def wrong(self) -> list[str]:
        """Between the agent's state and the fold."""
        shard = self.shard(self.agent)
        async with shard._turn:
            pass  # what counts is done
        await shard.flush()
        return compare.rows(self.folded(self.agent, self.log.end), shard.store)

    async def with_another_disk(self) -> Shard:
        """Open the agent's shard where nothing of it lies, and let it learn what it lacks."""
        await self.shards.close(self.shard(self.agent), flush=True)
        shutil.rmtree(self.directory.path / "shards" / self.agent)
        for cut in self.vault._checkpoints.cuts():
            await asyncio.to_thread(self.vault._checkpoints.drop, cut)
        shard = await self.shards.open(self.controls.registry.get(self.agent), WHERE)
        await shard.process(self.chunk())
        return shard


def exported(agent: str) -> tuple[bytes, str]:
    """What the agent has learned elsewhere, as an archive, and its digest."""
    found: list[tuple[bytes, str]] = []

    async def work(place: Two) -> None:
        await place.feed(LEARNED_THERE)
        for number in range(10):  # so that its control log is longer than the other one will be
            place.command(control.Pause(id=f"p{number}", agent=agent))
            place.command(control.Resume(id=f"q{number}", agent=agent))
        await forget(place, agent, key="nobody")
        vouched = place.vault.catalogue.shards(await place.snapshot(agent))[WHERE]
        archive = await place.vault.exported([vouched.ref], "")
        found.append((b"".join(archive.pieces), archive.digest))

    lived(THERE, work)
    return found[0]


@pytest.mark.parametrize("agent", sorted(AGENTS))
@pytest.mark.parametrize("published", [False, True])
def test_back_and_forth_and_on_an_empty_disk(agent: str, *, published: bool) -> None:
    """To the import, undone, and to it again, with events between; then the disk is lost, with or
    without a snapshot of what came of it. Each time the state is the fold's, which learns the other
    log for it.
    """
    archive, digest = exported(agent)

    async def work(place: Two) -> None:
        assert isinstance(place, Importing)
        vault, place.agent = place.vault, agent

        async def taken(shard: Shard) -> bool:
            await shard.settle()
            return bool(await vault.take(shard, f"{agent}.auto-4", "automatic", 1))

        await place.feed(60)
        snapshot_id = await place.bring(archive, digest)
        before = await place.digests(agent)
        first = await place.go_back(snapshot_id)
        assert await place.wrong() == []
        assert await place.digests(agent) != before
        await place.roll_back(agent, undo_id(agent, first), undoes=first)
        assert await place.wrong() == []
        assert await place.digests(agent) == before
        await place.feed(90)
        await place.go_back(snapshot_id)
        assert await place.wrong() == []
        await place.feed(120)
        assert await place.wrong() == []
        if published:
            await place.shard(agent).between_events(taken)
            await place.until(lambda: bool(place.vault.catalogue.shards(f"{agent}.auto-4")))
        await place.feed(150)
        shard = await place.with_another_disk()
        assert (shard.origin.epoch, shard.next_offset) == (4, 150)
        assert await place.wrong() == []
        for offset in (80, 120):
            starts = place.timeline(agent).starts(offset)
            for start in (starts[0], starts[-1]):
                assert await place.differences(agent, start, offset) == [], (offset, start)

    lived(HERE, work, Importing)


def test_what_was_forgotten_here_is_not_brought_back_by_an_import() -> None:
    """Neither what is forgotten before it comes, nor since; positions of the other log say nothing
    of when.
    """
    archive, digest = exported("a")

    async def work(place: Two) -> None:
        assert isinstance(place, Importing)
        await place.feed(4)
        await forget(place)
        await place.feed(6)
        snapshot_id = await place.bring(archive, digest)
        await place.go_back(snapshot_id)
        assert set(await place.digests("a")) == {OTHER}
        assert await place.wrong() == []
        await place.feed(8)
        await place.with_another_disk()
        assert await place.wrong() == []

    lived(HERE, work, Importing)
