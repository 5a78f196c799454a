"""A name that is free again while its former snapshot is still being removed: a new one stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from headrace.pipelines.cataloguelog import CatalogueLog
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Removed, Vouched, encode
from headrace.state.cut import Cut
from headrace.state.directory import StateDirectory
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import more, publish_all, published, take, taken, told
from tests.pipelines.test_fetcher import Threaded
from tests.pipelines.test_removed_snapshots import _asked, _kept, _removed_elsewhere
from tests.simulation.catalogue import SimCatalogueLog
from tests.simulation.loop import Process
from tests.simulation.worker import IDENTITY, SimClock

KEEP = "a.keep"


@contextmanager
def first(work: Callable[..., Any], then: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Before this is done in a thread, for the first time, something else happens."""
    to_thread, waiting = asyncio.to_thread, [then]

    async def late(what: Callable[..., Any], *args: Any) -> Any:
        if what == work and waiting:
            await waiting.pop()()
        return await to_thread(what, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio, "to_thread", late)
        yield
    assert not waiting


def other_worker(place: Place, tmp_path: Path) -> Vault:
    """A vault with a disk of its own, which has read the catalogue up to here."""
    directory = StateDirectory.open(tmp_path / "other", IDENTITY)
    catalogue = SimCatalogueLog(place.broker, Process("other"))
    catalogue._read()
    vault = Vault(
        directory,
        place.broker.repository,
        cast(CatalogueLog, catalogue),
        IDENTITY.versions,
        clock=SimClock(),
    )
    vault.probing.specs = place.vault.probing.specs
    return vault


async def published_by(vault: Vault, shard: Shard, asked: int) -> Vouched:
    """That worker takes the shard for a command that stands there, and publishes it."""
    await vault.take(shard, KEEP, "named", 1, asked)
    assert await vault._publish(vault._owed.popleft())
    return vault.catalogue.shards(KEEP)[WHERE]


async def asked_again(place: Place) -> None:
    """The name is given anew, and the shard here taken for it."""
    await owed_from(place, place.vault.catalogue.free_from(KEEP, 1))


async def owed_from(place: Place, free_from: int) -> None:
    """A command for a new one, which is taken, and not published yet."""
    place.command(_asked("again", KEEP, free_from))
    async with asyncio.timeout(20):
        while not any(cut.asked >= free_from for cut in place.vault._owed):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert place.controls.registry.refusal("again") is None


async def removed(place: Place) -> None:
    await place.vault.remove(KEEP, *known_of(KEEP, place.controls.registry))


def test_what_another_worker_has_published_anew_stays(tmp_path: Path) -> None:
    """It was complete before the manifests of the former one went."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        former = await published(place, "keep")
        await more(place, shard)
        other = other_worker(place, tmp_path)
        made: list[Vouched] = []

        async def elsewhere() -> None:
            await other._topic.append(b"hello", None)  # it reads that the name is free
            free_from = other.catalogue.free_from(KEEP, 1)
            assert other.catalogue.get(KEEP) is None
            made.append(await published_by(other, shard, free_from))
            place.catalogue._read()

        with first(place.broker.repository.remove, elsewhere):
            await removed(place)
        assert place.vault.catalogue.shards(KEEP) == {WHERE: made[0]}
        assert place.broker.repository.manifest(*made[0].ref).next_offset == 100
        assert made[0].digest != former.digest
        await place.vault.collect(0)
        await place.vault.collect(0)
        draft = place.directory.draft()
        place.broker.repository.fetch(place.broker.repository.manifest(*made[0].ref).files, draft)

    told(tmp_path, work)


def test_what_another_worker_publishes_of_the_removed_one_is_taken_back(tmp_path: Path) -> None:
    """Its record comes behind the tombstones, and it dies before it can look what stands before
    that; when it is back it has nothing to publish, and its manifest goes with a collection.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        former = await published(place, "keep")
        await more(place, shard)
        other = other_worker(place, tmp_path)
        asked = former.asked
        late: list[Vouched] = []

        async def elsewhere() -> None:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(other.catalogue, "is_over", lambda *_: False)
                late.append(await published_by(other, shard, asked))
            place.catalogue._read()
            assert place.vault.catalogue.shards(KEEP) == {WHERE: late[0]}

        with first(place.broker.repository.remove, elsewhere):
            await removed(place)
        assert place.vault.catalogue.get(KEEP) is None
        assert place.vault.catalogue.was_removed(KEEP)
        for _ in range(2):
            await place.vault.collect(0)
        assert place.broker.repository.snapshots() == []
        await other._topic.append(late[0].key, encode(late[0]))  # of a broker that was away
        other._owe(other._checkpoints.cuts()[0])
        assert not await other._publish(other._owed.popleft())
        assert other.catalogue.get(KEEP) is None
        assert other._checkpoints.cuts() == []

    told(tmp_path, work)


