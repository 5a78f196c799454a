"""A forgotten key stays forgotten over the lives of an agent's name: deleted, deployed again."""

from __future__ import annotations

import shutil

import pytest
from msgspec import structs

from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.pipelines.order import Chunk
from headrace.pipelines.shard import Shard
from headrace.state.tombstones import tombstone
from headrace.views import Partition
from tests.fold.control import lives
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_forgetting import GONE, HISTORY, OTHER, SECRET, forget
from tests.pipelines.test_migrations import OTHER as OTHER_SPEC
from tests.pipelines.test_migrations import migrate
from tests.pipelines.test_past import Lived
from tests.pipelines.test_rollback_laws import History, Two, lived
from tests.simulation.broker import Log
from tests.simulation.controls import CONTROL

BESIDE = Partition("events", 1)
HALF = 12


class Again(Lived):
    """A place whose agent is deleted and deployed again."""

    lived = 1

    async def delete(self) -> None:
        self.deleted.clear()
        self.command(control.Delete(id=f"x{self.lived}", agent="a"))
        await self.deleted.wait()

    async def deploy(self, **fields: object) -> None:
        """A new life, which begins at the head of the log; none of its shards is open yet."""
        last = self.controls.registry.last("a")
        assert last is not None
        self.lived += 1
        first = last.commands[0].command
        self.command(structs.replace(first, id=f"d{self.lived}", **fields))
        registry = self.controls.registry
        await self.until(lambda: any(d.agent == "a" for d in registry.live()))

    async def opened(self, where: Partition = WHERE) -> Shard:
        """The shard of the present life, which has learned all that is in its log."""
        shard = await self.shards.open(self.deployment, where)
        rows = self.broker.logs[where].rows()
        await shard.process(Chunk(*where, rows, len(rows)))
        return shard

    async def known(self, where: Partition = WHERE) -> set[str]:
        """The keys of which the shard has a row."""
        shard = self.shards.find("a", where)
        assert shard is not None
        await shard.flush()
        return {row[len(KEY_ROW) :].decode() for row in shard.store.names(KEY_ROW)}

    async def restarted(self, where: Partition = WHERE, *, lost: bool = False) -> None:
        """Its shard is opened again, on what the disk has, if that was not lost."""
        shard = self.shards.find("a", where)
        assert shard is not None
        await self.shards.close(shard, flush=not lost)
        if lost:
            shutil.rmtree(self.directory.path / "shards" / "a")
        await self.opened(where)

    def told_to_forget(self, control_id: str, *partitions: tuple[Partition, int]) -> None:
        """The command, and that it has counted in some partitions, by another worker."""
        epoch, mark = self.deployment.epoch, tombstone(SECRET, "a", GONE)
        self.command(control.Forget(id=control_id, agent="a", secret_id=SECRET.id, tombstone=mark))
        for partition, at in partitions:
            self.command(
                control.ShardEffect(
                    id=f"{control_id}/{partition}",
                    control_id=control_id,
                    agent="a",
                    epoch=epoch,
                    topic=partition.topic,
                    partition=partition.partition,
                    next_offset=at,
                    worker="w",
                )
            )


@pytest.mark.parametrize("lost", [False, True], ids=["restarts", "lost disks"])
def test_a_key_stays_forgotten_over_three_lives(*, lost: bool) -> None:
    """In each of them the log is learned from its head, with what came after the forget alone."""
    found: list[dict[str, str]] = []

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(HALF)
        if not found:
            await forget(place)
        for _ in range(2):
            await place.delete()
            await place.deploy()
            await place.opened()
            assert set(await place.digests("a")) == ({OTHER} if not found else {OTHER, "nobody"})
            await place.restarted(lost=lost)
        await place.feed(24)
        await place.restarted(lost=lost)
        found.append(await place.digests("a"))

    lived(HISTORY, work, Again)
    cut = tuple("nobody" if at < HALF and k == GONE else k for at, k in enumerate(HISTORY.keys))
    lived(History(3, cut, 0, 0), work, Again)
    assert found[0][GONE] == found[1][GONE]
    assert found[0][OTHER] == found[1][OTHER]


def test_a_forget_of_each_life_counts_in_the_third() -> None:
    """The later one counts from further on; between them the key had begun anew."""

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(6)
        await forget(place)
        await place.feed(HALF)
        await place.delete()
        await place.deploy()
        await place.opened()
        assert set(await place.digests("a")) == {OTHER, GONE}
        await forget(place, control_id="f2")
        await place.delete()
        await place.deploy()
        await place.opened()
        assert set(await place.digests("a")) == {OTHER}

    lived(HISTORY, work, Again)


