from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.errors import HeadraceError, RequestError
from headrace.serving import calls, snapshot_pb2, snapshot_pb2_grpc
from headrace.serving.archive_calls import Draft
from headrace.serving.client import AsyncClient, Client
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import SnapshotView
from tests.serving.carried import content_of
from tests.serving.history import BEFORE
from tests.serving.world import World, code_of
from tests.small_disk import SmallDisk

Message = snapshot_pb2.ImportSnapshotRequest


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_a_snapshot_goes_out_and_comes_in(
    client: AsyncClient, world: World, before: SnapshotView, tmp_path: Path
) -> None:
    """The file has the archive's bytes, and what its digest vouches for is taken."""
    seen: list[tuple[int, int]] = []
    path = tmp_path / "before.tar"
    digest = await client.export_snapshot(BEFORE, path, lambda *how_far: seen.append(how_far))
    content = content_of(before)
    assert path.read_bytes() == content
    assert names(tmp_path) == ["before.tar"]
    assert seen[-1] == (len(content), len(content))
    del world.snapshots.views[BEFORE]
    view = await client.import_snapshot(path, digest)
    assert (view.snapshot_id, view.imported) == (BEFORE, True)
    assert await client.snapshot(BEFORE) == view


async def test_the_blocking_client_carries_too(
    target: str, before: SnapshotView, tmp_path: Path
) -> None:
    """With the same verbs."""

    def carried() -> SnapshotView:
        with Client(target) as client:
            digest = client.export_snapshot(BEFORE, tmp_path / "a.tar")
            assert client.diff_snapshots(BEFORE).counts[0].changed == 1_200
            client.delete_snapshot(BEFORE)
            return client.import_snapshot(tmp_path / "a.tar", digest)

    assert (await asyncio.to_thread(carried)).imported


