"""What protects snapshots and rollbacks, each of which can be taken away in a worker's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.models.learner import Learner
from headrace.pipelines import control, leading, opening, publisher
from headrace.pipelines.opening import Opening
from headrace.pipelines.shard import Shard
from headrace.pipelines.shards import Shards
from headrace.pipelines.vault import Vault
from headrace.state import manifest as manifests
from headrace.state.checkpoints import Checkpoints, shard_files
from headrace.state.cut import Cut, Kind
from headrace.state.manifest import FileEntry
from headrace.state.publishing import Published
from headrace.state.repository import Repository
from headrace.state.store import Store
from headrace.views import Partition
from tests.crash.life import RollbackProtection

LATE_S = 1.0
"""An effect that nobody waits for is sent so late: after a kill in between never, but well within a
calm life, so that the next worker's comes into the log.
"""


def without_read_back() -> None:
    """A rollback is done before its effect is in the control log, and a state that came of it is
    gone on from when it never comes there.
    """
    real = Shards.log_effect
    sending: set[asyncio.Task[None]] = set()

    async def log_effect(shards: Shards, accepted: control.Accepted, *where: Any) -> int:
        if accepted.kind != "rollback":
            return await real(shards, accepted, *where)

        async def send() -> None:
            await asyncio.sleep(LATE_S)
            await real(shards, accepted, *where)

        sending.add(asyncio.create_task(send()))
        return int(where[1])

    def leads(
        epoch: int, next_offset: int, deployment: control.Deployment, partition: Partition
    ) -> bool:
        ended = next((a for a in deployment.replacements() if a.epoch > epoch), None)
        effect = None if ended is None else deployment.effect(ended.control_id, partition)
        return effect is None or next_offset <= effect

    for module in (leading, opening):
        assert module.leads is not leads
        setattr(module, "leads", leads)  # noqa: B010 - a function is replaced on purpose
    setattr(Shards, "log_effect", log_effect)  # noqa: B010 - a method is replaced on purpose


def without_settling() -> None:
    """What was learned is not durable, nor are its decisions acknowledged, when it is replaced."""
    real = Shard.settle

    async def settle(shard: Shard) -> bool:  # where nothing is durable yet it has to be
        return shard.store.meta is not None or await real(shard)

    setattr(Shard, "settle", settle)  # noqa: B010


def without_undo_first() -> None:
    """The undo snapshot is taken when the new state is in its place."""
    real_take, real_renew = Vault.take, Shard.renew
    owed: dict[Shard, Callable[[], Any]] = {}
    taking: set[asyncio.Future[Any]] = set()

    async def take(self: Vault, shard: Shard, snapshot_id: str, kind: Kind, *rest: int) -> Path:
        if kind != "undo":
            return await real_take(self, shard, snapshot_id, kind, *rest)
        owed[shard] = lambda: real_take(self, shard, snapshot_id, kind, *rest)
        return Path()

    def renew(shard: Shard, learner: Learner, store: Store) -> Store:
        former = real_renew(shard, learner, store)
        taking.add(asyncio.ensure_future(owed.pop(shard)()))
        return former

    setattr(Vault, "take", take)  # noqa: B010
    setattr(Shard, "renew", renew)  # noqa: B010


def without_manifest_first() -> None:
    """The catalogue vouches for a manifest before the repository has it."""
    real_published = Checkpoints.published
    repositories: dict[str, Repository] = {}

    def publish(cut: Cut, checkpoint: Path, repository: Repository, *_: Any) -> Published:
        added = [repository.add_file(path) for path in shard_files(checkpoint)]
        files = tuple(entry for entry, _ in added)
        digest = manifests.digest(manifests.encode(cut.manifest(files)))
        repositories[digest] = repository
        size = sum(entry.size for entry in files)
        return Published(digest=digest, files=files, size_bytes=size, new_bytes=size)

    def published(self: Checkpoints, cut: Cut, digest: str, files: tuple[FileEntry, ...]) -> None:
        repositories.pop(digest).add_manifest(cut.manifest(files))
        real_published(self, cut, digest, files)

    setattr(publisher, "publish", publish)  # noqa: B010
    setattr(Checkpoints, "published", published)  # noqa: B010


def without_told_below() -> None:
    """A worker with an empty disk does not look how far decisions have been sent."""

    async def told_below(opening: Opening) -> int:
        return 0

    setattr(Opening, "_told_below", told_below)  # noqa: B010


TAKING: dict[RollbackProtection, Callable[[], None]] = {
    "read-back": without_read_back,
    "settling": without_settling,
    "undo-first": without_undo_first,
    "manifest-first": without_manifest_first,
    "told-below": without_told_below,
}