async def two_partitions(place: Again) -> None:
    """The agent holds a part of its topic more, with the same events, all of them learned."""
    await place.feed(HALF)
    for row in place.rows[:HALF]:
        place.broker.logs[BESIDE].append(row.key, row.value, row.timestamp)
    await place.opened(BESIDE)
    await place.vault.note(SECRET)
    place.owned = [WHERE, BESIDE]


def test_a_forget_that_a_partition_had_not_done_when_its_agent_was_deleted_is_done() -> None:
    """It counts there where the next life begins: no event of the key from before is learned, in
    no later life either, and what comes after is.
    """

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await two_partitions(place)
        for shard in [place.shard("a"), place.shards.find("a", BESIDE)]:
            assert shard is not None
            await place.shards.close(shard, flush=True)  # somebody else holds them
        place.told_to_forget("f", (WHERE, HALF))
        await place.delete()
        for _ in range(2):
            await place.deploy()
            for where in (WHERE, BESIDE):
                await place.opened(where)
                assert await place.known(where) == {OTHER}
                await place.restarted(where, lost=True)
                assert await place.known(where) == {OTHER}
            await place.delete()
        await place.deploy()
        row = next(row for row in place.rows if row.key == GONE.encode())
        place.broker.logs[BESIDE].append(row.key, row.value, row.timestamp)
        await place.opened(BESIDE)
        assert await place.known(BESIDE) == {OTHER, GONE}

    lived(HISTORY, work, Again)


def test_a_forget_that_counted_nowhere_in_its_life_counts_in_the_next() -> None:
    """Whatever happens there: a restart, a rewind, a refold, a question about the past."""

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(HALF)
        await place.vault.note(SECRET)
        await place.shards.close(place.shard("a"), flush=True)
        place.told_to_forget("f")
        await place.delete()
        await place.deploy()
        await place.opened()
        assert place.deployment.effect("f", WHERE) == HALF
        snapshot_id = await place.snapshot("a")
        await place.feed(15)  # the key comes again, after its forget
        assert await place.known() == {OTHER, GONE}
        before = await place.digests("a")
        await place.roll_back("a", snapshot_id, mode="rewind")
        assert await place.digests("a") == before
        (deploy,) = (s for s in place.timeline("a").starts(15) if s.vouched is None)
        life = lives(row.value or b"" for row in place.broker.logs[CONTROL].rows())[-1]
        assert [f.at for _, f in life.forgets() if f.former] == [HALF]
        assert deploy.next_offset == 0
        place.command(migrate(place, "m", "refold", OTHER_SPEC))
        await place.until(lambda: place.deployment.effect("m", WHERE) == 15)
        await place.until(lambda: place.shard("a").origin.epoch == place.deployment.epoch)
        assert await place.known() == {OTHER, GONE}
        await place.restarted(lost=True)
        assert await place.known() == {OTHER, GONE}

    lived(HISTORY, work, Again)


def test_another_topic_under_the_same_name_does_not_bring_it_back() -> None:
    """Its events may be the same: those that are there when the life begins are passed over."""

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(HALF)
        await forget(place)
        await place.delete()
        elsewhere = Partition("events-again", 0)
        for row in place.rows[:HALF]:
            place.broker.logs[elsewhere].append(row.key, row.value, row.timestamp)
        last = place.controls.registry.last("a")
        assert last is not None
        spec = last.deploy.spec
        source = {**spec["source"], "topic": elsewhere.topic}
        await place.deploy(spec={**spec, "source": source})
        await place.opened(elsewhere)
        assert await place.known(elsewhere) == {OTHER}

    lived(HISTORY, work, Again)


def test_a_log_made_anew_is_passed_over_no_further_than_it_reached() -> None:
    """The key was forgotten further on in the former log. What stands in the new one when the life
    begins is passed over, as it may be sent again; what comes later is learned.
    """

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(HALF)
        await forget(place)
        await place.delete()
        anew = place.broker.logs[WHERE] = Log()
        for row in place.rows[:6]:
            anew.append(row.key, row.value, row.timestamp)
        await place.deploy()
        await place.opened()
        assert await place.known() == {OTHER}
        await place.restarted(lost=True)
        assert await place.known() == {OTHER}
        for row in place.rows[6:HALF]:
            anew.append(row.key, row.value, row.timestamp)
        await place.restarted()
        assert await place.known() == {OTHER, GONE}

    lived(HISTORY, work, Again)
