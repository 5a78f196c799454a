"""Snapshots that are not what the catalogue vouches for, on a real broker: older ones are used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conftest import Start
from tests.service.test_rollback import digests
from tests.service.test_service import events, learned, spec
from tests.service.watched import decisions

Logged = Callable[[str], list[dict[str, object]]]
Damage = Callable[["Manifests"], None]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """The fields of the log lines of that event."""
    caplog.set_level(logging.INFO, logger="headrace")

    def of(event: str) -> list[dict[str, object]]:
        return [vars(record) for record in caplog.records if record.getMessage() == event]

    return of


@pytest.fixture
def kept(tmp_path: Path) -> str:
    """The URL of a repository that is not on the disk of the state."""
    return f"file://{tmp_path / 'repository'}"


async def test_a_disk_that_is_newer_than_all_snapshots_is_used(
    start: Start, kept: str, logged: Logged
) -> None:
    """A restart fetches nothing."""
    async with start(snapshots=kept) as (service, client):
        await client.deploy(spec("there", "t-there"))
        await service.events.send_all(events("t-there", range(30)))
        await learned(client, "there", 30)
        await client.create_snapshot("there", "one")
        await service.events.send_all(events("t-there", range(30, 40)))
        await learned(client, "there", 40)
    async with start(snapshots=kept) as (service, client):
        assert (await learned(client, "there", 40)).shards[0].next_offset == 40
    assert logged("shard.restored") == []


class Manifests:
    """Those of one shard in the snapshots `older` and `newer` of an agent."""

    def __init__(self, url: str, agent: str) -> None:
        self._root = Path(url.removeprefix("file://"))
        self.older, self.newer = (self._of(f"{agent}.{name}") for name in ("older", "newer"))

    def table_of_newer(self) -> Path:
        """The largest file that only the newer one has."""
        blobs = [path for path in (self._root / "blobs").rglob("*") if path.is_file()]
        older, newer = self.older.read_text(), self.newer.read_text()
        mine = [path for path in blobs if path.name in newer and path.name not in older]
        return max(mine, key=lambda path: path.stat().st_size)

    def _of(self, snapshot_id: str) -> Path:
        (manifest,) = (self._root / "manifests" / snapshot_id).iterdir()
        return manifest


def altered(manifests: Manifests) -> None:
    """One figure of the newest manifest is another."""
    text = manifests.newer.read_bytes()
    manifests.newer.write_bytes(text.replace(b'"next_offset":40', b'"next_offset":41'))


def missing(manifests: Manifests) -> None:
    """There is no newest manifest."""
    manifests.newer.unlink()


def directory(manifests: Manifests) -> None:
    """There is a directory in the place of the newest manifest."""
    manifests.newer.unlink()
    manifests.newer.mkdir()


def swapped(manifests: Manifests) -> None:
    """The older one, which is a valid one, stands in place of the newest."""
    manifests.newer.write_bytes(manifests.older.read_bytes())


def flipped(manifests: Manifests) -> None:
    """One bit of a table that only the newest has."""
    table = manifests.table_of_newer()
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)


async def two_snapshots(start: Start, kept: str, agent: str) -> dict[str, str]:
    """`older` behind 20 events and `newer` behind 40; the keys' digests in the end."""
    async with start(snapshots=kept) as (service, client):
        await client.deploy(spec(agent, f"t-{agent}"))
        for name, numbers in (("older", range(20)), ("newer", range(20, 40))):
            await service.events.send_all(events(f"t-{agent}", numbers))
            await learned(client, agent, numbers.stop)
            await client.create_snapshot(agent, name)
        return await digests(client, agent)


@pytest.mark.parametrize("damage", [altered, missing, directory, swapped, flipped])
async def test_a_damaged_snapshot_is_refused_and_the_older_one_used(
    start: Start, kept: str, logged: Logged, damage: Damage
) -> None:
    """With a loud line in the log; the result is the same, it only takes longer."""
    agent = f"hurt-{damage.__name__}"
    before = await two_snapshots(start, kept, agent)
    damage(Manifests(kept, agent))
    async with start(state="empty", snapshots=kept) as (service, client):
        await learned(client, agent, 40)
        assert await digests(client, agent) == before
        assert service.worker.vault.refusals == 1
        assert len(await decisions(client, agent)) == 40
    (refused,) = logged("snapshot.refused")
    assert refused["levelname"] == "ERROR"
    assert f"{agent}.newer" in str(refused)
    (restored,) = logged("shard.restored")
    assert f"{agent}.older" in str(restored)


async def test_without_a_good_snapshot_all_is_learned_again(
    start: Start, kept: str, logged: Logged
) -> None:
    """From where the deploy took effect."""
    before = await two_snapshots(start, kept, "stripped")
    manifests = Manifests(kept, "stripped")
    for manifest in (manifests.older, manifests.newer):
        manifest.unlink()
    async with start(state="empty", snapshots=kept) as (_, client):
        await learned(client, "stripped", 40)
        assert await digests(client, "stripped") == before
        assert len(await decisions(client, "stripped")) == 40
    assert len(logged("snapshot.refused")) == 2
    assert logged("shard.restored") == []
