"""A snapshot as people see it, made of what the catalogue vouches for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.views import SnapshotShard, SnapshotView

if TYPE_CHECKING:
    from headrace.state.catalogue import Vouched


def view_of(vouched: Iterable[Vouched], *, pinned: bool) -> SnapshotView:
    """The snapshot of those shards: one at least, all of one cut, by partition."""
    shards = list(vouched)
    one = shards[0]
    return SnapshotView(
        snapshot_id=one.snapshot_id,
        agent=one.agent,
        kind=one.kind,
        epoch=one.epoch,
        spec_version=one.spec_version,
        spec_digest=one.spec_digest,
        created_ms=max(shard.created_ms for shard in shards),
        partitions=one.partitions,
        shards=tuple(
            SnapshotShard(
                topic=shard.topic,
                partition=shard.partition,
                next_offset=shard.next_offset,
                size_bytes=shard.size_bytes,
                new_bytes=shard.new_bytes,
            )
            for shard in shards
        ),
        pinned=pinned,
        imported=one.imported,
    )
