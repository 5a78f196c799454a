"""A repository that is away for a while, and a disk that fails while a snapshot is restored."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import AwayStateError, BadDiskError
from headrace.pipelines import publisher, vault
from headrace.pipelines.shard import Shard
from headrace.state import fetching
from headrace.state.manifest import FileEntry
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Added
from tests.pipelines.small_place import WHERE, Place
from tests.pipelines.snapshots_of_one import dropped, take, taken, told


class Away(LocalRepository):
    """Nothing can be brought there until it is `back`; `tried`: how often somebody did."""

    back = False
    tried = 0

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        self.tried += 1
        if not self.back:
            raise AwayStateError(f"the object store does not answer (request {self.tried})")
        return super().add_file(path, known)


def away(place: Place, path: Path) -> tuple[Away, asyncio.Task[None]]:
    """The repository, and what publishes into it for ever."""
    place.vault._repository = kept = Away(path)
    return kept, asyncio.create_task(place.vault.publish(place.shards.site.precedence))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the vault has logged of its publishing."""
    said = [record for record in caplog.records if record.name == "headrace.pipelines.publisher"]
    assert not any(record.exc_info for record in said)
    return [r.message for r in said if r.message != "snapshot.published"]


def test_publishing_goes_on_when_the_repository_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried ever more rarely; the log says once that it began and once that it is over."""
    caplog.set_level("INFO")

    async def work(place: Place, shard: Shard) -> None:
        kept, publishing = away(place, tmp_path / "kept")
        for number in range(3):
            await take(place, shard, f"s{number}")
        await asyncio.sleep(3600)
        assert place.vault.owed()[0] == 3
        assert 60 <= kept.tried <= 70
        assert lines(caplog) == ["snapshot.not_published"]
        kept.back = True
        await asyncio.sleep(2 * publisher.PUBLISH_AGAIN_MAX_S)
        assert place.vault.owed() == (0, 0.0)
        assert {v.snapshot_id for v in place.vault.catalogue.snapshots("a")} == {
            "a.s0",
            "a.s1",
            "a.s2",
        }
        assert lines(caplog) == ["snapshot.not_published", "snapshots.published_again"]
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    told(tmp_path, work)


def test_what_is_dropped_while_it_fails_does_not_end_the_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that it is over when something is published again, and not before."""
    caplog.set_level("INFO")

    async def work(place: Place, shard: Shard) -> None:
        kept, publishing = away(place, tmp_path / "kept")
        await take(place, shard, "s0")
        await asyncio.sleep(60)
        await dropped(place, "a.s0")
        await asyncio.sleep(600)
        assert place.vault.owed() == (0, 0.0)
        assert lines(caplog) == ["snapshot.not_published"]
        kept.back = True
        await take(place, shard, "s1")
        await asyncio.sleep(600)
        assert lines(caplog) == ["snapshot.not_published", "snapshots.published_again"]
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    told(tmp_path, work)


def test_of_automatic_snapshots_that_wait_only_the_newest_stay(tmp_path: Path) -> None:
    """Each holds tables that the shard has long merged; named and undo snapshots all stay."""

    async def work(place: Place, shard: Shard) -> None:
        await take(place, shard, "named")
        await take(place, shard, "undo-1", "undo")
        for number in range(vault.OWED_KEPT + 5):
            await take(place, shard, f"auto-{number:02}", "automatic")
            cut = place.vault._owed[-1]  # in virtual time all are of the same moment
            aged = place.vault._checkpoints._kept[cut.snapshot_id, WHERE]
            aged.cut = structs.replace(cut, created_ms=cut.created_ms + 1 + number)
            place.vault._owed[-1] = aged.cut
        await place.vault.thin_checkpoints()
        left = set(place.vault._checkpoints.ids()) - {"a.named", "a.undo-1"}
        assert left == {f"a.auto-{number:02}" for number in range(5, vault.OWED_KEPT + 5)}
        assert {"a.named", "a.undo-1"} <= set(place.vault._checkpoints.ids())
        assert place.vault.owed()[0] == vault.OWED_KEPT + 2

    told(tmp_path, work)


def test_a_disk_that_fails_in_a_restore_refuses_no_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot is sound, and nothing is learned from further back: the disk is named."""

    def failing(path: Path, content: Iterator[bytes]) -> int:
        raise OSError(errno.EIO, "Input/output error", str(path))

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard)
        await place.shards.close(shard, flush=True)
        shutil.rmtree(place.directory.path / "shards" / "a")
        await dropped(place, vouched.snapshot_id)
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "write_synced", failing)
            with pytest.raises(BadDiskError, match="Input/output error"):
                await place.shards.open(place.deployment, WHERE)
        assert place.vault.refusals == 0
        assert "snapshot.refused" not in caplog.text
        again = await place.shards.open(place.deployment, WHERE)
        assert again.next_offset == vouched.next_offset

    told(tmp_path, work)
