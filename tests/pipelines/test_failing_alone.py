"""Snapshots that cannot be published, beside others that can."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import AwayStateError, StateError
from headrace.pipelines import publisher
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import undo_id
from headrace.state.manifest import Manifest
from headrace.state.repositories import LocalRepository
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import dropped, more, take, told
from tests.pipelines.test_publishing_again import lines
from tests.pipelines.test_rollback_laws import History, Two, lived

HISTORY = History(11, ("1", "2", "1", "1", "3", "1", "2", "1"), 0, 0)
SOON_S = 20.0
"""Longer than publishing takes, with its threads; shorter than what others wait for by then."""


class Choosy(LocalRepository):
    """Keeps nothing of those whose names begin so, as long as `error` is set."""

    error: type[StateError] | None = StateError

    def __init__(self, path: Path, beginning: str) -> None:
        super().__init__(path)
        self.beginning = beginning
        self.tried: dict[str, list[float]] = defaultdict(list)  # when
        self.clock: Callable[[], float] = asyncio.get_running_loop().time

    def add_manifest(self, manifest: Manifest) -> str:
        name = manifest.snapshot_id
        self.tried[name].append(self.clock())
        if self.error is not None and name.startswith(self.beginning):
            raise self.error(f"what is in the place of {name} cannot be replaced")
        return super().add_manifest(manifest)


def there(place: Place, name: str) -> bool:
    return place.vault.catalogue.get(name) is not None


def test_what_cannot_be_put_holds_up_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each such waits by itself, ever longer, and the log says once that it began and is over."""
    caplog.set_level("INFO")

    async def work(place: Place, shard: Shard) -> None:
        kept = Choosy(tmp_path / "kept", "a.bad")
        place.vault._repository = kept
        publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
        for number in range(5):
            await take(place, shard, f"bad{number}")
        await asyncio.sleep(200)
        await take(place, shard, "good")
        await asyncio.sleep(SOON_S)
        assert there(place, "a.good")
        await asyncio.sleep(3_600)
        for number in range(5):
            tried = kept.tried[f"a.bad{number}"]
            assert 60 <= len(tried) <= 70
            assert tried[1] - tried[0] < 2 * publisher.PUBLISH_AGAIN_S
        assert lines(caplog) == ["snapshot.not_published"]
        kept.error = None
        await asyncio.sleep(2 * publisher.PUBLISH_AGAIN_MAX_S)
        assert place.vault.owed() == (0, 0.0)
        assert lines(caplog) == ["snapshot.not_published", "snapshots.published_again"]
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    told(tmp_path, work)


def test_an_undo_that_cannot_be_put_holds_up_its_own_shard(tmp_path: Path) -> None:
    """Nothing of a later epoch is published before it, and another agent's is at once."""

    async def work(place: Two) -> None:
        await place.feed(4)
        snapshot_id = await place.snapshot("a")
        undo = undo_id("a", "r1")
        kept = Choosy(tmp_path / "kept", undo)
        place.vault._repository = kept
        await place.roll_back("a", snapshot_id)
        await take(place, place.shard("a"), "later")
        await asyncio.sleep(200)
        await _take_of(place, "b", "b.fine")
        await asyncio.sleep(SOON_S)
        assert there(place, "b.fine")
        await asyncio.sleep(200)
        assert not there(place, undo)
        assert "a.later" not in kept.tried
        kept.error = None
        await asyncio.sleep(publisher.PUBLISH_AGAIN_MAX_S + SOON_S)
        assert there(place, undo)
        assert there(place, "a.later")
        assert kept.tried["a.later"][0] >= kept.tried[undo][-1]

    lived(HISTORY, work)


async def _take_of(place: Two, agent: str, snapshot_id: str) -> None:
    async def work(shard: Shard) -> bool:
        await shard.settle()
        await place.vault.take(shard, snapshot_id, "named", 1)
        return True

    await place.shard(agent).between_events(work)


def test_one_that_always_finds_the_repository_away_does_not_keep_others_away(
    tmp_path: Path,
) -> None:
    """Who has waited longest comes next, whatever it waits for."""

    async def work(place: Place, shard: Shard) -> None:
        kept = Choosy(tmp_path / "kept", "a.")
        place.vault._repository = kept
        publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
        await take(place, shard, "waits")
        while not kept.tried:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
        kept.beginning, kept.error = "a.refused", AwayStateError
        await take(place, shard, "refused")
        await asyncio.sleep(2 * publisher.PUBLISH_AGAIN_MAX_S)
        assert there(place, "a.waits")
        assert len(kept.tried["a.refused"]) > 1
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    told(tmp_path, work)


def test_the_name_of_one_that_waits_may_be_given_again(tmp_path: Path) -> None:
    """The new one has not failed yet, so it is tried at once."""

    async def work(place: Place, shard: Shard) -> None:
        kept = Choosy(tmp_path / "kept", "a.bad")
        place.vault._repository = kept
        publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
        await take(place, shard, "bad")
        await asyncio.sleep(100)
        await dropped(place, "a.bad")
        await more(place, shard)
        kept.error = None
        await take(place, shard, "bad")
        await asyncio.sleep(SOON_S)
        assert there(place, "a.bad")
        assert place.vault.owed() == (0, 0.0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    told(tmp_path, work)
