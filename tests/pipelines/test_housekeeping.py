"""Which old snapshots go, and which stay since somebody said so at the last moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from headrace.errors import AwayStateError, StateError
from headrace.pipelines import control
from headrace.pipelines.housekeeping import ANYBODY_EVERY, COLLECT_EVERY, Housekeeping
from headrace.pipelines.shard import Shard
from headrace.pipelines.vault import Vault
from headrace.state.catalogue import Catalogue, encode
from headrace.state.repository import GRACE_MS
from headrace.views import Partition, SnapshotView
from tests.pipelines.small_place import Place
from tests.pipelines.snapshots_of_one import taken, told
from tests.pipelines.turns import turns_of_others


def test_one_that_is_pinned_while_others_are_removed_stays(tmp_path: Path) -> None:
    """What is to go was reckoned before; who pinned it since was told that it is pinned."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard, "auto-new", "automatic")
        old = {f"a.auto-{number}" for number in range(12)}
        for snapshot_id in old:
            one = structs.replace(vouched, snapshot_id=snapshot_id, created_ms=1)
            await place.catalogue.append(one.key, encode(one))
        removing = place.vault.remove
        removed: list[str] = []

        async def pinning_others(snapshot_id: str, epoch: int, control_offset: int) -> None:
            if not removed:
                for other in old - {snapshot_id}:
                    await place.vault.pin(other, pinned=True)
            removed.append(snapshot_id)
            await removing(snapshot_id, epoch, control_offset)

        place.vault.remove = pinning_others  # type: ignore[method-assign]
        await Housekeeping(place.vault, place.controls.registry, place.shards).thin_out()
        assert len(removed) == 1
        there = {view.snapshot_id for view in place.vault.catalogue.snapshots("a")}
        assert old - there == set(removed)

    told(tmp_path, work)


