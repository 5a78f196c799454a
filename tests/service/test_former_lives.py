"""Snapshots of an agent that was deleted and deployed again, over gRPC on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.clock import SystemClock
from headrace.errors import ConflictError, NotFoundError
from headrace.views import RollbackRequest
from tests.service.conftest import Running, Start
from tests.service.test_rollback import digests, taught
from tests.service.test_service import learned, spec
from tests.serving.world import code_of


async def deployed_again(running: Running, agent: str, text: bytes | None = None) -> dict[str, str]:
    """An agent with a snapshot `old`, deleted and deployed again. Gives the keys of that."""
    first = spec(agent, f"t-{agent}")
    await taught(running, agent, first, 20)
    await running.client.create_snapshot(agent, "old")
    then = await digests(running.client, agent)
    await running.client.delete(agent)
    assert (await running.client.snapshot(f"{agent}.old")).former
    await running.client.deploy(text or first)
    await learned(running.client, agent, 20)
    return then


async def test_a_snapshot_of_a_former_life_is_marked(start: Start) -> None:
    """In the list and by itself; those of the present life are not."""
    async with start() as running:
        client = running.client
        await deployed_again(running, "marked")
        await client.create_snapshot("marked", "new")
        named = [s for s in await client.snapshots("marked") if s.kind == "named"]
        assert {s.snapshot_id: s.former for s in named} == {
            "marked.old": True,
            "marked.new": False,
        }
        assert (await client.snapshot("marked.old")).former


async def test_a_time_passes_over_snapshots_of_a_former_life(start: Start) -> None:
    """Where there are no others, that is said; a later one of this life is taken."""
    async with start() as running:
        client = running.client
        await deployed_again(running, "passed")
        before = RollbackRequest(agent="passed", before_ms=int(SystemClock().time() * 1000) + 1)
        with pytest.raises(NotFoundError, match=r"present life, and [1-9]") as error:
            await client.preview_rollback(before)
        assert error.value.code == "unknown_snapshot"
        await client.create_snapshot("passed", "new")
        before = RollbackRequest(agent="passed", before_ms=int(SystemClock().time() * 1000) + 1)
        assert (await client.preview_rollback(before)).snapshot_id == "passed.new"


async def test_the_refusal_says_what_brings_it_back(start: Start, tmp_path: Path) -> None:
    """Exported, removed and imported it can be gone back to, and is what it was."""
    file = tmp_path / "old.tar"
    async with start() as running:
        client = running.client
        then = await deployed_again(running, "brought")
        back = RollbackRequest(agent="brought", snapshot_id="brought.old")
        with pytest.raises(ConflictError, match=r"`headrace snapshot export brought\.old FILE`"):
            await client.rollback(back)
        digest = await client.export_snapshot("brought.old", file)
        await client.delete_snapshot("brought.old")
        found = await client.import_snapshot(file, digest)
        assert (found.imported, found.former) == (True, False)
        assert (await client.rollback(back)).done
        assert await digests(client, "brought") == then


async def test_under_another_spec_it_must_have_that_spec_first(start: Start) -> None:
    """An import would not help then, and the refusal says so."""
    other = spec("respelled", "t-respelled").replace(b"LinearRegression", b"PARegressor")
    async with start() as running:
        await deployed_again(running, "respelled", other)
        back = RollbackRequest(agent="respelled", snapshot_id="respelled.old")
        with pytest.raises(ConflictError, match="once the agent runs that spec") as error:
            await running.client.rollback(back)
        assert await code_of(running.client.preview_rollback(back)) == error.value.code
