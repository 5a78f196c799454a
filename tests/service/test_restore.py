"""A worker with an empty disk, and the repository of the one that was lost."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from headrace.serving.client import AsyncClient
from headrace.views import RollbackRequest
from tests.service.conftest import Start
from tests.service.test_rollback import digests, learner_over, more, taught
from tests.service.test_service import KEYS, learned, spec
from tests.service.watched import decisions


async def published(client: AsyncClient, snapshot_id: str) -> None:
    """Wait until the snapshot is in the repository and vouched for; an undo snapshot is so later
    than the rollback before which it was taken.
    """
    async with asyncio.timeout(20):
        while True:
            if snapshot_id in {view.snapshot_id for view in await client.snapshots()}:
                return
            await asyncio.sleep(0.02)


async def test_an_empty_disk_goes_on_from_the_newest_snapshot(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It learns what came since, sends no decision again, and has the same keys."""
    caplog.set_level(logging.INFO)
    where = f"file://{tmp_path / 'repository'}"
    text = spec("returned", "t-restored")
    async with start(snapshots=where) as running:
        sent = await taught(running, "returned", text, 30)
        await running.client.create_snapshot("returned", "one")
        await more(running, "returned", sent, 60)
        await running.client.create_snapshot("returned", "two")
        await more(running, "returned", sent, 75)
        before = await digests(running.client, "returned")
        made = await decisions(running.client, "returned")
    async with start(state="empty", snapshots=where) as running:
        await learned(running.client, "returned", 75)
        assert await digests(running.client, "returned") == before
        assert await decisions(running.client, "returned") == made
        await more(running, "returned", sent, 90)
        assert len(await decisions(running.client, "returned")) == 90
    restored = [record for record in caplog.records if record.message == "shard.restored"]
    assert len(restored) == 1
    assert "returned.two" in str(vars(restored[0]))


async def test_a_damaged_newest_snapshot_makes_way_for_an_older_one(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused before it is decoded, loudly; the keys are nevertheless what they must be."""
    caplog.set_level(logging.INFO)
    repository = tmp_path / "repository"
    text = spec("older", "t-older")
    async with start(snapshots=f"file://{repository}") as running:
        sent = await taught(running, "older", text, 30)
        await running.client.create_snapshot("older", "one")
        await more(running, "older", sent, 60)
        await running.client.create_snapshot("older", "two")
    [manifest] = repository.glob("manifests/older.two/*")
    manifest.write_bytes(manifest.read_bytes().replace(b"60", b"61"))
    async with start(state="empty", snapshots=f"file://{repository}") as running:
        await learned(running.client, "older", 60)
        there = await digests(running.client, "older")
        assert running.service.worker.vault.refusals == 1
    never = learner_over("older", text, enumerate(sent))
    assert there == {key: never.describe(key, 60).digest for key in KEYS}
    refused = [record for record in caplog.records if record.message == "snapshot.refused"]
    restored = [record for record in caplog.records if record.message == "shard.restored"]
    assert [record.levelname for record in refused] == ["ERROR"]
    assert "older.two" in str(vars(refused[0]))
    assert "older.one" in str(vars(restored[0]))


async def test_a_rolled_back_agent_is_restored_in_its_epoch(start: Start, tmp_path: Path) -> None:
    """Lost after a rollback that no snapshot has covered yet: base, rollback and log make the same
    keys again, and the undo snapshot is still in the repository.
    """
    where = f"file://{tmp_path / 'repository'}"
    async with start(snapshots=where) as running:
        sent = await taught(running, "rolled", spec("rolled", "t-rolled"), 30)
        await running.client.create_snapshot("rolled", "good")
        await more(running, "rolled", sent, 60)
        bad = await digests(running.client, "rolled")
        done = await running.client.rollback(
            RollbackRequest(agent="rolled", snapshot_id="rolled.good")
        )
        await published(running.client, done.undo_snapshot_id)
        after = await digests(running.client, "rolled")
    async with start(state="empty", snapshots=where) as running:
        await learned(running.client, "rolled", 60)
        assert (await running.client.agent("rolled")).epoch == 2
        assert await digests(running.client, "rolled") == after
        await running.client.undo_rollback("rolled")
        assert await digests(running.client, "rolled") == bad


async def test_a_lost_repository_costs_only_learning_again(start: Start, tmp_path: Path) -> None:
    """Neither disk nor snapshots, but the log reaches back: the keys are those of the fold."""
    text = spec("bare", "t-bare")
    async with start(snapshots=f"file://{tmp_path / 'repository'}") as running:
        sent = await taught(running, "bare", text, 30)
        await running.client.create_snapshot("bare", "gone")
    async with start(state="empty", snapshots=f"file://{tmp_path / 'another'}") as running:
        await learned(running.client, "bare", 30)
        never = learner_over("bare", text, enumerate(sent))
        there = await digests(running.client, "bare")
        assert there == {key: never.describe(key, 30).digest for key in KEYS}
        assert len(await decisions(running.client, "bare")) == 30


async def test_an_agent_without_its_control_log_begins_above_what_it_decided(
    start: Start,
) -> None:
    """No id is given twice, and no former decision is taken for one of its own after a loss."""
    text = spec("anew", "t-anew")
    async with start(state="first") as running:
        sent = await taught(running, "anew", text, 30)
        former = await decisions(running.client, "anew")
    async with start(state="second", app="made-anew") as running:
        effect = await running.client.deploy(text)
        assert effect.epoch == 2
        await learned(running.client, "anew", 30)
    async with start(state="third", app="made-anew") as running:
        await more(running, "anew", sent, 40)
        made = await decisions(running.client, "anew")
    assert made[:30] == former
    assert [each["epoch"] for each in made[30:]] == [2] * 40
