"""Where a worker runs: what every one of its shards needs to know."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.errors import SpecError, StateError
from headrace.models.decisions import Origin
from headrace.models.spec import Spec, load_spec
from headrace.pipelines import control
from headrace.pipelines.precedence import Precedence
from headrace.pipelines.reader import Logs
from headrace.pipelines.seams import Sink
from headrace.state.directory import StateDirectory
from headrace.state.store import ShardStore, Store, StoreOptions
from headrace.views import Partition

SPECS_KEPT = 1_000
"""Specs kept in read form; reading one builds its model, which takes milliseconds."""


class Commands(Protocol):
    """What the shards ask of the control log; see `pipelines.controllog.ControlLog`."""

    @property
    def registry(self) -> control.Registry: ...

    async def append(self, record: control.ControlRecord) -> int: ...


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's surroundings; `open_store` makes a store that is missing."""

    descriptors_max: int
    worker: str
    logs: Logs
    cluster_id: str
    quarantine_topic: str
    directory: StateDirectory
    stores: StoreOptions
    sink: Sink
    busy: Callable[[], bool]
    precedence: Precedence

    def open_store(self, path: Path) -> Store:
        """Raises StateError if it cannot be used, with what to do."""
        return ShardStore.open(path, create=True, options=self.stores)

    def shard_path(self, agent: str, epoch: int, partition: Partition) -> Path:
        """Where the state of that epoch lies."""
        return self.directory.shard_path(agent, epoch, *partition)


def origin_of(deployment: control.Deployment, epoch: int, partition: Partition) -> Origin:
    """Whose decisions a shard of that epoch makes."""
    return Origin(
        agent=deployment.agent,
        spec_version=deployment.version_at(epoch, partition).number,
        epoch=epoch,
        topic=partition.topic,
        partition=partition.partition,
    )


def spec_of(deployment: control.Deployment, version: control.Version | None = None) -> Spec:
    """The spec as it was deployed: the newest, or that version's. Raises StateError if this build
    refuses it.
    """
    return _spec(deployment.deploy if version is None else version.spec)


def _spec(deploy: control.Deploy | control.Migrate) -> Spec:
    try:
        return _read_spec(msgspec.json.encode(deploy.spec))
    except SpecError as error:  # the log outlives the build that took the spec
        raise StateError(
            f"this build refuses the spec of agent {deploy.agent!r}: {error}. Delete "
            "it, or start the build that deployed it"
        ) from error


def spec_named(registry: control.Registry, agent: str, digest: str) -> Spec | None:
    """The spec of that digest with which the agent was deployed; None if the log has none.

    Raises StateError if this build refuses it.
    """
    deployment = registry.last(agent)
    brought = None if deployment is None else deployment.brought(digest)
    return None if brought is None else _spec(brought)


@functools.lru_cache(maxsize=SPECS_KEPT)
def _read_spec(text: bytes) -> Spec:
    return load_spec(text)


async def log_effect(
    site: Site,
    controls: Commands,
    accepted: control.Accepted,
    at: tuple[Partition, int],
    failed: str = "",
) -> int:
    """Log from which offset on a command counts in a partition; the one that counts.

    When it returns, this worker has read the effect back.
    """
    partition, offset = at
    await controls.append(
        control.ShardEffect(
            id=f"{accepted.control_id}/{partition.topic}/{partition.partition}",
            control_id=accepted.control_id,
            agent=accepted.agent,
            epoch=accepted.epoch,
            topic=partition.topic,
            partition=partition.partition,
            next_offset=offset,
            worker=site.worker,
            failed=failed,
        )
    )
    deployment = controls.registry.life(accepted.agent, accepted.life)
    counted = deployment.effect(accepted.control_id, partition) if deployment else None
    # Its life may be over meanwhile; this shard is then closed before its next event.
    return offset if counted is None else counted
