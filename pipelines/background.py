"""What a worker does beside its shards, from when they flow until it stops."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from headrace.pipelines import registering
from headrace.pipelines.erasing import Erasing
from headrace.pipelines.housekeeping import Housekeeping
from headrace.pipelines.leftovers import Leftovers
from headrace.pipelines.snapshotting import AutomaticSnapshots
from headrace.pipelines.withdrawing import Withdrawing

if TYPE_CHECKING:
    from headrace.pipelines.worker import Worker


def works(worker: Worker) -> Iterator[Coroutine[Any, Any, None]]:
    """Each is a task that must not end."""
    registry, shards, vault = worker.controls.registry, worker.shards, worker.vault
    yield vault.publish(shards.site.precedence)
    yield AutomaticSnapshots(vault, shards.all, worker.topics.known_partition_count).run()
    yield Housekeeping(vault, registry, shards, worker.holdings.broken).run()
    yield Erasing(vault, registry, shards, worker.holdings.broken).run()
    yield Leftovers(shards, vault, registry, worker.holdings.opening).run()
    yield Withdrawing(worker.withdrawn_topic, worker.controls, shards, worker).run()
    yield registering.run(worker.config, worker.snapshots_url, vault, registry, shards)
