"""A repository that cannot be read when a shard is opened: no snapshot is refused for that."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from headrace.errors import AwayStateError
from headrace.pipelines import control
from headrace.pipelines.holdings import RETRY_S
from headrace.pipelines.replacement import LACK_WAIT_S
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.objectshelf import ObjectShelf
from headrace.state.repositories import LocalRepository
from headrace.state.repository import ShelfRepository
from headrace.state.restoring import Sources
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import dropped, more, taken, told
from tests.pipelines.test_holdings import held
from tests.pipelines.test_rewind_without_room import to_fifty
from tests.state.unlistable import unlistable


class Shelf(ObjectShelf):
    """Nothing can be read there while it is `away`; `refused`: how often somebody tried, and
    `refused_busy`, how often while `busy` said so.
    """

    away = False
    refused = refused_busy = 0
    busy: Callable[[], bool] = bool

    def read(self, name: str) -> Iterator[bytes]:
        if self.away:
            self.refused += 1
            self.refused_busy += self.busy()
            raise self._refusal(OSError("Connection refused"))
        yield from super().read(name)


def onto(place: Place) -> Shelf:
    """The place's snapshots lie on such a shelf from now on."""
    shelf = Shelf("memory://")
    into(place, ShelfRepository(shelf))
    return shelf


def into(place: Place, repository: ShelfRepository) -> None:
    """The place's snapshots are kept there from now on."""
    place.vault._repository = repository
    place.vault._sources = Sources(place.vault._checkpoints, repository)


async def only_afar(place: Place, shelf: Shelf, *names: str) -> None:
    """Nothing is left of these snapshots but in the repository, and that is away."""
    for name in names:
        await dropped(place, name)
    shelf.away = True


async def revert_waits(place: Place, shard: Shard) -> Shelf:
    """A revert waits for the repository that alone has its snapshot; the shard stands fifty records
    further on.
    """
    shelf = onto(place)
    vouched = await taken(place, shard)
    await more(place, shard)
    await only_afar(place, shelf, "a.s1")
    place.command(structs.replace(to_fifty(vouched), mode="revert"))
    while not shelf.refused:  # noqa: ASYNC110 - not told
        await asyncio.sleep(0.05)
    return shelf


def test_without_a_state_here_it_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks once, not once for each snapshot, and then begins from the newest of them, not from
    an older one or from its deploy.
    """

    async def work(place: Place, shard: Shard) -> None:
        shelf = onto(place)
        await taken(place, shard, "s1")
        await more(place, shard)
        newest = await taken(place, shard, "s2")
        await place.shards.close(shard, flush=True)
        shutil.rmtree(place.directory.path / "shards" / "a")
        await only_afar(place, shelf, "a.s1", "a.s2")
        holdings, host = await held(place)
        async with holdings.opening:
            assert await holdings.open(place.deployment, WHERE) is None
        assert isinstance(holdings.broken["a"], AwayStateError)
        assert (shelf.refused, place.vault.refusals) == (1, 0)
        assert "snapshot.refused" not in caplog.text
        await asyncio.sleep(2 * RETRY_S)
        assert (host.tried_again, holdings.broken) == (["a"], {})
        shelf.away = False
        async with holdings.opening:
            again = await holdings.open(place.deployment, WHERE)
        assert again is not None
        assert again.next_offset == newest.next_offset == 100

    told(tmp_path, work)


def test_with_a_good_state_here_it_goes_on_from_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the log has it all. If the log is cut above it, a snapshot may be what it can go on from:
    then nobody is told to delete the agent, and it is tried again.
    """
    caplog.set_level("INFO")

    async def work(place: Place, shard: Shard) -> None:
        shelf = onto(place)
        await place.shards.close(shard, flush=True)
        there, older = place.directory.path / "shards" / "a", tmp_path / "older"
        shutil.copytree(there, older)
        shard = await place.shards.open(place.deployment, WHERE)
        await more(place, shard)
        await taken(place, shard, "s1")
        await place.shards.close(shard, flush=True)
        shutil.rmtree(there)
        shutil.copytree(older, there)
        await only_afar(place, shelf, "a.s1")
        again = await place.shards.open(place.deployment, WHERE)
        assert (again.next_offset, place.vault.refusals) == (50, 0)
        assert "shard.not_restored" in caplog.text
        await place.shards.close(again, flush=False)
        place.broker.logs[WHERE].begin = 80
        with pytest.raises(AwayStateError):
            await place.shards.open(place.deployment, WHERE)
        shelf.away = False
        again = await place.shards.open(place.deployment, WHERE)
        assert again.next_offset == 100

    told(tmp_path, work)


