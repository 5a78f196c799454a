"""A disk that fails, or holds what it should not, where one agent's state lies."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.errors import DiskFullError, StateError
from headrace.models import reverting
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.revert import Revert
from headrace.serving.client import AsyncClient
from headrace.state.directory import StateDirectory
from headrace.views import RollbackRequest
from tests.service.conftest import Start
from tests.service.test_service import learned, spec

T0 = 1_700_000_000_000


def many(topic: str, count: int) -> list[Outgoing]:
    """An event for each of so many keys."""
    return [
        Outgoing(topic, key.encode(), msgspec.json.encode({"id": key, "power": 1, "temp": 2}), T0)
        for key in (f"key-{n}" for n in range(count))
    ]


async def failed(client: AsyncClient, agent: str) -> None:
    """Return when the agent has."""
    async with asyncio.timeout(10):
        while (await client.agent(agent)).state != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Failing:
    """A database of RocksDB that fails where a disk does that cannot sync."""

    def __init__(self, database: Any, call: str) -> None:
        self._database = database
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return self._fails if name == self._call else getattr(self._database, name)

    def _fails(self, *_: object, **__: object) -> None:
        time.sleep(0.5)  # others come to wait for it
        raise Exception("IO error: While fdatasync: /s/4.log: Input/output error")  # noqa: TRY002


@pytest.mark.parametrize("asked", ["rollback", "snapshot"])
@pytest.mark.parametrize("call", ["flush_wal", "flush"])
async def test_a_sync_that_fails_under_a_command_ends_one_agent(
    start: Start, asked: str, call: str
) -> None:
    """Of rows or of a checkpoint, and whoever else waits to write: the others go on."""
    bad, good = f"bad-{asked}-{call}".replace("_", "-"), f"good-{asked}-{call}".replace("_", "-")
    rarely = {"flush_ms": 60_000, "flush_keys": 100_000}
    async with start() as (service, client):
        for agent in (bad, good):
            await client.deploy(spec(agent, f"t-{agent}", state=rarely))
            await service.events.send_all(many(f"t-{agent}", 50))
            await learned(client, agent, 50)
        await client.create_snapshot(bad, "one")
        await service.events.send_all(many(f"t-{bad}", 20))
        await learned(client, bad, 70)
        (shard,) = service.worker.shards.of_agent(bad)
        store: Any = shard.store
        store._database = Failing(store._database, call)
        shard.flush_soon()
        back = RollbackRequest(agent=bad, snapshot_id=f"{bad}.one")
        asking: asyncio.Future[object] = asyncio.ensure_future(
            client.rollback(back) if asked == "rollback" else client.create_snapshot(bad, "two")
        )
        await failed(client, bad)
        asking.cancel()
        await service.events.send_all(many(f"t-{good}", 20))
        await learned(client, good, 70)
        assert not service.failed.done()


@pytest.mark.parametrize(
    ("fails", "keys"),
    [("adopt", ()), ("of_keys", ("key-1",)), ("open_drafts", ()), ("open_drafts", ("key-1",))],
)
async def test_a_rollback_that_finds_no_room_leaves_nothing_on_the_disk(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str, keys: tuple[str, ...]
) -> None:
    """However often it is tried, until there is room."""
    agent, tries = f"tries-{fails}-{len(keys)}".replace("_", "-"), iter(range(4))
    owner = {"adopt": StateDirectory, "of_keys": reverting, "open_drafts": Revert}[fails]

    def without_room(owner: Any, name: str) -> None:
        usual = getattr(owner, name)

        def tried(*arguments: Any) -> Any:
            if next(tries, None) is not None:
                raise DiskFullError("No space left on device")
            return usual(*arguments)

        monkeypatch.setattr(owner, name, tried)

    def drafts() -> list[Path]:
        return list((tmp_path / "state" / "drafts").iterdir())

    async with start() as (service, client):
        await client.deploy(spec(agent, f"t-{agent}"))
        await service.events.send_all(many(f"t-{agent}", 50))
        await learned(client, agent, 50)
        await client.create_snapshot(agent, "one")
        await service.events.send_all(many(f"t-{agent}", 20))
        await learned(client, agent, 70)
        without_room(owner, "_store_at" if fails == "open_drafts" else fails)
        back = RollbackRequest(agent=agent, snapshot_id=f"{agent}.one", keys=keys)
        await asyncio.gather(client.rollback(back), return_exceptions=True)
        async with asyncio.timeout(30):
            view = await client.agent(agent)
            while (view.epoch, view.state) != (2, "running"):
                await asyncio.sleep(0.1)
                view = await client.agent(agent)
            while not (await client.rollbacks(agent))[0].done:  # noqa: ASYNC110 - beside it
                await asyncio.sleep(0.1)
        assert next(tries, None) is None
        async with asyncio.timeout(10):
            # It runs again while the rollback is done beside it; to publish makes drafts, too.
            while service.worker.vault.owed()[0] or drafts():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert drafts() == []


async def test_a_disk_that_fails_when_room_is_made_in_memory_ends_one_agent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget flushes the largest shard, whoever came over it; only that one's agent fails."""

    def broken(*_: object) -> None:
        raise StateError("Input/output error")

    rarely = {"flush_ms": 60_000, "flush_keys": 100_000}
    async with start(models_bytes_max=1 << 20) as (service, client):
        await client.deploy(spec("large", "t-large", state=rarely))
        await client.deploy(spec("small", "t-small", state=rarely))
        await service.events.send_all(many("t-large", 150))
        await learned(client, "large", 150)
        (shard,) = service.worker.shards.of_agent("large")
        monkeypatch.setattr(shard._store, "write", broken)
        await service.events.send_all(many("t-small", 100))
        await learned(client, "small", 100)
        await failed(client, "large")
        await service.events.send_all(many("t-small", 10))
        await learned(client, "small", 110)
        assert not service.failed.done()


async def test_a_deploy_whose_shards_cannot_be_opened_says_why_at_once(
    start: Start, tmp_path: Path
) -> None:
    """Nobody waits out the time that a command may take for what has failed already. The service
    goes on, starts again, and the agent can be deleted.
    """
    async with start(control_timeout_s=60.0) as (_, client):
        (tmp_path / "state" / "shards").mkdir(exist_ok=True)
        (tmp_path / "state" / "shards" / "narrow").write_text("somebody's notes")
        async with asyncio.timeout(20):
            with pytest.raises(StateError, match="cannot be written: Not a directory"):
                await client.deploy(spec("narrow", "t-narrow"))
        assert (await client.agent("narrow")).state == "failed"
    async with start() as (service, client):
        assert (await client.agent("narrow")).state == "failed"
        assert (await client.delete("narrow")).changed
        assert await client.agents() == []
        assert not service.failed.done()
