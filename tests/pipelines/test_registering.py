"""What waits while MLflow is away, and who tells it; tests/service/test_mlflow.py has the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.clock import ManualClock
from headrace.models.spec import load_spec
from headrace.pipelines import control, registering
from headrace.pipelines.registering import Registering
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Catalogue
from headrace.state.directory import StateDirectory
from headrace.state.memory import MemoryStore
from headrace.state.mlflow_sink import MlflowSink
from headrace.state.repositories import open_repository
from headrace.views import Partition
from tests.mlflow_place import client_of
from tests.pipelines.small_shard import SPEC, Sink, chunk, event, open_shard
from tests.simulation.worker import IDENTITY

MEASURED = SPEC + "metrics: [MAE]\n"


class Empty:
    """A catalogue without snapshots."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()

    async def append(self, key: bytes, value: bytes | None) -> None:
        raise AssertionError("nobody writes into it here")


class Holder:
    """One shard of the agent `warmth`, or another partition's."""

    def __init__(self) -> None:
        self.shard: Shard = open_shard(Sink(), MemoryStore(), MEASURED)
        self.first = True

    def find(self, agent: str, partition: Partition) -> Shard | None:
        held = self.first and (agent, partition) == ("warmth", self.shard.partition)
        return self.shard if held else None

    def of_agent(self, agent: str) -> list[Shard]:
        return [self.shard]


class World:
    """An agent that learns, and an MLflow that is a file."""

    def __init__(self, tmp_path: Path, tables: Path) -> None:
        self.file = tmp_path / "told.db"
        self._tables = tables
        self._directory = StateDirectory.open(tmp_path / "state", IDENTITY)
        self.clock = ManualClock(1_000.0)
        self.holder = Holder()
        registry = control.Registry()
        spec = load_spec(MEASURED)
        deploy = control.Deploy(
            id="d", agent="warmth", spec=spec.to_dict(), digest=spec.digest, emit_topic="decided"
        )
        registry.apply(deploy, 0)
        vault = Vault(
            self._directory, open_repository("memory://"), Empty(), IDENTITY.versions, self.clock
        )
        self.registering = Registering(
            MlflowSink(f"sqlite:///{self.file}", "app"), "memory://", vault, registry, self.holder
        )

    def away(self) -> None:
        self.file.write_bytes(b"this is no database " * 100)

    def back(self) -> None:
        shutil.copy(self._tables, self.file)

    async def learn(self, count: int = 3) -> None:
        """Some events later, ten seconds have passed, and it is measured."""
        begin = self.holder.shard.next_offset
        await self.holder.shard.process(chunk(*(event(begin + n) for n in range(count))))
        self.clock.advance(10.0)
        await self.registering.measure()

    def told(self) -> list[tuple[int, int]]:
        """When, and after how many records, the metric was measured that MLflow has."""
        client = client_of(f"sqlite:///{self.file}")
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        history: list[Any] = [
            m for r in runs for m in client.get_metric_history(r.info.run_id, "MAE")
        ]
        return [(metric.timestamp, metric.step) for metric in history]

    def close(self) -> None:
        self._directory.close()


@pytest.fixture
def world(tmp_path: Path, mlflow_tables: Path) -> Iterator[World]:
    world = World(tmp_path, mlflow_tables)
    yield world
    world.close()


async def test_what_was_measured_waits_until_mlflow_is_there(world: World) -> None:
    """It arrives with the time at which it was measured, and once."""
    world.away()
    await world.learn()
    assert not await world.registering.tell()
    await world.learn()
    world.back()
    assert await world.registering.tell()
    assert await world.registering.tell()
    assert world.told() == [(1_010_000, 3), (1_020_000, 6)]


async def test_the_oldest_go_when_too_many_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day without MLflow takes no more memory than an hour."""
    monkeypatch.setattr(registering, "POINTS_MAX", 2)
    for _ in range(4):
        await world.learn()
    world.back()
    assert await world.registering.tell()
    assert [records for _, records in world.told()] == [9, 12]


async def test_an_agent_that_has_learned_nothing_since_is_not_measured_again(world: World) -> None:
    """A quiet night makes no points."""
    world.back()
    await world.learn()
    assert await world.registering.tell()
    world.clock.advance(10.0)
    await world.registering.measure()
    assert await world.registering.tell()
    assert [records for _, records in world.told()] == [3]


async def test_only_who_holds_the_first_partition_tells(world: World) -> None:
    """So of several workers one does, and none asks MLflow for nothing."""
    world.away()
    world.holder.first = False
    await world.learn()
    assert await world.registering.tell()