def test_a_directory_that_cannot_be_listed_is_away_and_no_snapshot_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk that does not say what is set aside there, where the snapshot is just now: it
    is tried again, and begun from neither an older one nor the deploy.
    """
    kept = tmp_path / "kept"

    async def work(place: Place, shard: Shard) -> None:
        into(place, LocalRepository(kept))
        await taken(place, shard, "s1")
        await place.shards.close(shard, flush=True)
        shutil.rmtree(place.directory.path / "shards" / "a")
        await dropped(place, "a.s1")
        assert place.vault._repository.collect(set(), 0).set_aside
        with monkeypatch.context() as disk:
            unlistable(disk, kept, "ESTALE")
            with pytest.raises(AwayStateError):
                await place.shards.open(place.deployment, WHERE)
        assert place.vault.refusals == 0
        again = await place.shards.open(place.deployment, WHERE)
        assert again.next_offset == 50

    told(tmp_path, work)


@pytest.mark.parametrize("mode", ["revert", "rewind"])
@pytest.mark.parametrize("away_s", [1.0, 2 * LACK_WAIT_S])
def test_a_rollback_waits_for_it_for_a_while(
    tmp_path: Path, mode: control.Mode, away_s: float
) -> None:
    """Then it counts as one that could not be done, and says why. The shard does not stand
    meanwhile, nor for another try.
    """

    async def work(place: Place, shard: Shard) -> None:
        shelf = onto(place)
        vouched = await taken(place, shard)
        await more(place, shard)
        await only_afar(place, shelf, "a.s1")
        shelf.busy = shard._turn.locked
        asyncio.get_running_loop().call_later(away_s, setattr, shelf, "away", False)
        place.command(structs.replace(to_fifty(vouched), mode=mode))
        async with asyncio.timeout(2 * away_s + LACK_WAIT_S):
            while shard.origin.epoch == 1:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        failed = place.deployment.failed("r").values()
        assert ["Connection refused" in why for why in failed] == [True] * (away_s > LACK_WAIT_S)
        assert (shelf.refused > 0, shelf.refused_busy) == (True, 0)

    told(tmp_path, work)


def test_a_shard_is_closed_although_its_rollback_waits_for_it(tmp_path: Path) -> None:
    """A stop or a rebalance ends the wait."""

    async def work(place: Place, shard: Shard) -> None:
        await revert_waits(place, shard)
        async with asyncio.timeout(LACK_WAIT_S / 4):
            await place.shards.close(shard, flush=True)
        assert place.deployment.positions("r") == {}

    told(tmp_path, work)


def test_others_do_not_wait_behind_a_rollback_that_waits_for_it(tmp_path: Path) -> None:
    """What comes behind it in the control log is done meanwhile."""

    async def work(place: Place, shard: Shard) -> None:
        shelf = await revert_waits(place, shard)
        place.command(control.Pause(id="p", agent="a"))
        async with asyncio.timeout(LACK_WAIT_S / 4):
            while not shard.paused:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        assert (shard.origin.epoch, shelf.refused > 0) == (1, True)

    told(tmp_path, work)


def test_what_takes_longer_to_fetch_than_it_is_waited_for_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for from when it is first found away, not from when it was first asked for."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        await more(place, shard)
        base, failures = Vault.base, [AwayStateError("Connection reset")]

        async def slow(vault: Vault, *given: Any) -> Path:
            await asyncio.sleep(LACK_WAIT_S + 5.0)
            if failures:
                raise failures.pop()
            return await base(vault, *given)

        monkeypatch.setattr(Vault, "base", slow)
        place.command(structs.replace(to_fifty(vouched), mode="revert"))
        async with asyncio.timeout(4 * LACK_WAIT_S):
            while shard.origin.epoch == 1:  # noqa: ASYNC110 - not told
                await asyncio.sleep(0.05)
        assert (place.deployment.failed("r"), failures) == ({}, [])

    told(tmp_path, work)