def test_what_is_taken_here_anew_is_not_dropped_with_the_former_one(tmp_path: Path) -> None:
    """Another worker has read that the name is free; its command is here before this one drops what
    it had of the former snapshot.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        await published(place, "keep")
        await more(place, shard)
        with first(place.vault._checkpoints.drop, lambda: asked_again(place)):
            await removed(place)
        assert (await published(place, "keep")).next_offset == 100

    told(tmp_path, work)


def test_what_is_taken_here_anew_is_published_while_the_former_one_goes(tmp_path: Path) -> None:
    """The publisher comes to it before the manifests of that have gone."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        await published(place, "keep")
        await more(place, shard)

        async def anew() -> None:
            await asked_again(place)
            await publish_all(place)

        with first(place.broker.repository.remove, anew):
            await removed(place)
        vouched = place.vault.catalogue.shards(KEEP)[WHERE]
        assert vouched.next_offset == 100
        assert place.broker.repository.manifest(*vouched.ref).next_offset == 100
        assert place.vault._checkpoints.owed() == []

    told(tmp_path, work)


@pytest.mark.parametrize("why", ["thinned", "forgotten"])
def test_what_is_taken_anew_is_not_dropped_for_the_age_or_the_keys_of_a_former_one(
    tmp_path: Path, why: str
) -> None:
    """That was to go from this disk. Before it does it is removed elsewhere, its name given anew,
    and the shard taken.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        await published(place, "keep")
        if why == "thinned":
            for name in ("s1", "s2", "s3"):
                await taken(place, shard, name)
        await more(place, shard)
        vault = place.vault

        async def anew() -> None:
            await _removed_elsewhere(place, KEEP)
            await asked_again(place)

        with first(vault._checkpoints.drop, anew), pytest.MonkeyPatch.context() as patched:
            if why == "thinned":
                await vault.thin_checkpoints()
            else:
                patched.setattr(vault, "holds_forgotten", lambda _: True)
                assert await vault.forget_checkpoints(fresh=lambda _: True) == []
        assert (await published(place, "keep")).next_offset == 100

    told(tmp_path, work)


@pytest.mark.parametrize("stands", [50, 100])
def test_a_command_for_a_new_one_is_not_taken_for_done_by_what_is_left_of_the_former(
    tmp_path: Path, stands: int
) -> None:
    """It is here before this worker has read in the catalogue that the former one was removed; also
    if nothing was learned since.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        former = await published(place, "keep")
        if stands == 100:
            await more(place, shard)
        epoch, known = known_of(KEEP, place.controls.registry)
        gone = Removed(snapshot_id=KEEP, epoch=epoch, control_offset=known)
        place.catalogue._log.append(gone.key, encode(gone))
        place.catalogue._log.append(former.key, None)
        await owed_from(place, known)
        assert place.vault.catalogue.shards(KEEP) == {WHERE: former}, "it has read neither"
        anew = await published(place, "keep")
        assert (anew.next_offset, anew.digest != former.digest) == (stands, True)
        assert place.broker.repository.manifest(*anew.ref).next_offset == stands

    told(tmp_path, work)


def test_what_is_owed_is_owed_while_its_probes_are_noted(tmp_path: Path) -> None:
    """The checkpoint has them a moment before the publisher knows of that."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard)
        checkpoints, seen = place.vault._checkpoints, list[tuple[bool, bool, int]]()
        noting = checkpoints.probed

        def noted(cut: Cut, probes: bytes) -> Cut:
            probed = noting(cut, probes)
            vault = place.vault
            seen.append((vault.owes("a.s1"), vault.owes_any("a"), vault.owed()[0]))
            counts = vault._counts(probed, shard, -1)
            assert counts
            return probed

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(checkpoints, "probed", noted)
            assert (await published(place)).next_offset == 50
        assert seen == [(True, True, 1)]

    told(tmp_path, work)


def test_what_is_taken_while_its_caller_is_cancelled_is_owed(tmp_path: Path) -> None:
    """Its thread goes on, so the cancellation waits for that; nobody would publish it before the
    next start.
    """

    async def work(place: Place, shard: Shard) -> None:
        checkpoints = place.vault._checkpoints
        taking = checkpoints.take
        assert await shard.settle()
        task = asyncio.create_task(place.vault.take(shard, KEEP, "named", 1, 0))

        delivered, loop = threading.Event(), asyncio.get_running_loop()

        def cancelled(*args: Any) -> Path:
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(loop.call_later, 0.05, delivered.set)
            assert delivered.wait(10)
            return taking(*args)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(checkpoints, "take", cancelled)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert place.vault.owes(KEEP)
        assert (await published(place, "keep")).next_offset == 50

    told(tmp_path, work, Threaded())