async def test_what_differs_comes_through(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """Every figure of it, from one snapshot to another or to now."""
    found = await client.diff_snapshots(BEFORE)
    assert found == await world.archives.diff(BEFORE, None)
    assert (await client.diff_snapshots(BEFORE, BEFORE)).later == BEFORE
    assert await code_of(client.diff_snapshots("card-fraud.gone")) == "unknown_snapshot"
    assert await code_of(client.diff_snapshots("")) == "invalid_request"


async def test_another_digest_is_refused_while_the_file_still_comes(
    client: AsyncClient, before: SnapshotView, tmp_path: Path
) -> None:
    """The client does not send all of it in vain."""
    path = tmp_path / "before.tar"
    await client.export_snapshot(BEFORE, path)
    path.write_bytes(path.read_bytes() * 50)
    sent: list[int] = []
    with pytest.raises(RequestError, match="another archive") as refused:
        await client.import_snapshot(path, "0" * 64, lambda done, _: sent.append(done))
    assert refused.value.code == "snapshot_damaged"
    assert max(sent, default=0) < path.stat().st_size / 2
    assert await code_of(client.import_snapshot(path, "AB" * 32)) == "invalid_request"


async def test_an_export_that_fails_leaves_no_file(
    client: AsyncClient, world: World, before: SnapshotView, tmp_path: Path
) -> None:
    """And one that was there stays as it was."""
    path = tmp_path / "before.tar"
    path.write_bytes(b"mine")
    world.archives.cut = 800_000
    assert await code_of(client.export_snapshot(BEFORE, path)) == "snapshot_damaged"
    assert await code_of(client.export_snapshot("card-fraud.gone", path)) == "unknown_snapshot"
    assert names(tmp_path) == ["before.tar"]
    assert path.read_bytes() == b"mine"


async def test_a_file_that_cannot_be_used_is_said(
    client: AsyncClient, before: SnapshotView, tmp_path: Path
) -> None:
    """In the client's own words, on either way."""
    for call in (
        client.export_snapshot(BEFORE, tmp_path / "nowhere" / "a.tar"),
        client.import_snapshot(tmp_path / "nothing", "ab" * 32),
        client.import_snapshot(tmp_path, "ab" * 32),
    ):
        with pytest.raises(RequestError, match="cannot be used"):
            await call


@pytest.mark.parametrize("size", [3, 300_000], ids=["less than a buffer", "more"])
def test_an_export_onto_a_full_disk_leaves_no_file(disk: SmallDisk, size: int) -> None:
    """Not even a hidden one, which would take room that nobody finds."""
    disk.fill()
    there = names(disk.path)
    head = snapshot_pb2.ArchiveHead(digest="ab" * 32, size_bytes=size)

    def exported() -> None:
        with Draft(disk.path / "before.tar", None) as draft:
            draft.take(snapshot_pb2.ExportSnapshotResponse(head=head))
            draft.take(snapshot_pb2.ExportSnapshotResponse(piece=b"x" * size))
            draft.done("the service")

    with pytest.raises(RequestError, match="No space left"):
        exported()
    assert names(disk.path) == there


@pytest.fixture
def small() -> Limits:
    return Limits(message_bytes=100_000, message_s=0.2, stall_s=0.2)


async def test_pieces_fit_into_messages(
    world: World, before: SnapshotView, small: Limits, tmp_path: Path
) -> None:
    """Also where messages are small."""
    server = Server(world.backend, Listen(port=0), limits=small)
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        await client.export_snapshot(BEFORE, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == content_of(before)
    await server.stop()


async def test_a_reader_that_stops_is_cut_off(
    world: World, before: SnapshotView, small: Limits
) -> None:
    """No more of an archive is drawn than it has read, but for what the connection holds."""
    world.archives.more = 100_000_000
    server = Server(world.backend, Listen(port=0), limits=small)
    target = f"127.0.0.1:{await server.start()}"
    async with grpc.aio.insecure_channel(target, options=calls.OPTIONS) as channel:
        stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        call = stub.ExportSnapshot(snapshot_pb2.ExportSnapshotRequest(snapshot_id=BEFORE))
        await call.read()
        await world.archives.ended.wait()  # it does not read meanwhile
        assert sum(world.archives.given) < world.archives.more / 2
        with pytest.raises(grpc.RpcError) as found:
            await drained(call)
        failure = calls.failure(found.value, target)
        assert isinstance(failure, RequestError)
        assert failure.code == "slow_consumer"
    await server.stop()


async def drained(call: Any) -> None:
    """Read on until it fails."""
    while True:
        await call.read()


async def refused(target: str, *messages: Message, silent: bool = False) -> str:
    """The code that an import of these messages ends with."""

    async def sent() -> AsyncIterator[Message]:
        for message in messages:
            yield message
        if silent:
            await asyncio.Event().wait()

    async with grpc.aio.insecure_channel(target, options=calls.OPTIONS) as channel:
        stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        with pytest.raises(grpc.RpcError) as found:
            await stub.ImportSnapshot(sent())
        failure: HeadraceError = calls.failure(found.value, target)
        assert isinstance(failure, RequestError)
        return failure.code


async def test_an_import_keeps_to_its_order(target: str) -> None:
    """The digest comes first and once, then pieces."""
    digest, piece = Message(digest="ab" * 32), Message(piece=b"x")
    for messages in ((), (piece,), (digest, digest), (digest, Message())):
        assert await refused(target, *messages) == "invalid_request"
    assert await refused(target, digest, piece) == "snapshot_damaged"


async def test_a_sender_that_stops_is_cut_off(world: World, small: Limits) -> None:
    """It would keep others from importing: before the digest, and after it."""
    server = Server(world.backend, Listen(port=0), limits=small)
    target = f"127.0.0.1:{await server.start()}"
    digest, piece = Message(digest="ab" * 32), Message(piece=b"x")
    for messages in ((), (digest,), (digest, piece)):
        assert await refused(target, *messages, silent=True) == "deadline"
    await server.stop()
