"""When snapshots that hold a forgotten key may go: not before there is a newer one without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import DiskFullError, ForeignStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.erasing import ANYBODY_EVERY, Erasing
from headrace.state.catalogue import encode
from headrace.state.owner import Owner
from headrace.state.repositories import LocalRepository
from tests.pipelines.small_place import WHERE
from tests.pipelines.snapshots_of_one import take
from tests.pipelines.test_forgetting import GONE, HISTORY, SECRET, forget, holding
from tests.pipelines.test_forgotten_lives import BESIDE, Again
from tests.pipelines.test_rollback_laws import Two, lived


async def left(place: Two) -> set[str]:
    """The snapshots that are there when somebody has looked what has to be erased."""
    await Erasing(place.vault, place.controls.registry, place.shards).look()
    return {view.snapshot_id for view in place.vault.catalogue.snapshots("a")}


async def automatic(place: Two, name: str) -> None:
    """An automatic snapshot, published."""
    await take(place, place.shard("a"), name, "automatic")
    await place.until(lambda: bool(place.vault.catalogue.shards(f"a.{name}")))


def test_an_older_snapshot_without_the_key_is_no_reason_to_remove_a_newer_one() -> None:
    """A named one from before the forget is written anew without the key at once; the automatic
    one, which would be restored, goes when there is one from behind the forget.
    """

    async def work(place: Two) -> None:
        await place.feed(6)
        named = await place.snapshot("a")
        await place.feed(9)
        await automatic(place, "auto-1")
        await place.feed(12)
        await forget(place)
        assert await left(place) == {named, "a.auto-1"}
        assert not place.vault.holds_forgotten(place.vault.catalogue.shards(named)[WHERE])
        assert await left(place) == {named, "a.auto-1"}
        await automatic(place, "auto-2")
        assert await left(place) == {named, "a.auto-2"}

    lived(HISTORY, work)


def test_a_snapshot_of_which_a_part_has_yet_to_forget_is_no_newer_one() -> None:
    """The forget has counted in one partition of two, and the other one holds nothing yet that it
    should not.
    """

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(9)
        await automatic(place, "auto-1")
        await place.feed(12)
        await place.vault.note(SECRET)
        place.told_to_forget("f", (WHERE, 12))
        await place.until(lambda: place.deployment.effect("f", WHERE) == 12)
        old = place.vault.catalogue.shards("a.auto-1")[WHERE]
        done = next(f.offset for f in place.deployment.forgets())
        new = structs.replace(
            old, snapshot_id="a.auto-2", partitions=2, next_offset=12, forgotten=done
        )
        beside = structs.replace(new, partition=BESIDE.partition, forgotten=-1)
        for vouched in (new, beside):
            await place.catalogue.append(vouched.key, encode(vouched))
        assert await left(place) == {"a.auto-1", "a.auto-2"}
        effect = control.ShardEffect(
            id="f/beside",
            control_id="f",
            agent="a",
            epoch=1,
            topic=BESIDE.topic,
            partition=BESIDE.partition,
            next_offset=12,
            worker="w",
        )
        place.command(effect)
        await place.until(lambda: place.deployment.effect("f", BESIDE) == 12)
        assert await left(place) == {"a.auto-1", "a.auto-2"}, "now that part holds the key"
        anew = structs.replace(beside, forgotten=done)
        await place.catalogue.append(anew.key, encode(anew))
        assert await left(place) == {"a.auto-2"}

    lived(HISTORY, work, Again)


def test_one_that_is_pinned_while_others_are_removed_is_written_anew() -> None:
    """Who pinned it was told that it stays; and it forgets the key as all that stay do."""

    async def work(place: Two) -> None:
        await place.feed(9)
        for name in ("auto-1", "auto-2"):
            await automatic(place, name)
        await place.feed(12)
        await forget(place)
        await automatic(place, "auto-3")
        removing = place.vault.remove
        removed: list[str] = []

        async def pinning_the_next(snapshot_id: str, epoch: int, control_offset: int) -> None:
            removed.append(snapshot_id)
            (other,) = {"a.auto-1", "a.auto-2"} - {snapshot_id}
            await place.vault.pin(other, pinned=True)
            await removing(snapshot_id, epoch, control_offset)

        place.vault.remove = pinning_the_next  # type: ignore[method-assign]
        assert len(await left(place)) == 2
        (pinned,) = {"a.auto-1", "a.auto-2"} - set(removed)
        assert await left(place) == {pinned, "a.auto-3"}
        assert place.vault.catalogue.pinned(pinned)
        assert not place.vault.holds_forgotten(place.vault.catalogue.shards(pinned)[WHERE])

    lived(HISTORY, work)


async def all_deleted(place: Two) -> None:
    """Nobody is deployed any more."""
    for agent in ("a", "b"):
        place.command(control.Delete(id=f"x{agent}", agent=agent))
    await place.until(lambda: not list(place.controls.registry.live()))
    await place.until(lambda: place.shards.find("a", WHERE) is None)


async def knows(place: Two, snapshot_id: str) -> bool:
    """Whether the bytes that are vouched for there hold the key."""
    vouched = place.vault.catalogue.shards(snapshot_id)[WHERE]
    manifest = place.broker.repository.manifest(*vouched.ref)
    directory = place.directory.draft()
    place.broker.repository.fetch(manifest.files, directory)
    return bool(holding(directory))


def test_when_the_last_agent_is_deleted_somebody_erases_nevertheless() -> None:
    """A snapshot that was named is written anew, and the automatic one needs no successor."""

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await automatic(place, "auto-1")
        assert await knows(place, named), GONE
        await forget(place)
        await all_deleted(place)
        assert await left(place) == {named}
        assert not await knows(place, named)

    lived(HISTORY, work)


def test_a_forget_that_had_not_counted_when_its_agent_was_deleted_counts_everywhere() -> None:
    """It never will count now, and what is kept was to know nothing of the key."""

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(9)
        named = await place.snapshot("a")
        await automatic(place, "auto-1")
        place.told_to_forget("f")  # it waits for its secret
        await place.until(lambda: bool(place.deployment.forgets()))
        deployment = place.deployment
        await place.delete()
        assert deployment.effect("f", WHERE) is None
        await place.vault.note(SECRET)
        assert place.vault.holds_forgotten(place.vault.catalogue.shards(named)[WHERE])
        assert await left(place) == {named}
        assert not await knows(place, named)

    lived(HISTORY, work, Again)


def test_what_a_deleted_agent_left_is_erased_though_the_first_one_has_failed_elsewhere() -> None:
    """Nobody else knows of that; so any worker looks after it now and then."""

    async def work(place: Two) -> None:
        assert isinstance(place, Again)
        await place.feed(9)
        named = await place.snapshot("a")
        await forget(place)
        await place.delete()
        shard = place.shards.find("b", WHERE)
        assert shard is not None
        await place.shards.close(shard, flush=True)  # somebody else has it, and gives it up
        erasing = Erasing(place.vault, place.controls.registry, place.shards)
        for _ in range(ANYBODY_EVERY - 1):
            await erasing.look()
        assert await knows(place, named)
        await erasing.look()
        assert not await knows(place, named)

    lived(HISTORY, work, Again)


def test_two_who_rewrite_the_same_at_once_leave_what_is_vouched_for() -> None:
    """Without an agent nobody is the one to do it: what the last of them wrote stays."""

    async def work(place: Two) -> None:
        await place.feed(9)
        named = await place.snapshot("a")
        await forget(place)
        await all_deleted(place)
        repository, old = place.broker.repository, place.vault.catalogue.shards(named)[WHERE]
        await left(place)
        mine = place.vault.catalogue.shards(named)[WHERE]
        manifest = repository.manifest(*mine.ref)
        other = repository.add_manifest(structs.replace(manifest, created_ms=1))
        await place.catalogue.append(mine.key, encode(structs.replace(mine, digest=other)))
        repository.withdraw(mine.ref, mine.replaces)  # the slower one's last step
        assert old.digest not in (mine.digest, other)
        assert not await knows(place, named)
        assert await left(place) == {named}

    lived(HISTORY, work)


def test_the_snapshots_of_an_agent_that_has_failed_are_written_anew() -> None:
    """Nothing newer comes of it, and what it had is not lost; whoever keeps house sees to it."""

    async def work(place: Two) -> None:
        await place.feed(6)
        named = await place.snapshot("a")
        await place.feed(9)
        await automatic(place, "auto-1")
        await place.feed(12)
        await forget(place)
        await place.shards.close(place.shard("a"), flush=True)
        broken = {"a": StateError("its log was made anew")}
        failed = Erasing(place.vault, place.controls.registry, place.shards, broken)
        await Erasing(place.vault, place.controls.registry, place.shards).look()
        shards = [place.vault.catalogue.shards(each)[WHERE] for each in (named, "a.auto-1")]
        assert all(map(place.vault.holds_forgotten, shards)), "nobody knows yet that it has"
        assert holding(place.directory.checkpoints)
        await failed.look()
        shards = [place.vault.catalogue.shards(each)[WHERE] for each in (named, "a.auto-1")]
        assert not any(map(place.vault.holds_forgotten, shards))
        assert holding(place.directory.checkpoints) == []

    lived(HISTORY, work)


@pytest.mark.parametrize("why", [StateError("made anew"), DiskFullError("no room")])
def test_what_a_failed_agent_has_taken_and_not_published_stays(why: StateError) -> None:
    """An undo may need it, and it is the newest there is. What passes is not waited for with that:
    the agent takes snapshots again.
    """

    async def work(place: Two) -> None:
        await place.feed(9)
        await automatic(place, "auto-1")
        with place.shards.site.precedence.held():
            await take(place, place.shard("a"), "undo-1", "undo")
            await place.feed(12)
            await forget(place)
            await place.shards.close(place.shard("a"), flush=True)
            failed = Erasing(place.vault, place.controls.registry, place.shards, {"a": why})
            for _ in range(3):
                await failed.look()
            assert place.vault.owes("a.undo-1")
        old = place.vault.catalogue.shards("a.auto-1")[WHERE]
        assert place.vault.holds_forgotten(old) == isinstance(why, DiskFullError)
        await place.until(lambda: bool(place.vault.catalogue.shards("a.undo-1")))
        await failed.look()
        held = holding(place.directory.checkpoints)
        assert bool(held) == isinstance(why, DiskFullError)

    lived(HISTORY, work)


class Anothers(LocalRepository):
    """It has come back, and belongs to another app."""

    def claim(self, owner: Owner) -> None:
        raise ForeignStateError(f"it is not {owner.app}'s")


def test_nothing_is_written_anew_into_what_belongs_to_others(tmp_path: Path) -> None:
    """It was away when the worker started; what is to be written anew still lies on its disk."""

    async def work(place: Two) -> None:
        await place.feed(9)
        vouched = place.vault.catalogue.shards(await place.snapshot("a"))[WHERE]
        await place.feed(12)
        await forget(place)
        place.vault._repository = kept = Anothers(tmp_path / "kept")
        place.vault._owner, place.vault._claimed = Owner(app="mine", cluster_id="c"), False
        with pytest.raises(ForeignStateError, match="not mine's"):
            await place.vault.rewrite(vouched)
        assert kept.snapshots() == []
        assert list(kept._shelf.list("blobs")) == []

    lived(HISTORY, work)
