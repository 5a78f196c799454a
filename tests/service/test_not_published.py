"""Snapshots that are taken and not in the repository yet, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import ConflictError, StateError
from headrace.pipelines import publisher, snapshot_commands
from headrace.state.manifest import FileEntry
from headrace.state.repositories import LocalRepository
from headrace.state.repository import Added
from headrace.views import RollbackRequest
from tests.service.conftest import Running, Start
from tests.service.test_rollback import digests, more, taught
from tests.service.test_service import KEYS, learned, spec
from tests.serving.world import code_of


class AwayRepository(LocalRepository):
    """A repository to which nothing can be brought while it is `away`."""

    away = False
    only = ""  # what the paths of files have in them that cannot be brought there

    def add_file(self, path: Path, known: FileEntry | None = None) -> Added:
        if self.away and self.only in str(path):
            raise StateError("the object store does not answer")
        return super().add_file(path, known)


def away(running: Running, only: str = "") -> Callable[[bool], None]:
    """Take the service's repository away, and bring it back."""
    kept = running.service.worker.vault
    repository = AwayRepository(Path(running.service.worker.snapshots_url.removeprefix("file://")))
    kept._repository = repository
    kept._sources = kept._sources._replace(repository=repository)

    repository.only = only

    def switch(is_away: bool) -> None:
        repository.away = is_away

    switch(True)
    return switch


async def answers_from(running: Running, agent: str, epoch: int) -> None:
    """Wait until its state is of that epoch: a rollback may count where no event comes after it."""
    async with asyncio.timeout(10):
        while True:
            if (await running.client.key(agent, KEYS[0])).standing.epoch >= epoch:
                return
            await asyncio.sleep(0.02)


async def test_a_snapshot_says_that_it_is_being_published(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is another thing than one that never was: shown, rolled back to, or exported."""
    monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.1)
    async with start() as running:
        client = running.client
        await taught(running, "slow", spec("slow", "t-slow"), 30)
        switch = away(running)
        assert await code_of(client.create_snapshot("slow", "good")) == "snapshot_incomplete"
        assert await code_of(client.snapshot("slow.good")) == "snapshot_incomplete"
        to = RollbackRequest(agent="slow", snapshot_id="slow.good")
        assert await code_of(client.rollback(to)) == "snapshot_incomplete"
        assert await code_of(client.snapshot("slow.other")) == "unknown_snapshot"
        switch(False)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        commands = snapshot_commands.SnapshotCommands(running.service.worker)
        assert (await commands.published("slow.good")).complete


async def test_a_rollback_is_undone_while_the_repository_is_away(start: Start) -> None:
    """What it replaced is on this disk; the preview and a second undo need no more either."""
    async with start() as running:
        client = running.client
        sent = await taught(running, "quick", spec("quick", "t-quick"), 30)
        await client.create_snapshot("quick", "good")
        good = await digests(client, "quick")
        await more(running, "quick", sent, 60)
        newer = await digests(client, "quick")
        away(running)
        done = await client.rollback(RollbackRequest(agent="quick", snapshot_id="quick.good"))
        assert await digests(client, "quick") == good
        to_undo = RollbackRequest(agent="quick", snapshot_id=done.undo_snapshot_id)
        assert (await client.preview_rollback(to_undo)).keys_changed == len(good)
        async with asyncio.timeout(5):
            undone = await client.undo_rollback("quick")
        assert (undone.done, undone.epoch, undone.note) == (True, 3, "")
        assert await digests(client, "quick") == newer
        await client.undo_rollback("quick", undone.control_id)
        assert await digests(client, "quick") == good


async def test_an_early_undo_outlives_a_restart_and_a_lost_disk(
    start: Start, tmp_path: Path
) -> None:
    """The undo snapshot was published nowhere: the same log takes it again."""
    kept = f"file://{tmp_path / 'kept'}"
    text = spec("cut-off", "t-cut-off")
    async with start(snapshots=kept) as running:
        client = running.client
        sent = await taught(running, "cut-off", text, 30)
        await client.create_snapshot("cut-off", "good")
        await more(running, "cut-off", sent, 60)
        newer = await digests(client, "cut-off")
        away(running)
        await client.rollback(RollbackRequest(agent="cut-off", snapshot_id="cut-off.good"))
        await more(running, "cut-off", sent, 70)
        await client.undo_rollback("cut-off")
        assert await digests(client, "cut-off") == newer
    async with start(state="another", snapshots=kept) as running:
        await learned(running.client, "cut-off", 70)
        await answers_from(running, "cut-off", 3)
        assert await digests(running.client, "cut-off") == newer
        (_, first) = await running.client.rollbacks("cut-off")
        assert (first.done, first.note) == (True, "")


async def test_the_name_of_one_that_is_being_made_is_free_when_that_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated command would throw the first state away: it is refused, and says what to do."""
    monkeypatch.setattr(publisher, "PUBLISH_AGAIN_S", 0.02)
    monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.1)
    async with start() as running:
        client = running.client
        sent = await taught(running, "giving-up", spec("giving-up", "t-giving-up"), 30)
        switch = away(running)
        assert await code_of(client.create_snapshot("giving-up", "s")) == "snapshot_incomplete"
        await more(running, "giving-up", sent, 60)
        with pytest.raises(ConflictError, match="or give it up with `headrace snapshot rm") as told:
            await client.create_snapshot("giving-up", "s")
        assert told.value.code == "snapshot_exists"
        await client.delete_snapshot("giving-up.s")
        assert await code_of(client.snapshot("giving-up.s")) == "snapshot_expired"
        assert await code_of(client.create_snapshot("giving-up", "s")) == "snapshot_incomplete"
        switch(False)
        commands = snapshot_commands.SnapshotCommands(running.service.worker)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        made = await commands.published("giving-up.s")
        assert (made.complete, made.shards[0].next_offset) == (True, 60)