def test_one_that_must_stay_keeps_no_other(tmp_path: Path) -> None:
    """A rollback begins from one just now; the others go all the same, of whichever agent."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard, "auto-new", "automatic")
        for number in range(12):
            old = structs.replace(vouched, snapshot_id=f"a.auto-{number}", created_ms=1)
            await place.catalogue.append(old.key, encode(old))
        removing = place.vault.remove
        asked: list[str] = []

        async def stays(snapshot_id: str, epoch: int, control_offset: int) -> None:
            asked.append(snapshot_id)
            if len(asked) == 1:
                raise StateError("it stays: a rollback begins from it just now")
            await removing(snapshot_id, epoch, control_offset)

        place.vault.remove = stays  # type: ignore[method-assign]
        await Housekeeping(place.vault, place.controls.registry, place.shards).thin_out()
        assert len(asked) > 1
        there = {view.snapshot_id for view in place.vault.catalogue.snapshots("a")}
        assert there & set(asked) == {asked[0]}

    told(tmp_path, work)


def test_a_repository_that_is_away_is_asked_once_a_look(tmp_path: Path) -> None:
    """Each question may take long to fail. What lies on this disk is thinned out all the same."""

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard, "auto-new", "automatic")
        for number in range(12):
            old = structs.replace(vouched, snapshot_id=f"a.auto-{number}", created_ms=1)
            await place.catalogue.append(old.key, encode(old))
        did: list[str] = []

        async def away(snapshot_id: str, epoch: int, control_offset: int) -> None:
            did.append(snapshot_id.rstrip("0123456789"))
            raise AwayStateError("the repository is away")

        async def thinned() -> None:
            did.append("thinned")

        place.vault.remove = away  # type: ignore[method-assign]
        place.vault.thin_checkpoints = thinned  # type: ignore[method-assign]
        await Housekeeping(place.vault, place.controls.registry, place.shards).look()
        assert did == ["thinned", "a.auto-"]

    told(tmp_path, work)


class Asked(Catalogue):
    """Counts who asks for snapshots."""

    asked = 0

    def snapshots(self, agent: str | None) -> list[SnapshotView]:
        self.asked += 1
        return super().snapshots(agent)


class All:
    """Every shard is held here."""

    def find(self, agent: str, partition: Partition) -> object:
        return agent, partition


def many(agents: int) -> control.Registry:
    """So many are deployed; each was rolled back."""
    registry = control.Registry()
    for number in range(agents):
        agent, spec = f"a{number:03}", {"source": {"topic": "t"}}
        deploy = control.Deploy(
            id=f"d{number}", agent=agent, spec=spec, digest="x", emit_topic=f"e{number}"
        )
        registry.apply(deploy, 2 * number)
        bases = (control.Base(partition=0, epoch=1, next_offset=0, digest=""),)
        back = control.Rollback(
            id=f"r{number}", agent=agent, life=1, snapshot_id=f"{agent}.s0", bases=bases
        )
        registry.apply(back, 2 * number + 1)
    return registry


def test_of_many_agents_each_is_looked_at_alone_and_the_events_have_a_turn(tmp_path: Path) -> None:
    """What one look takes grows with the agents, not with their square, and it is not one stop."""
    agents, old = 30, 12

    async def work(place: Place, shard: Shard) -> None:
        vouched = await taken(place, shard, "auto-new", "automatic")
        catalogue = Asked()
        for number in range(agents):
            for snapshot in range(old):
                one = structs.replace(
                    vouched,
                    agent=f"a{number:03}",
                    snapshot_id=f"a{number:03}.s{snapshot}",
                    created_ms=snapshot,
                )
                catalogue.apply(one.key, encode(one), 0)
        place.catalogue.catalogue = catalogue
        async with turns_of_others() as turns:
            await Housekeeping(place.vault, many(agents), All()).thin_out()
        assert {v.snapshot_id for v in catalogue.snapshots(None)} == {
            f"a{number:03}.s{snapshot}"
            for number in range(agents)
            for snapshot in range(old)
            if snapshot != 1
        }
        assert catalogue.asked <= agents * 4
        assert turns.count > agents

    told(tmp_path, work)


class Counted(Vault):
    """Counts collections, and does nothing else."""

    collected = 0
    catalogue = Catalogue()

    def __init__(self) -> None: ...

    def now_ms(self) -> int:
        return 0

    async def collect(self, older_than_ms: int = GRACE_MS) -> None:
        self.collected += 1

    async def thin_checkpoints(self) -> None: ...


class Some:
    """The first partitions of these agents are held here."""

    def __init__(self, *agents: str) -> None:
        self._agents = agents

    def find(self, agent: str, partition: Partition) -> object | None:
        return agent if agent in self._agents and partition.partition == 0 else None


def three() -> control.Registry:
    """Of three agents the first has never been opened anywhere."""
    registry = control.Registry()
    for agent in ("a", "b", "c"):
        spec = {"source": {"topic": "t"}}
        deploy = control.Deploy(
            id=agent, agent=agent, spec=spec, digest="x", emit_topic=f"e{agent}"
        )
        registry.apply(deploy, 0)
        if agent != "a":
            effect = control.ShardEffect(
                id=f"{agent}/0",
                control_id=agent,
                agent=agent,
                epoch=1,
                topic="t",
                partition=0,
                next_offset=0,
                worker="w",
            )
            registry.apply(effect, 0)
    return registry


@pytest.mark.parametrize(
    ("held", "broken", "looks"),
    [
        (("b", "c"), (), COLLECT_EVERY),
        (("c",), ("b",), COLLECT_EVERY),
        (("c",), (), ANYBODY_EVERY),
        ((), ("b", "c"), COLLECT_EVERY),
        ((), (), ANYBODY_EVERY),
    ],
    ids=["one unopened", "one failed", "one is elsewhere", "none runs", "all are elsewhere"],
)
def test_somebody_collects_whichever_agents_do_not_run(
    held: tuple[str, ...], broken: tuple[str, ...], looks: int
) -> None:
    """One does it if all know which agents run; where an agent may have failed at somebody else,
    everybody now and then.
    """

    async def work() -> None:
        vault = Counted()
        keeping = Housekeeping(vault, three(), Some(*held), broken)
        for _ in range(looks - 1):
            await keeping.look()
        assert vault.collected == 0
        await keeping.look()
        assert vault.collected == 1

    asyncio.run(work())


def test_a_collection_that_fails_is_tried_again_at_the_next_look() -> None:
    """Not an hour later: keys that are to be forgotten are in the files that wait for it."""

    class Away(Counted):
        async def collect(self, older_than_ms: int = GRACE_MS) -> None:
            await super().collect(older_than_ms)
            if self.collected == 1:
                raise AwayStateError("the repository is away")

    async def work() -> None:
        vault = Away()
        keeping = Housekeeping(vault, control.Registry(), Some())
        for _ in range(COLLECT_EVERY + 2):
            await keeping.look()
        assert vault.collected == 2

    asyncio.run(work())


def test_without_any_agent_everybody_collects() -> None:
    """What was removed has to go nevertheless."""

    async def work() -> None:
        vault = Counted()
        keeping = Housekeeping(vault, control.Registry(), Some())
        for _ in range(COLLECT_EVERY):
            await keeping.look()
        assert vault.collected == 1

    asyncio.run(work())
