"""Telling MLflow of agents: in the background, behind everything else, and as often as it takes.

What MLflow lacks is found by comparing it with the control log and the catalogue, so neither a
restart nor a day without MLflow loses a version. Only metrics wait in memory, and the oldest go
when there are too many. One worker tells of an agent: the one that holds its first partition.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from headrace.config import Config
from headrace.errors import StateError
from headrace.logs import fields
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.metrics import merge_views
from headrace.models.spec import load_spec
from headrace.pipelines import control
from headrace.pipelines.lineage import Descent, Taken, descent
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Vouched
from headrace.state.mlflow_sink import Aliases, Identity, Life, MlflowSink, Point
from headrace.state.reference import Reference, ShardAt
from headrace.state.store import ShardStore
from headrace.views import MetricView, Partition

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks at what MLflow lacks; at what it is known to have nobody asks again."""
AGAIN_MAX_S = 60.0
"""Between two tries while MLflow is away, after shorter ones."""
MEASURE_S = 30.0
"""Between two measurements of an agent's metrics."""
POINTS_MAX = 120
"""Measurements of an agent that wait for MLflow: an hour's."""
FAILURES_MAX = 3
"""Agents in a row that could not be told of, until MLflow is taken to be away."""


async def run(
    config: Config,
    repository: str,
    vault: Vault,
    registry: control.Registry,
    holder: Holder,
) -> None:
    """Tell the MLflow of the settings, for ever; nothing if they name none.

    `repository`: the URL at which the vault keeps snapshots. Raises StateError if MLflow is not
    installed.
    """
    if config.mlflow is not None:
        sink = MlflowSink(config.mlflow, config.app)
        await Registering(sink, repository, vault, registry, holder).run()


class Holder(Protocol):
    """Which shards this worker holds; see `pipelines.shards.Shards`."""

    def find(self, agent: str, partition: Partition) -> Shard | None: ...

    def of_agent(self, agent: str) -> list[Shard]: ...


