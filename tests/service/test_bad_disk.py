"""A disk that fails, or holds what it should not, where one agent's state lies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headrace.errors import StateError
from headrace.pipelines.feeds import Outgoing
from tests.service.conftest import Start
from tests.service.test_service import learned, spec

T0 = 1_700_000_000_000


async def test_a_disk_that_fails_when_room_is_made_in_memory_ends_one_agent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget flushes the largest shard, whoever came over it; only that one's agent fails."""

    def many(topic: str, count: int) -> list[Outgoing]:
        return [
            Outgoing(
                topic, key.encode(), msgspec.json.encode({"id": key, "power": 1, "temp": 2}), T0
            )
            for key in (f"key-{n}" for n in range(count))
        ]

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
        async with asyncio.timeout(10):
            while (await client.agent("large")).state != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
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