async def test_nothing_of_a_later_epoch_is_published_before_the_undo(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker could begin behind a rollback whose undo is nowhere any more."""
    monkeypatch.setattr(publisher, "PUBLISH_AGAIN_S", 0.02)
    async with start() as running:
        client = running.client
        await taught(running, "order", spec("order", "t-order"), 30)
        await client.create_snapshot("order", "good")
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.5)
        switch = away(running, only="undo-")
        done = await client.rollback(RollbackRequest(agent="order", snapshot_id="order.good"))
        assert await code_of(client.create_snapshot("order", "later")) == "snapshot_incomplete"
        async with asyncio.timeout(20):
            while running.service.worker.vault.owed()[0] < 2:  # noqa: ASYNC110 - it is being taken
                await asyncio.sleep(0.05)
        assert "order.later" not in {s.snapshot_id for s in await client.snapshots("order")}
        switch(False)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        commands = snapshot_commands.SnapshotCommands(running.service.worker)
        assert (await commands.published("order.later")).complete
        assert (await client.snapshot(done.undo_snapshot_id)).complete


async def test_a_snapshot_of_a_former_life_is_not_taken_for_one_of_that_name(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies on this disk and is published nowhere; the new one is published in its place."""
    monkeypatch.setattr(publisher, "PUBLISH_AGAIN_S", 0.02)
    text = spec("lives", "t-lives")
    async with start() as running:
        client = running.client
        sent = await taught(running, "lives", text, 30)
        switch = away(running)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 0.1)
        assert await code_of(client.create_snapshot("lives", "s")) == "snapshot_incomplete"
        await client.delete("lives")
        await client.deploy(text)
        await learned(client, "lives", 30)
        await more(running, "lives", sent, 60)
        assert await code_of(client.create_snapshot("lives", "s")) == "snapshot_incomplete"
        switch(False)
        commands = snapshot_commands.SnapshotCommands(running.service.worker)
        monkeypatch.setattr(snapshot_commands, "PUBLISH_WAIT_S", 20.0)
        made = await commands.published("lives.s")
        life = (await client.agent("lives")).epoch
        assert (made.epoch, made.shards[0].next_offset) == (life, 60)
        async with asyncio.timeout(5):
            while running.service.worker.vault.owed()[0]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        to = RollbackRequest(agent="lives", snapshot_id="lives.s")
        assert (await client.rollback(to)).done
