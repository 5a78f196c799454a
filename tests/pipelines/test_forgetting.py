"""Nothing brings a forgotten key back: the real shards, vault and repository, in virtual time."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec import structs

from headrace.models.slots import KEY_ROW
from headrace.pipelines import control
from headrace.state.tombstones import Secret, tombstone
from headrace.views import Exclusion
from tests.pipelines.small_place import WHERE
from tests.pipelines.test_rollback_laws import History, Two, lived

GONE = "4711-no-longer"  # it sorts before the other: so a table has it plainly, not as a suffix
OTHER = "customer-0815"
SECRET = Secret(value="5e" * 32)
HISTORY = History(3, (OTHER, GONE, GONE, OTHER, GONE, OTHER, GONE, OTHER) * 3, 0, 0)


async def forget(place: Two, agent: str = "a", control_id: str = "f", key: str = GONE) -> None:
    """The key is forgotten where the shard stands."""
    await place.vault.note(SECRET)
    place.command(
        control.Forget(
            id=control_id,
            agent=agent,
            secret_id=SECRET.id,
            tombstone=tombstone(SECRET, agent, key),
        )
    )
    shard = place.shard(agent)
    before = shard.forgotten.newest
    await place.until(lambda: shard.forgotten.newest > before)
    async with shard._turn:
        pass  # it is done now


def holding(directory: Path, key: str = GONE) -> list[str]:
    """Files below a directory that hold the key, as it is or as RocksDB's log writes it."""
    forms = (key.encode(), key.encode().hex().upper().encode())
    return sorted(
        path.name
        for path in directory.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    )


def test_a_forgotten_key_is_in_no_file_of_its_shard(tmp_path: Path) -> None:
    """Rows go at once, and with them the bytes of the key in tables, write-ahead log and
    RocksDB's own records; the other key is what it was.
    """

    async def work(place: Two) -> None:
        await place.feed(12)
        await place.snapshot("a")  # so that the key is in a table, and not in the log alone
        before = await place.digests("a")
        shards = place.directory.shard_path("a", 1, *WHERE)
        assert GONE in before
        assert holding(shards)
        await forget(place)
        assert await place.digests("a") == {OTHER: before[OTHER]}
        assert holding(shards) == []

    lived(HISTORY, work)


def test_later_events_of_a_forgotten_key_start_cold() -> None:
    """Its state is that of a key whose first event came after."""
    found: list[str] = []

    async def with_past(place: Two) -> None:
        await place.feed(12)
        await forget(place)
        await place.feed(24)
        found.append((await place.digests("a"))[GONE])

    async def without(place: Two) -> None:
        await place.feed(24)
        found.append((await place.digests("a"))[GONE])

    lived(HISTORY, with_past)
    cut = tuple("nobody" if at < 12 and key == GONE else key for at, key in enumerate(HISTORY.keys))
    lived(History(3, cut, 0, 0), without)
    assert found[0] == found[1]


def test_a_revert_to_before_does_not_bring_it_back() -> None:
    """The other key goes back to the snapshot, the forgotten one has no row."""

    async def work(place: Two) -> None:
        await place.feed(12)
        snapshot_id = await place.snapshot("a")
        chosen = await place.digests("a")
        await place.feed(18)
        await forget(place)
        await place.roll_back("a", snapshot_id)
        assert await place.digests("a") == {OTHER: chosen[OTHER]}
        assert holding(place.directory.shard_path("a", 2, *WHERE)) == []

    lived(HISTORY, work)


def test_a_revert_of_the_key_itself_does_not_bring_it_back() -> None:
    """There is nothing of it to go back to."""

    async def work(place: Two) -> None:
        await place.feed(12)
        snapshot_id = await place.snapshot("a")
        await forget(place)
        await place.feed(18)
        await place.roll_back("a", snapshot_id, keys=(GONE,))
        assert GONE not in await place.digests("a")

    lived(HISTORY, work)


def test_a_rewind_learns_no_event_from_below_the_forget() -> None:
    """What comes after it is learned again, from cold."""

    async def work(place: Two) -> None:
        await place.feed(6)
        snapshot_id = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        await place.feed(24)
        before = await place.digests("a")
        await place.roll_back("a", snapshot_id, mode="rewind", exclude=Exclusion(keys=("x",)))
        assert await place.digests("a") == before

    lived(HISTORY, work)


def test_a_restore_from_before_does_not_bring_it_back() -> None:
    """The disk is lost, the only snapshot is older than the forget, and the log still has all."""

    async def work(place: Two) -> None:
        await place.feed(6)
        snapshot_id = await place.snapshot("a")
        await place.feed(12)
        await forget(place)
        before = await place.digests("a")
        await place.shards.close(place.shard("a"), flush=False)
        shutil.rmtree(place.directory.path / "shards" / "a")
        await place.until(lambda: bool(place.vault.catalogue.shards(snapshot_id)))
        shard = await place.shards.open(place.deployment, WHERE)
        assert shard.next_offset == 6
        assert shard.store.get(KEY_ROW + GONE.encode()) is None
        await shard.process(place.chunk())
        assert await place.digests("a") == before

    lived(HISTORY, work)


def test_a_crash_before_the_rows_are_deleted_leaves_none() -> None:
    """The effect is in the control log and the state is older: whoever opens it deletes them."""

    async def work(place: Two) -> None:
        await place.feed(12)
        before = await place.digests("a")
        await place.shards.close(place.shard("a"), flush=True)
        await place.vault.note(SECRET)
        mark = tombstone(SECRET, "a", GONE)
        place.command(control.Forget(id="f", agent="a", secret_id=SECRET.id, tombstone=mark))
        place.command(
            control.ShardEffect(
                id="f/events/0",
                control_id="f",
                agent="a",
                epoch=1,
                topic="events",
                partition=0,
                next_offset=12,
                worker="w",
            )
        )
        await place.until(lambda: place.deployment.effect("f", WHERE) == 12)
        await place.shards.open(place.deployment, WHERE)
        assert await place.digests("a") == {OTHER: before[OTHER]}
        assert holding(place.directory.shard_path("a", 1, *WHERE)) == []

    lived(HISTORY, work)


def test_a_new_agent_of_the_same_name_does_not_learn_it_again() -> None:
    """It begins at the head of the log, which still has the events."""

    async def work(place: Two) -> None:
        await place.feed(12)
        await forget(place)
        deploy = place.deployment.deploy
        place.command(control.Delete(id="x", agent="a"))
        await place.deleted.wait()
        place.command(structs.replace(deploy, id="again"))
        registry = place.controls.registry
        await place.until(lambda: any(d.agent == "a" for d in registry.live()))
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        assert shard.next_offset == 12
        assert set(await place.digests("a")) == {OTHER}

    lived(HISTORY, work)
