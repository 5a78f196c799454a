"""What protects the state, and how each protection is switched off, to see that it is missed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from headrace.pipelines import control, opening, publisher, shards
from headrace.pipelines.site import Commands, Site, log_effect
from headrace.pipelines.vault import Vault
from headrace.state import checkpoints, directory, disk, fetching, localshelf
from headrace.state.catalogue import encode
from headrace.state.checkpoints import shard_files
from headrace.state.cut import Cut
from headrace.state.directory import StateDirectory
from headrace.state.manifest import digest
from headrace.state.manifest import encode as encode_manifest
from headrace.state.publishing import Published, publish
from headrace.state.repository import Repository
from headrace.state.store import ShardMeta, ShardStore
from headrace.state.sums import sum_file
from headrace.views import Partition
from tests.simulation.sink import SimSink

LATE_S = 2.0
"""Virtual seconds by which an effect comes late when nobody waits for it."""


def switch_off(name: str) -> None:
    """For the rest of this process; an empty name switches nothing off."""
    if name:
        PROTECTIONS[name].off(pytest.MonkeyPatch())


Off = Callable[[pytest.MonkeyPatch], None]


def _no_names(*modules: ModuleType) -> Off:
    """Directories are not synced by these modules."""

    def forgotten(path: Path) -> None:
        assert path.is_dir()

    def off(patch: pytest.MonkeyPatch) -> None:
        for module in modules:
            patch.setattr(module, "sync_directory", forgotten)

    return off


def _no_tree(*modules: ModuleType) -> Off:
    """The files of a checkpoint or of a draft are not synced before that gets its name."""

    def off(patch: pytest.MonkeyPatch) -> None:
        for module in modules:
            patch.setattr(module, "sync_tree", disk.sync_directory)

    return off


def _no_content(*modules: ModuleType) -> Off:
    """Files that are written anew are not synced before they get their names."""

    def unsynced(path: Path, content: Iterable[bytes]) -> int:
        with path.open("xb") as file:
            return sum(file.write(piece) for piece in content)

    def off(patch: pytest.MonkeyPatch) -> None:
        for module in modules:
            patch.setattr(module, "write_synced", unsynced)

    return off


def _no_fetched(patch: pytest.MonkeyPatch) -> None:
    """Neither when they are fetched nor when their directory gets its name."""
    _no_content(fetching)(patch)
    _no_tree(directory)(patch)


def _no_synced_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ShardStore, "_sync", lambda _: None)


def _in_two_batches(patch: pytest.MonkeyPatch) -> None:
    write = ShardStore.write

    def halved(
        self: ShardStore, rows: Iterable[tuple[bytes, bytes | None]], meta: ShardMeta
    ) -> None:
        if self.meta is not None and (rows := list(rows)):
            write(self, rows, self.meta)
            rows = []
        write(self, rows, meta)

    patch.setattr(ShardStore, "write", halved)


def _adopted_by_halves(patch: pytest.MonkeyPatch) -> None:
    def copied(self: StateDirectory, draft: Path, path: Path) -> None:
        shutil.copytree(draft, path)
        shutil.rmtree(draft)

    patch.setattr(StateDirectory, "adopt", copied)


def _manifest_first(patch: pytest.MonkeyPatch) -> None:
    def hasty(cut: Cut, checkpoint: Path, repository: Repository, *given: Any) -> Published:
        entries = tuple(sum_file(path) for path in shard_files(checkpoint))
        repository.add_manifest(cut.manifest(entries))
        return publish(cut, checkpoint, repository, *given)

    patch.setattr(publisher, "publish", hasty)


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
        site: Site,
        controls: Commands,
        accepted: control.Accepted,
        at: tuple[Partition, int],
        failed: str = "",
    ) -> int:
        async def work() -> int:
            await asyncio.sleep(LATE_S)
            return await log_effect(site, controls, accepted, at, failed)

        late.append(asyncio.create_task(work()))
        return at[1]

    for module in (opening, shards):
        patch.setattr(module, "log_effect", hasty)


def _decisions_not_awaited(patch: pytest.MonkeyPatch) -> None:
    deliver = SimSink._deliver

    async def hasty(self: SimSink) -> None:
        """They are on their way, and nobody waits."""

    async def slow(self: SimSink, to: Partition, way: Any) -> None:
        await asyncio.sleep(LATE_S)
        await deliver(self, to, way)

    patch.setattr(SimSink, "drain", hasty)
    patch.setattr(SimSink, "_deliver", slow)


class Protection(NamedTuple):
    """How it is switched off, and the operation in which that is missed.

    `calls`: at which a kill shows it; none if only a power cut would, so that the order of the
    calls is looked at (`tests.faults.order`).
    """

    off: Off
    operation: str
    calls: tuple[str, ...] = ()


PROTECTIONS = {
    "names of checkpoints are synced": Protection(_no_names(checkpoints), "snapshot"),
    "names in the repository are synced": Protection(_no_names(localshelf), "snapshot"),
    "names of new directories are synced": Protection(_no_names(disk), "snapshot"),
    "the name of a shard is synced": Protection(_no_names(directory), "revert"),
    "the name of a restored shard is synced": Protection(_no_names(directory), "restore"),
    "checkpoints are synced before their name": Protection(_no_tree(checkpoints), "snapshot"),
    "drafts are synced before their name": Protection(_no_tree(directory), "revert"),
    "what is restored is synced before its name": Protection(_no_fetched, "restore"),
    "the repository syncs files before their name": Protection(_no_content(localshelf), "snapshot"),
    "a flush is synced": Protection(_no_synced_write, "flush"),
    "rows and position are one batch": Protection(_in_two_batches, "flush", ("fdatasync",)),
    "decisions are acknowledged before a flush": Protection(
        _decisions_not_awaited, "flush", ("fdatasync",)
    ),
    "the manifest comes after its files": Protection(_manifest_first, "snapshot", ("rename",)),
    "the catalogue vouches for what is there": Protection(_catalogue_first, "snapshot", ("link",)),
    "the effect is read back first": Protection(_effect_not_awaited, "revert", ("rename",)),
    "a shard takes its place in one step": Protection(
        _adopted_by_halves, "revert", ("sendfile", "copy_file_range")
    ),
}
