"""Records and claims that are slow, while their snapshot is removed and its name given anew."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import ConflictError
from headrace.pipelines.housekeeping import known_of
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.archive import export
from headrace.state.catalogue import Removed, Vouched, encode
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import (
    more,
    publish_all,
    published,
    reopened,
    told,
    without_manifests,
)
from tests.pipelines.test_remove_race import KEEP, first, other_worker, published_by, removed
from tests.pipelines.test_removed_snapshots import _asked, _kept

VOUCHES = f"{KEEP}/events/0".encode()
REMOVED = Removed(snapshot_id=KEEP, epoch=0, control_offset=0).key


@contextmanager
def slow(vault: Vault, key: bytes, *then: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Its first records of that key are on their way, and meanwhile something else happens."""
    append, waiting = vault._topic.append, list(then)

    async def late(of: bytes, value: bytes | None) -> None:
        if of == key and value is not None and waiting:
            await waiting.pop(0)()
        await append(of, value)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vault._topic, "append", late)
        yield
    assert not waiting


async def _gone(place: Place, other: Vault) -> None:
    """The other worker removes it, as it is told there."""
    await other._topic.append(b"hello", None)
    await other.remove(KEEP, *known_of(KEEP, place.controls.registry))


async def _anew(place: Place, shard: Shard, other: Vault) -> Vouched:
    """There it is removed, and another one of that name made, which is complete."""
    await _gone(place, other)
    assert other.catalogue.get(KEEP) is None
    return await published_by(other, shard, other.catalogue.free_from(KEEP, 1))


@pytest.mark.parametrize("work_of", ["publisher", "eraser"])
@pytest.mark.parametrize("stays", [True, False])
def test_a_late_record_gives_way_to_what_it_has_replaced(
    tmp_path: Path, work_of: str, *, stays: bool
) -> None:
    """It vouches for a shard of the removed one. The new one stands again; but not if that has been
    removed, too, while it was put back.
    """

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        former = await published(place, "keep") if work_of == "eraser" else None
        other = other_worker(place, tmp_path)
        made: list[Vouched] = []

        async def anew() -> None:
            made.append(await _anew(place, shard, other))

        async def back() -> None:
            if not stays:
                await other.remove(KEEP, 1, made[0].asked + 1)

        with slow(place.vault, VOUCHES, anew, back):
            if former is None:
                assert not await place.vault._publish(place.vault._owed.popleft())
            else:
                await place.vault.rewrite(former)
        await other._topic.append(b"hello", None)
        for vault in (place.vault, other):
            assert vault.catalogue.shards(KEEP) == ({WHERE: made[0]} if stays else {})

    told(tmp_path, work)


@pytest.mark.parametrize("late", [True, False])
def test_an_import_is_not_vouched_for_without_its_manifests(tmp_path: Path, *, late: bool) -> None:
    """They are, byte for byte, those of the snapshot that another worker removes just then, and go
    with them. If its record comes behind all of that, whoever imports is told.
    """

    async def work(place: Place, _: Shard) -> None:
        await _kept(place)
        vouched = await published(place, "keep")
        exported = export([vouched.ref], "", place.broker.repository, place.directory.draft)
        archive = io.BytesIO(b"".join(exported.pieces))
        other = other_worker(place, tmp_path)
        gone, added = asyncio.Event(), asyncio.Event()
        imports: list[asyncio.Task[None]] = []

        async def until_gone() -> None:
            added.set()
            if late:
                await gone.wait()

        async def bring() -> None:
            coming = other.coming(archive, "the archive", exported.digest)
            coming.index()
            with slow(other, VOUCHES, until_gone):
                await other.bring(coming, lambda _: None)

        async def elsewhere() -> None:
            await other._topic.append(b"hello", None)
            assert other.catalogue.get(KEEP) is None
            imports.append(asyncio.create_task(bring()))
            await (added.wait() if late else imports[0])

        with first(place.broker.repository.remove, elsewhere):
            await removed(place)
        gone.set()
        if late:
            with pytest.raises(ConflictError, match="is being removed: try again") as refused:
                await imports[0]
            assert refused.value.code == "snapshot_exists"
        await other._topic.append(b"hello", None)
        assert other.catalogue.get(KEEP) is None
        archive.seek(0)
        coming = other.coming(archive, "the archive", exported.digest)
        coming.index()
        await other.bring(coming, lambda _: None)
        assert other.catalogue.shards(KEEP)[WHERE].imported

    told(tmp_path, work)