class Registering:
    """Order of calls: `run` is a task that runs for ever."""

    def __init__(
        self,
        sink: MlflowSink,
        repository: str,
        vault: Vault,
        registry: control.Registry,
        holder: Holder,
    ) -> None:
        self._sink = sink
        self._vault = vault
        self._registry = registry
        self._holder = holder
        self._repository = repository
        self._told: dict[Life, _Wanted] = {}  # what MLflow is known to have
        self._points: dict[Life, deque[Point]] = {}
        self._measured: dict[Life, int] = {}  # after how many records, the last time
        self._refused: set[str] = set()  # agents with which the last try failed

    async def run(self) -> None:
        """Look again and again; what fails is tried again, less and less often."""
        clock = asyncio.get_running_loop().time
        pause, measured_at = LOOK_S, clock()
        try:
            while True:
                await asyncio.sleep(pause)
                if clock() - measured_at >= MEASURE_S:
                    measured_at = clock()
                    await self.measure()
                pause = LOOK_S if await self.tell() else min(2 * pause, AGAIN_MAX_S)
        finally:
            self._sink.close()

    async def measure(self) -> None:
        """Note how good the agents are now, unless they have seen nothing since."""
        for deployment in self._held():
            life = _life(deployment)
            shards = self._holder.of_agent(deployment.agent)
            records = sum(shard.next_offset for shard in shards)
            if self._measured.get(life) == records:
                continue
            values = _values([shard.learner.metrics() for shard in shards])
            if values:
                points = self._points.setdefault(life, deque(maxlen=POINTS_MAX))
                points.append(Point(at_ms=self._vault.now_ms(), records=records, values=values))
                self._measured[life] = records
            await asyncio.sleep(0)  # others get their turn

    async def tell(self) -> bool:
        """Tell MLflow what it lacks. Whether it has all of it now."""
        failures = 0
        held = {_life(deployment): deployment for deployment in self._held()}
        self._told = {life: wanted for life, wanted in self._told.items() if life in held}
        # Those that failed come last: one that MLflow will never take does not hold up the others.
        lives = sorted({*held, *self._points}, key=lambda life: (life.agent in self._refused, life))
        for life in lives:
            await asyncio.sleep(0)  # others get their turn
            try:
                if life in held:
                    await self._tell(held[life])
                await self._log(life, keep=life in held)
                self._refused.discard(life.agent)
                failures = 0
            except StateError as error:
                log.warning("mlflow.behind", extra=fields(agent=life.agent, error=str(error)))
                self._refused.add(life.agent)
                failures += 1
                if failures == FAILURES_MAX:
                    break
        return not self._refused

    def _held(self) -> list[control.Deployment]:
        return [
            deployment
            for deployment in self._registry.live()
            if self._holder.find(deployment.agent, Partition(deployment.source_topic, 0))
        ]

    async def _tell(self, deployment: control.Deployment) -> None:
        """Of one agent's snapshots, and which of them is live. Raises StateError."""
        agent, life = deployment.agent, _life(deployment)
        wanted = self._wanted(deployment)
        if self._told.get(life) == wanted:
            return
        self._told.pop(life, None)
        there = await asyncio.to_thread(self._sink.versions, agent)
        missing = [one for one in wanted.references if _identity(one) not in there]
        for reference in missing:
            metrics = await self._metrics(reference)
            await asyncio.to_thread(self._sink.register, reference, life, metrics)
            log.info("mlflow.registered", extra=fields(snapshot=reference.snapshot_id))
        if missing:
            there = await asyncio.to_thread(self._sink.versions, agent)
        mine = {one.snapshot_id: there.get(_identity(one), "") for one in wanted.references}
        if not all(mine.values()):
            raise StateError(f"MLflow does not list all versions of {agent!r} yet")
        aliases = Aliases(
            live=mine.get(wanted.descent.live or ""),
            previous=mine.get(wanted.descent.previous or ""),
            of_life=frozenset(mine.values()),
        )
        await asyncio.to_thread(self._sink.point, agent, aliases)
        self._told[life] = wanted

    async def _metrics(self, reference: Reference) -> dict[str, float]:
        """The agent's metrics at the snapshot, read from it; none if it cannot be read."""
        found = []
        for ref in reference.refs():
            try:
                draft = await self._vault.fetch(
                    Partition(ref.topic, ref.partition), ref.snapshot_id, ref.digest
                )
                found.append(await asyncio.to_thread(_metrics_in, draft, reference, ref.partition))
            except StateError as error:
                what = fields(snapshot=reference.snapshot_id, error=str(error))
                log.warning("mlflow.without_metrics", extra=what)
                return {}
        return _values(found)

    async def _log(self, life: Life, *, keep: bool) -> None:
        """Send what was measured. Raises StateError."""
        points = self._points.get(life)
        if points:
            await asyncio.to_thread(self._sink.log, life, list(points))
            points.clear()
        if not keep:
            self._points.pop(life, None)
            self._measured.pop(life, None)

    def _wanted(self, deployment: control.Deployment) -> _Wanted:
        """What MLflow should have of an agent, as far as snapshots are complete."""
        kept: dict[str, Taken] = {}
        references: list[Reference] = []
        commands = [a.command for a in deployment.commands]
        taken = {c.snapshot_id: c for c in commands if isinstance(c, control.Snapshot)}
        for command in taken.values():  # of a name that was used again, the newest
            shards = self._vault.catalogue.shards(command.snapshot_id)
            reference = self._reference(deployment, shards)
            if len(shards) == command.partitions and reference is not None:
                places = {place: vouched.next_offset for place, vouched in shards.items()}
                kept[command.id] = Taken(command.snapshot_id, reference.epoch, places)
                references.append(reference)
        return _Wanted(tuple(references), descent(deployment, kept))

    def _reference(
        self, deployment: control.Deployment, shards: Mapping[Partition, Vouched]
    ) -> Reference | None:
        """What is needed to load a snapshot; None if its spec is not known."""
        first = next(iter(shards.values()), None)
        brought = None if first is None else deployment.brought(first.spec_digest)
        if first is None or brought is None:
            return None
        return Reference(
            repository=self._repository,
            snapshot_id=first.snapshot_id,
            agent=first.agent,
            epoch=first.epoch,
            spec_version=first.spec_version,
            spec=brought.spec,
            spec_digest=first.spec_digest,
            topic=first.topic,
            created_ms=max(vouched.created_ms for vouched in shards.values()),
            shards=tuple(
                ShardAt(next_offset=vouched.next_offset, digest=vouched.digest)
                for _, vouched in sorted(shards.items())
            ),
        )


class _Wanted(NamedTuple):
    references: tuple[Reference, ...]
    descent: Descent


def _life(deployment: control.Deployment) -> Life:
    return Life(deployment.agent, deployment.life, deployment.commands[0].control_id)


def _identity(reference: Reference) -> Identity:
    return Identity(reference.snapshot_id, reference.digest)


def _metrics_in(draft: Path, reference: Reference, partition: int) -> list[MetricView]:
    """Those of a shard whose files are in `draft`, which goes. Raises StateError."""
    try:
        with ShardStore.open(draft, create=False) as store:
            spec = load_spec(msgspec.json.encode(reference.spec))
            origin = Origin(
                agent=reference.agent,
                spec_version=reference.spec_version,
                epoch=reference.epoch,
                topic=reference.topic,
                partition=partition,
            )
            return Learner(spec, origin, store).metrics()
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _values(shards: Sequence[Sequence[MetricView]]) -> dict[str, float]:
    """The metrics of all shards together that have a value, and their baselines."""
    found = {}
    for view in merge_views(shards):
        if view.events:
            found[view.name] = view.value
            if view.baseline is not None:
                found[f"{view.name}.baseline"] = view.baseline
    return found
