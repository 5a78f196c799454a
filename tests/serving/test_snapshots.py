from __future__ import annotations

import asyncio
from typing import Any

import grpc
import msgspec
import pytest

from headrace.errors import ConflictError, NotFoundError, RequestError
from headrace.serving import decode_snapshots, encode_snapshots, snapshot_pb2, snapshot_pb2_grpc
from headrace.serving.client import AsyncClient, Client
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import MetricChange, Position, RollbackRequest, RollbackView, SnapshotView
from tests.serving.history import BEFORE, BEGAN_MS, MINUTE_MS, to
from tests.serving.world import World, code_of


async def test_a_snapshot_is_made_shown_and_removed(client: AsyncClient, world: World) -> None:
    """Every figure of it comes through; one that is removed is not there any more."""
    made = await client.create_snapshot("card-fraud", "before-sale")
    assert made.snapshot_id == "card-fraud.before-sale"
    assert made == world.snapshots.views["card-fraud.before-sale"]
    assert made.complete
    assert await client.snapshot("card-fraud.before-sale") == made
    await client.delete_snapshot("card-fraud.before-sale")
    assert await code_of(client.snapshot("card-fraud.before-sale")) == "unknown_snapshot"


async def test_snapshots_are_listed_newest_first(client: AsyncClient, world: World) -> None:
    """Of one agent or of all, also those of an agent that is gone."""
    take = world.snapshots.take
    views = [
        take("card-fraud", "auto-1-20260101-000000", "automatic"),
        take("gone", "kept", "named"),
        take("card-fraud", "half", "named", shards=1),
        take("card-fraud", "undo-1", "undo"),
    ]
    views.reverse()
    assert await client.snapshots() == views
    assert [view.complete for view in await client.snapshots("card-fraud")] == [True, False, True]
    assert await client.snapshots("gone") == [views[2]]
    assert await code_of(client.snapshots("nobody")) == "unknown_agent"


async def test_a_pin_can_be_taken_off(client: AsyncClient, before: SnapshotView) -> None:
    """It says so each time."""
    assert (await client.pin_snapshot(BEFORE)).pinned
    assert (await client.snapshot(BEFORE)).pinned
    assert await client.pin_snapshot(BEFORE, pinned=False) == before