@pytest.mark.parametrize("why", ["rewritten", "missing", "neither"])
def test_what_is_put_back_is_another_one_that_is_there(tmp_path: Path, why: str) -> None:
    """What was rewritten is of the snapshot that is taken back."""

    async def work(place: Place, _: Shard) -> None:
        await _kept(place)
        former = await published(place, "keep")
        replaces = (former.digest,) if why == "rewritten" else ()
        late = structs.replace(former, digest="ab" * 32, replaces=replaces)
        await place.catalogue.append(late.key, encode(late))
        if why == "missing":
            without_manifests(place.broker.repository, KEEP)
        await place.vault._take_back(late)
        assert place.vault.catalogue.shards(KEEP) == ({WHERE: former} if why == "neither" else {})

    told(tmp_path, work)


@pytest.mark.parametrize("deployed", [True, False])
def test_who_has_not_read_what_asked_for_it_removes_it_for_good(
    tmp_path: Path, *, deployed: bool
) -> None:
    """A worker that lags in the control log, by the agent or by the command alone. The shard comes
    to that again.
    """

    async def work(place: Place, shard: Shard) -> None:
        lagging = known_of(KEEP, place.controls.registry) if deployed else (0, 0)
        await _kept(place)
        vouched = await published(place, "keep")
        assert lagging[1] <= vouched.asked
        await other_worker(place, tmp_path).remove(KEEP, *lagging)
        place.catalogue._read()
        assert place.vault.catalogue.is_over(KEEP, vouched.epoch, vouched.asked)
        await reopened(place, shard)
        await publish_all(place)
        assert place.vault.catalogue.get(KEEP) is None
        place.command(_asked("again", KEEP, place.vault.catalogue.free_from(KEEP, 1)))
        await asyncio.sleep(1)
        assert place.controls.registry.refusal("again") is None

    told(tmp_path, work)


@pytest.mark.parametrize("begun", [True, False])
def test_of_two_that_remove_it_what_says_more_stands(tmp_path: Path, *, begun: bool) -> None:
    """The other's record comes last, and says less; the first or the second that it writes."""

    async def work(place: Place, _: Shard) -> None:
        await _kept(place)
        await published(place, "keep")
        other = other_worker(place, tmp_path)

        async def meanwhile() -> None:
            await place.vault.remove(KEEP, 1, 1_000)

        async def nothing() -> None:
            assert other.catalogue.get(KEEP) is not None

        with slow(other, REMOVED, *([nothing] if begun else []), meanwhile):
            await other.remove(KEEP, *known_of(KEEP, place.controls.registry))
        place.catalogue._read()
        assert place.vault.catalogue.free_from(KEEP, 1) == 1_000

    told(tmp_path, work)


def test_a_removal_means_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    """The repository was away when the worker began, so it has to be claimed first."""

    async def work(place: Place, shard: Shard) -> None:
        await _kept(place)
        await published(place, "keep")
        await more(place, shard)
        other = other_worker(place, tmp_path)
        made: list[Vouched] = []

        async def claimed() -> None:
            if not made:
                made.append(await _anew(place, shard, other))
                place.catalogue._read()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(place.vault, "_claim", claimed)
            await removed(place)
        assert place.vault.catalogue.shards(KEEP) == {WHERE: made[0]}
        assert place.broker.repository.manifest(*made[0].ref).next_offset == 100

    told(tmp_path, work)
