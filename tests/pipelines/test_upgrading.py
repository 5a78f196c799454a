"""What a look before an upgrade says of snapshots that it cannot read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import structs

from headrace.errors import AwayStateError, DiskFullError
from headrace.pipelines.probing import Probing
from headrace.pipelines.shard import Shard
from headrace.pipelines.topics import Topics
from headrace.pipelines.upgrading import Upgrade
from headrace.state.repositories import LocalRepository
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import taken, told
from tests.pipelines.test_repository_away import into
from tests.small_disk import SmallDisk
from tests.state.unlistable import unlistable


def upgrade(place: Place, kept: Path, probing: Probing, drafts: Path) -> Upgrade:
    """It knows what the service of that place has written, and looks at snapshots there."""
    topics = SimpleNamespace(known_partition_count=lambda topic: 1)
    made = Upgrade(cast(Topics, topics), "nowhere:1", f"file://{kept}", probing, drafts)
    made._registry, made._catalogue = place.controls.registry, place.vault.catalogue
    return made


def test_a_repository_that_is_away_says_nothing_of_the_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does anybody hear that they must learn again: a start would wait for it."""
    kept = tmp_path / "kept"

    async def work(place: Place, shard: Shard) -> None:
        repository = LocalRepository(kept)
        into(place, repository)
        await taken(place, shard)
        look = upgrade(place, kept, place.vault.probing, tmp_path / "drafts")
        repository.collect(set(), 0)  # the snapshot is aside
        with monkeypatch.context() as disk:
            unlistable(disk, kept, "ESTALE")
            with pytest.raises(AwayStateError):
                look._check_repository("sim")
            with pytest.raises(AwayStateError):
                await look._of_agent(place.deployment)

    told(tmp_path, work)


def test_no_room_to_try_a_snapshot_says_nothing_of_the_agents(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """What is to be mended is the disk; the state may well go on here."""

    async def work(place: Place, shard: Shard) -> None:
        into(place, LocalRepository(tmp_path / "kept"))
        await taken(place, shard)
        other = Probing(structs.replace(place.vault.probing.versions, river="0.25.0"))
        look = upgrade(place, tmp_path / "kept", other, disk.path / "drafts")
        disk.fill()
        with pytest.raises(DiskFullError):
            await look._of_agent(place.deployment)
        disk.empty()

    told(tmp_path, work)