async def test_a_preview_changes_nothing(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """It says what would: events, keys, decisions and metrics."""
    found = await client.preview_rollback(to())
    assert (found.snapshot_id, found.mode, found.events_back) == (BEFORE, "revert", 160)
    assert (found.keys_changed, found.keys_total) == (40, 1_000)
    assert (found.decisions_flipped, found.decisions_compared) == (31, 200)
    f1 = MetricChange(name="F1", now=0.5, then=0.75, bigger_is_better=True, events=120)
    assert found.metrics == (f1,)
    assert await client.rollbacks("card-fraud") == []
    assert list(world.snapshots.views) == [BEFORE]


async def test_a_rollback_and_its_undo(client: AsyncClient, before: SnapshotView) -> None:
    """Both raise the epoch, name where they count, and are listed newest first."""
    done = await client.rollback(to(keys=("4711", "4712")))
    assert (done.snapshot_id, done.epoch, done.keys) == (BEFORE, 4, ("4711", "4712"))
    assert done.positions == (Position("transactions", 0, 90), Position("transactions", 1, 90))
    assert done.done
    undone = await client.undo_rollback("card-fraud")
    assert (undone.undoes, undone.snapshot_id) == (done.control_id, done.undo_snapshot_id)
    assert (undone.epoch, undone.keys) == (5, done.keys)
    taken_back = msgspec.structs.replace(done, undone_by=undone.control_id)
    assert await client.rollbacks("card-fraud") == [undone, taken_back]
    again = await client.undo_rollback("card-fraud", undone.control_id)
    assert again.undoes == undone.control_id
    assert (await client.undo_rollback("card-fraud")).undoes == done.control_id  # it stood again
    assert await code_of(client.undo_rollback("card-fraud")) == "unknown_rollback"


def test_every_field_of_a_rollback_comes_through() -> None:
    """Each has a value of its own here that it would not have if it were left out."""
    texts = ("control_id", "agent", "snapshot_id", "undo_snapshot_id", "undoes", "undone_by")
    numbers = ("epoch", "partitions", "published", "withdrawn", "reinstated", "failed", "left")
    fields: dict[str, Any] = {name: name for name in (*texts, "note")}
    fields |= {name: number for number, name in enumerate((*numbers, "asked_ms"), start=1)}
    fields |= {"mode": "rewind", "keys": ("k",), "positions": (Position("t", 1, 90),)}
    assert set(fields) == set(RollbackView.__struct_fields__)
    view = RollbackView(**fields)
    assert decode_snapshots.rollback(encode_snapshots.rollback(view)) == view


async def test_the_newest_complete_snapshot_before_a_time(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """A time stands for one; it may be that there is none."""
    world.snapshots.take("card-fraud", "half", "named", shards=1)
    asked = RollbackRequest(agent="card-fraud", before_ms=BEGAN_MS + 10 * MINUTE_MS)
    assert (await client.preview_rollback(asked)).snapshot_id == BEFORE
    early = msgspec.structs.replace(asked, before_ms=before.created_ms)
    assert await code_of(client.preview_rollback(early)) == "unknown_snapshot"


async def test_a_rollback_on_its_way_is_followed(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """It gains positions until it is done; meanwhile its snapshot is in use and no other begins."""
    world.rollbacks.slow = True
    begun = await client.rollback(to())
    assert not begun.done
    assert await code_of(client.delete_snapshot(BEFORE)) == "snapshot_in_use"
    seen = [await client.get_rollback(begun.control_id) for _ in range(3)]
    assert [len(view.positions) for view in seen] == [0, 1, 2]
    assert seen[-1].done
    assert (await client.rollback(to())).epoch == 5
    assert await code_of(client.rollback(to())) == "rollback_running"


async def test_what_is_not_there(client: AsyncClient, world: World, before: SnapshotView) -> None:
    """Agents, snapshots and rollbacks that are not there have a code each."""
    world.snapshots.expired.add("card-fraud.auto-1-20250101-000000")
    with pytest.raises(NotFoundError) as found:
        await client.snapshot("card-fraud.auto-1-20250101-000000")
    assert found.value.code == "snapshot_expired"
    assert found.value.context == {"snapshot": "card-fraud.auto-1-20250101-000000"}
    assert await code_of(client.rollback(to("card-fraud.other"))) == "unknown_snapshot"
    assert await code_of(client.rollback(to(agent="nobody"))) == "unknown_agent"
    assert await code_of(client.create_snapshot("nobody", "a")) == "unknown_agent"
    assert await code_of(client.get_rollback("c")) == "unknown_rollback"
    assert await code_of(client.undo_rollback("card-fraud", "c")) == "unknown_rollback"
    assert await code_of(client.rollbacks("nobody")) == "unknown_agent"


async def test_what_cannot_be_gone_back_to(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """Each reason has its code; what exists is contradicted, so it is a conflict."""
    history = world.snapshots
    assert await code_of(client.create_snapshot("card-fraud", "before")) == "snapshot_exists"
    half = history.take("card-fraud", "half", "named", shards=1)
    assert await code_of(client.rollback(to(half.snapshot_id))) == "snapshot_incomplete"
    world.rollbacks.log_start = 50
    with pytest.raises(ConflictError, match="reaches back to offset 50") as found:
        await client.rollback(to(mode="rewind"))
    assert found.value.code == "log_too_short"
    world.rollbacks.shared.add("card-fraud")
    assert await code_of(client.rollback(to(keys=("k",)))) == "not_per_key"
    history.foreign.add(BEFORE)
    assert await code_of(client.rollback(to())) == "other_build"
    history.views[BEFORE] = msgspec.structs.replace(before, spec_digest="other")
    assert await code_of(client.rollback(to())) == "spec_mismatch"


async def test_a_damaged_snapshot_is_a_loss_of_data(
    target: str, world: World, before: SnapshotView
) -> None:
    """It has its own gRPC status, and the details name the snapshot."""
    world.snapshots.damaged.add(BEFORE)
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        request = snapshot_pb2.RollbackRequest(plan=encode_snapshots.plan(to()))
        with pytest.raises(grpc.aio.AioRpcError, match=f"{BEFORE} is damaged") as found:
            await stub.Rollback(request)
    assert found.value.code() is grpc.StatusCode.DATA_LOSS
    async with AsyncClient(target) as client:
        assert await code_of(client.rollback(to())) == "snapshot_damaged"


@pytest.mark.parametrize(
    "name", ["", "Before", "-a", ".a", "a/b", "a" * 65, "auto-1", "undo-1", "a\n", "a b"]
)
async def test_a_name_that_cannot_be_given(client: AsyncClient, name: str) -> None:
    """A name becomes a part of paths and of ids; some are the service's own."""
    with pytest.raises(RequestError, match="name ") as found:
        await client.create_snapshot("card-fraud", name)
    assert found.value.code == "invalid_request"
    longest = "a" * 64
    made = await client.create_snapshot("card-fraud", longest)
    assert made.snapshot_id == f"card-fraud.{longest}"


async def test_empty_ids_are_refused(client: AsyncClient) -> None:
    """An id that is left out stands for nothing, but for that of an undo."""
    assert await code_of(client.snapshot("")) == "invalid_request"
    assert await code_of(client.pin_snapshot("")) == "invalid_request"
    assert await code_of(client.delete_snapshot("s" * 513)) == "too_large"
    assert await code_of(client.get_rollback("")) == "invalid_request"
    assert await code_of(client.get_rollback("c" * 513)) == "too_large"
    assert await code_of(client.undo_rollback("", "c")) == "invalid_request"


async def test_an_empty_key_is_none(client: AsyncClient) -> None:
    """It is refused, and not taken for the whole agent, nor for a key that nothing has."""
    for keys in (("",), ("4711", "")):
        back = RollbackRequest(agent="card-fraud", snapshot_id="card-fraud.s", keys=keys)
        assert await code_of(client.rollback(back)) == "invalid_request"
        assert await code_of(client.preview_rollback(back)) == "invalid_request"


async def test_a_long_list_comes_in_pages(world: World) -> None:
    """A page has a bound in bytes; what is made or removed between two pages doubles nothing."""
    views = [world.snapshots.take("card-fraud", f"s{n}", "named") for n in range(300)]
    views.reverse()
    server = Server(world.backend, Listen(port=0), limits=Limits(page_bytes=2_000, slice_s=0.0))
    target = f"127.0.0.1:{await server.start()}"
    async with AsyncClient(target) as client, grpc.aio.insecure_channel(target) as channel:
        assert await client.snapshots("card-fraud") == views
        stub: Any = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        page = await stub.ListSnapshots(snapshot_pb2.ListSnapshotsRequest())
        assert 1 < len(page.snapshots) < 20
        world.snapshots.take("card-fraud", "newest", "named")
        request = snapshot_pb2.ListSnapshotsRequest(page_token=page.next_page_token)
        following = await stub.ListSnapshots(request)
        assert following.snapshots[0].snapshot_id == views[len(page.snapshots)].snapshot_id
        for _ in range(30):
            await client.rollback(to(views[0].snapshot_id))
        assert [view.control_id for view in await client.rollbacks("card-fraud")] == [
            f"r{n}" for n in range(30, 0, -1)
        ]
        for token in ("-1", "x", "1" * 10, "²"):
            with pytest.raises(grpc.aio.AioRpcError, match="begin with the first page"):
                await stub.ListSnapshots(snapshot_pb2.ListSnapshotsRequest(page_token=token))
    await server.stop()


async def test_an_entry_above_the_bound_is_a_page_of_its_own(world: World) -> None:
    """Else nobody would get past it."""
    for n in range(3):
        world.snapshots.take("card-fraud", f"s{n}", "named")
    server = Server(world.backend, Listen(port=0), limits=Limits(page_bytes=1))
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        assert len(await client.snapshots()) == 3
    await server.stop()


async def test_the_blocking_client_says_the_same(
    client: AsyncClient, target: str, before: SnapshotView
) -> None:
    """Client and AsyncClient give equal views for equal calls."""

    def ask() -> list[object]:
        with Client(target) as blocking:
            made = blocking.create_snapshot("card-fraud", "other")
            blocking.delete_snapshot(made.snapshot_id)
            return [
                made.snapshot_id,
                blocking.snapshot(BEFORE),
                blocking.snapshots(),
                blocking.pin_snapshot(BEFORE),
                blocking.preview_rollback(to()),
                blocking.rollback(to()),
                blocking.undo_rollback("card-fraud").undoes,
                blocking.get_rollback("r1"),
                blocking.rollbacks("card-fraud"),
            ]

    found = await asyncio.to_thread(ask)
    done = await client.get_rollback("r1")
    assert done.undone_by == "r2"
    assert found == [
        "card-fraud.other",
        before,
        [before],
        msgspec.structs.replace(before, pinned=True),
        await client.preview_rollback(to()),
        msgspec.structs.replace(done, undone_by=""),
        "r1",
        done,
        await client.rollbacks("card-fraud"),
    ]


async def test_commands_of_snapshots_have_the_bound_of_commands(world: World) -> None:
    """What waits for a log is shed beyond it; what only reads is not."""
    server = Server(world.backend, Listen(port=0), limits=Limits(control_calls=0))
    async with AsyncClient(f"127.0.0.1:{await server.start()}") as client:
        for call in (
            client.create_snapshot("card-fraud", "a"),
            client.pin_snapshot(BEFORE),
            client.delete_snapshot(BEFORE),
            client.preview_rollback(to()),
            client.rollback(to()),
            client.undo_rollback("card-fraud"),
        ):
            assert await code_of(call) == "overloaded"
        assert await client.snapshots() == []
        assert await client.rollbacks("card-fraud") == []
    await server.stop()
