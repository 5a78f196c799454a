"""What protects the state, and how each protection is switched off, to see that it is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.pipelines import control, opening, shards, vault
from headrace.pipelines.site import Commands, Site, log_effect
from headrace.pipelines.vault import Vault
from headrace.state import checkpoints, directory, disk, fetching, localshelf, store
from headrace.state.catalogue import encode
from headrace.state.checkpoints import shard_files
from headrace.state.cut import Cut
from headrace.state.manifest import digest
from headrace.state.manifest import encode as encode_manifest
from headrace.state.publishing import Published, publish
from headrace.state.repository import Repository
from headrace.state.sums import Sums, sum_file
from headrace.views import Partition

LATE_S = 0.5
"""Virtual seconds by which an effect comes late when nobody waits for it."""
_SYNCING = (checkpoints, directory, disk, fetching, localshelf, store)


def switch_off(name: str) -> None:
    """For the rest of this process; an empty name switches nothing off."""
    if name:
        PROTECTIONS[name](pytest.MonkeyPatch())


def _no_directory_sync(patch: pytest.MonkeyPatch) -> None:
    def forgotten(path: Path) -> None:
        assert path.is_dir()

    for module in _SYNCING:
        patch.setattr(module, "sync_directory", forgotten)


def _no_data_sync(patch: pytest.MonkeyPatch) -> None:
    def forgotten(path: Path) -> None:
        disk.sync_directory(path)

    for module in (checkpoints, directory):
        patch.setattr(module, "sync_tree", forgotten)


def _manifest_first(patch: pytest.MonkeyPatch) -> None:
    def hasty(cut: Cut, checkpoint: Path, repository: Repository, sums: Sums) -> Published:
        entries = tuple(sum_file(path) for path in shard_files(checkpoint))
        repository.add_manifest(cut.manifest(entries))
        return publish(cut, checkpoint, repository, sums)

    patch.setattr(vault, "publish", hasty)


def _catalogue_first(patch: pytest.MonkeyPatch) -> None:
    vouch = Vault._publish

    async def hasty(self: Vault, cut: Cut) -> None:
        path = self._checkpoints.find(cut.snapshot_id, cut.topic, cut.partition)
        assert path is not None
        entries = tuple(sum_file(path) for path in shard_files(path))
        done = Published(
            digest=digest(encode_manifest(cut.manifest(entries))),
            files=entries,
            size_bytes=sum(entry.size for entry in entries),
            new_bytes=0,
        )
        vouched = done.vouched(cut)
        await self._topic.append(vouched.key, encode(vouched))
        await vouch(self, cut)

    patch.setattr(Vault, "_publish", hasty)


def _effect_not_awaited(patch: pytest.MonkeyPatch) -> None:
    late: list[asyncio.Task[int]] = []

    async def hasty(
        site: Site, controls: Commands, accepted: control.Accepted, at: tuple[Partition, int]
    ) -> int:
        async def work() -> int:
            await asyncio.sleep(LATE_S)
            return await log_effect(site, controls, accepted, at)

        late.append(asyncio.create_task(work()))
        return at[1]

    for module in (opening, shards):
        patch.setattr(module, "log_effect", hasty)


PROTECTIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "names are synced": _no_directory_sync,
    "data is synced before its name": _no_data_sync,
    "the manifest comes after its files": _manifest_first,
    "the catalogue vouches for what is there": _catalogue_first,
    "the effect is read back first": _effect_not_awaited,
}
