"""A shard that has learned fifty records, and its snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from headrace.pipelines.shard import Shard
from headrace.state.catalogue import Vouched
from headrace.state.cut import Kind
from headrace.state.repository import Repository, ShelfRepository
from tests.pipelines.small_place import WHERE, Place, live


def told(
    tmp_path: Path,
    work: Callable[[Place, Shard], Awaitable[None]],
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Do this with a shard that has learned fifty records; see `live`."""

    async def whole(place: Place) -> None:
        await place.controls.start()
        shard = await place.shards.open(place.deployment, WHERE)
        await shard.process(place.chunk())
        await work(place, shard)
        if place.shards.find("a", WHERE) is not None:
            await place.shards.close(shard, flush=True)

    live(tmp_path, whole, loop=loop)


async def take(place: Place, shard: Shard, name: str = "s1", kind: Kind = "named") -> None:
    """Take a snapshot of the shard."""

    async def work(shard: Shard) -> bool:
        await shard.settle()
        await place.vault.take(shard, f"a.{name}", kind, 1)
        return True

    await shard.between_events(work)


async def publish_all(place: Place) -> None:
    """Publish until nothing is owed any more."""
    publishing = asyncio.create_task(place.vault.publish(place.shards.site.precedence))
    async with asyncio.timeout(60):
        while place.vault._owed:  # noqa: ASYNC110 - not told
            await asyncio.sleep(0.05)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


async def published(place: Place, name: str = "s1") -> Vouched:
    """Publish what was taken; what vouches for it."""
    await publish_all(place)
    return place.vault.catalogue.shards(f"a.{name}")[WHERE]


async def taken(place: Place, shard: Shard, name: str = "s1", kind: Kind = "named") -> Vouched:
    """A snapshot of the shard, published."""
    await take(place, shard, name, kind)
    return await published(place, name)


async def dropped(place: Place, snapshot_id: str) -> None:
    """Nothing of a snapshot lies on this disk any more."""
    checkpoints = place.vault._checkpoints
    await asyncio.to_thread(checkpoints.drop, *checkpoints.of(snapshot_id))


def without_manifests(repository: Repository, snapshot_id: str) -> None:
    """Somebody takes all manifests of that name, whatever vouches for them."""
    assert isinstance(repository, ShelfRepository)
    for kept in list(repository._shelf.list(f"manifests/{snapshot_id}")):
        repository._shelf.delete(kept.name)


async def more(place: Place, shard: Shard) -> None:
    """The shard learns all records once more."""
    for row in place.broker.logs[WHERE].rows():
        place.broker.logs[WHERE].append(row.key, row.value, row.timestamp)
    await shard.process(place.chunk())
    await shard.flush()


async def reopened(place: Place, shard: Shard, **build: str) -> Shard:
    """Close it, become another build, and open it anew."""
    await place.shards.close(shard, flush=True)
    place.become(**build)
    return await place.shards.open(place.deployment, WHERE)
