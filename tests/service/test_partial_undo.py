"""An undo that could not be done in every partition, and the one that completes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ConflictError, CorruptStateError
from headrace.pipelines import control
from headrace.pipelines.live import partition_of
from headrace.pipelines.vault import Vault
from headrace.views import Partition, RollbackRequest
from tests.service.conftest import Start
from tests.service.test_restore import published
from tests.service.test_rollback import digests, more, taught
from tests.service.test_service import KEYS, spec

PARTITIONS = 2
LOST = partition_of("ada", PARTITIONS)
HERE = [key for key in KEYS if partition_of(key, PARTITIONS) == LOST]
ELSEWHERE = [key for key in KEYS if key not in HERE]


def lose_one(patched: pytest.MonkeyPatch) -> None:
    """What an undo goes back to cannot be had in one partition."""
    usual = Vault.base

    async def base(
        vault: Vault, partition: Partition, snapshot_id: str, base: control.Base
    ) -> Path:
        if partition.partition == LOST and ".undo-" in snapshot_id:
            raise CorruptStateError("its files are lost")
        return await usual(vault, partition, snapshot_id, base)

    patched.setattr(Vault, "base", base)


async def test_it_is_completed_by_asking_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first one was done, nothing that was learned since is lost by the second. Each can
    be taken back where it was done, and there only.
    """
    assert HERE
    assert ELSEWHERE
    async with start() as running:
        client = running.client
        await running.service.worker.topics.ensure("t-halves", partitions=PARTITIONS, ours=False)
        sent = await taught(running, "halves", spec("halves", "t-halves"), 30)
        await client.create_snapshot("halves", "good")
        await more(running, "halves", sent, 45)
        before = await digests(client, "halves")
        done = await client.rollback(RollbackRequest(agent="halves", snapshot_id="halves.good"))
        await published(client, done.undo_snapshot_id)
        with monkeypatch.context() as patched:
            lose_one(patched)
            half = await client.undo_rollback("halves", done.control_id)
        assert (half.done, half.failed, half.partitions) == (True, 1, PARTITIONS)
        assert "its files are lost" in half.note
        assert [view.undone_by for view in await client.rollbacks("halves")] == ["", ""]
        await more(running, "halves", sent, 60)
        since = await digests(client, "halves")
        rest = await client.undo_rollback("halves")
        assert (rest.undoes, rest.failed) == (done.control_id, 0)
        assert rest.left == 1
        assert "nothing to take back in 1 partition" in rest.note
        now = await digests(client, "halves")
        assert {key: now[key] for key in HERE} == {key: before[key] for key in HERE}
        assert {key: now[key] for key in ELSEWHERE} == {key: since[key] for key in ELSEWHERE}
        with pytest.raises(ConflictError, match=f"taken back by {rest.control_id} already"):
            await client.undo_rollback("halves", done.control_id)
        await published(client, rest.undo_snapshot_id)
        await client.undo_rollback("halves", rest.control_id)
        assert await digests(client, "halves") == since
