"""Rollbacks that are refused because of how things stand just now, over gRPC on a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import msgspec
import pytest

from headrace.errors import ConflictError
from headrace.pipelines import control
from headrace.serving import snapshot_pb2, snapshot_pb2_grpc
from headrace.state.catalogue import encode
from headrace.views import RollbackRequest
from tests.service.conftest import Start
from tests.service.test_restore import published
from tests.service.test_rollback import taught
from tests.service.test_rollback_answers import cut_at_30_of_60, to_half
from tests.service.test_service import learned, spec
from tests.serving.world import code_of


async def test_a_snapshot_of_which_a_partition_is_missing_is_refused(start: Start) -> None:
    """Its worker was lost, say, before it was published; so does the preview."""
    async with start() as running:
        await cut_at_30_of_60(running, "partial")
        vault = running.service.worker.vault
        (vouched,) = vault.catalogue.shards("partial.half").values()
        half = msgspec.structs.replace(vouched, snapshot_id="partial.part", partitions=2)
        await vault._topic.append(half.key, encode(half))
        assert not (await running.client.snapshot("partial.part")).complete
        request = RollbackRequest(agent="partial", snapshot_id="partial.part")
        for call in (running.client.rollback, running.client.preview_rollback):
            assert await code_of(call(request)) == "snapshot_incomplete"
        assert (await running.client.agent("partial")).epoch == 1


async def test_a_snapshot_that_was_removed_is_told_to_have_been(start: Start) -> None:
    """It is another thing than one that never was."""
    async with start() as running:
        await cut_at_30_of_60(running, "past")
        await running.client.delete_snapshot("past.half")
        assert await code_of(running.client.rollback(to_half("past"))) == "snapshot_expired"
        never = RollbackRequest(agent="past", snapshot_id="past.never")
        assert await code_of(running.client.rollback(never)) == "unknown_snapshot"


async def test_one_rollback_of_an_agent_at_a_time(start: Start) -> None:
    """While another worker has yet to roll back its partition, others are refused."""
    async with start() as running:
        await cut_at_30_of_60(running, "once")
        worker = running.service.worker
        (vouched,) = worker.vault.catalogue.shards("once.half").values()
        base = control.Base(partition=0, epoch=1, next_offset=30, digest=vouched.digest)
        elsewhere = msgspec.structs.replace(base, partition=1)
        await worker.controls.append(
            control.Rollback(
                id="two-workers",
                agent="once",
                life=1,
                snapshot_id="once.half",
                bases=(base, elsewhere),
            )
        )
        async with asyncio.timeout(10):
            while True:
                going = await running.client.get_rollback("two-workers")
                if going.positions:
                    break
                await asyncio.sleep(0.02)
        assert not going.done
        for call in (running.client.rollback, running.client.preview_rollback):
            with pytest.raises(ConflictError, match="done in 1 of 2 partitions: wait") as refused:
                await call(to_half("once"))
            assert refused.value.code == "rollback_running"
            first, last = refused.value.text.split("; mend that, or delete the agent ")
            assert "`headrace rollbacks once` shows how far it is" in first
            assert last.startswith("and deploy it again as the last resort, which loses")


async def test_a_snapshot_that_a_rollback_stands_on_is_kept(start: Start) -> None:
    """Until there is one of what came of it: a restore would need it."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "leaning")
        await client.rollback(to_half("leaning"))
        assert await code_of(client.delete_snapshot("leaning.half")) == "snapshot_in_use"
        await client.create_snapshot("leaning", "after")
        await client.delete_snapshot("leaning.half")
        named = [s.snapshot_id for s in await client.snapshots("leaning") if s.kind == "named"]
        assert named == ["leaning.after"]


async def test_without_its_undo_snapshot_a_rollback_cannot_be_taken_back(start: Start) -> None:
    """The list of rollbacks says so, and the undo is refused."""
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "for-good")
        done = await client.rollback(to_half("for-good"))
        await published(client, done.undo_snapshot_id)
        assert (await client.get_rollback(done.control_id)).note == ""
        await client.delete_snapshot(done.undo_snapshot_id)
        (listed,) = await client.rollbacks("for-good")
        assert listed.note == "its undo snapshot has been removed: it cannot be taken back"
        assert await code_of(client.undo_rollback("for-good")) == "snapshot_expired"


async def test_what_was_taken_back_is_not_told_to_be_beyond_that(start: Start) -> None:
    """Its undo snapshot was of use, and may go; of an undo it is told that itself cannot be taken
    back.
    """
    async with start() as running:
        client = running.client
        await cut_at_30_of_60(running, "over")
        done = await client.rollback(to_half("over"))
        await published(client, done.undo_snapshot_id)
        undo = await client.undo_rollback("over")
        await published(client, undo.undo_snapshot_id)
        await client.create_snapshot("over", "after")
        for view in (done, undo):
            await client.delete_snapshot(view.undo_snapshot_id)
        newest, oldest = await client.rollbacks("over")
        assert (oldest.undone_by, oldest.note) == (undo.control_id, "")
        assert newest.undoes == done.control_id
        assert newest.note == "cannot be taken back itself: its undo snapshot has been removed"


async def test_a_shared_model_goes_back_as_a_whole(start: Start) -> None:
    """It has learned from all keys: one of them cannot go back alone."""
    async with start() as running:
        client = running.client
        text = spec("joint", "t-joint", scope="shared")
        await taught(running, "joint", text, 30)
        await client.create_snapshot("joint", "half")
        before = (await client.predict("joint", key="ada", features={"power": 3.0})).score
        await running.service.events.send(
            "t-joint", b"ada", b'{"id": "ada", "power": 90, "temp": 1}'
        )
        await learned(client, "joint", 31)
        assert await code_of(client.rollback(to_half("joint", keys=("ada",)))) == "not_per_key"
        await client.rollback(to_half("joint"))
        assert (await client.predict("joint", key="ada", features={"power": 3.0})).score == before


async def test_a_damaged_manifest_leaves_as_data_loss(start: Start, tmp_path: Path) -> None:
    """Nothing is in the control log then, and the agent goes on."""
    repository = tmp_path / "repository"
    async with start(snapshots=f"file://{repository}") as running:
        await cut_at_30_of_60(running, "spoilt")
    (manifest,) = (repository / "manifests" / "spoilt.half").iterdir()
    manifest.write_bytes(manifest.read_bytes()[:-1])
    async with start(state="empty", snapshots=f"file://{repository}") as running:
        await learned(running.client, "spoilt", 60)
        assert await code_of(running.client.rollback(to_half("spoilt"))) == "snapshot_damaged"
        async with grpc.aio.insecure_channel(running.service.grpc_address) as channel:
            stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
            plan = snapshot_pb2.RollbackPlan(agent="spoilt", snapshot_id="spoilt.half")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Rollback(snapshot_pb2.RollbackRequest(plan=plan))
        assert refused.value.code() is grpc.StatusCode.DATA_LOSS
        assert await running.client.rollbacks("spoilt") == []
        assert (await running.client.agent("spoilt")).state == "running"
