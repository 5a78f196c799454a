from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RequestError
from headrace.serving import (
    decode_snapshots,
    encode_snapshots,
    snapshot_pb2,
    snapshot_pb2_grpc,
    status,
)
from headrace.serving.client import AsyncClient
from headrace.serving.limits import Limits
from headrace.views import Exclusion, RollbackRequest, SnapshotView
from tests.serving.history import BEFORE, to
from tests.serving.world import World

DECISION = "card-fraud/3/transactions/0/17"


async def test_every_part_of_a_request_arrives(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """Absent is not zero, and a text is not changed."""
    exclude = Exclusion(
        decisions=(DECISION,), keys=("é", "0"), from_ms=0, to_ms=5, header=("src", "")
    )
    asked = [
        to(mode="rewind", exclude=exclude),
        to(mode="rewind", exclude=Exclusion(to_ms=7)),
        to(keys=("k",)),
        RollbackRequest(agent="card-fraud", before_ms=253_402_300_799_999),
    ]
    for each in asked:
        await client.preview_rollback(each)
    assert world.rollbacks.asked == asked
    await client.preview_rollback(to(mode="rewind", exclude=Exclusion()))
    assert world.rollbacks.asked[-1] == to(mode="rewind")


@pytest.mark.parametrize(
    ("asked", "code", "path"),
    [
        (to(agent=""), "invalid_request", "agent"),
        (to(agent="a" * 513), "too_large", "agent"),
        (to(""), "invalid_request", "snapshot_id"),
        (to("s" * 513), "too_large", "snapshot_id"),
        (RollbackRequest(agent="card-fraud", before_ms=-1), "invalid_request", "before_ms"),
        (RollbackRequest(agent="card-fraud", before_ms=2**62), "invalid_request", "before_ms"),
        (to(exclude=Exclusion(keys=("k",))), "invalid_request", "exclude"),
        (to(keys=("k" * 513,)), "too_large", "key"),
        (to(keys=("k", "")), "invalid_request", "keys"),
        (to(keys=("k",) * 10_001), "too_large", "keys"),
        (to(keys=("k" * 500,) * 1_100), "too_large", "plan"),
        (Exclusion(keys=("k" * 513,)), "too_large", "key"),
        (Exclusion(keys=("k",) * 10_001), "too_large", "exclude.keys"),
        (Exclusion(decisions=("d",) * 10_001), "too_large", "exclude.decision_ids"),
        (Exclusion(decisions=(DECISION, "d")), "invalid_request", "exclude.decision_ids[1]"),
        (Exclusion(decisions=("a/1/t/0/7",)), "invalid_request", "exclude.decision_ids[0]"),
        (Exclusion(from_ms=-1), "invalid_request", "exclude.from_ms"),
        (Exclusion(to_ms=-1), "invalid_request", "exclude.to_ms"),
        (Exclusion(from_ms=5, to_ms=5), "invalid_request", "exclude.to_ms"),
        (Exclusion(header=("", "v")), "invalid_request", "exclude.header.name"),
        (Exclusion(header=("n" * 513, "v")), "too_large", "exclude.header.name"),
        (Exclusion(header=("n", "v" * 513)), "too_large", "exclude.header.value"),
    ],
)
async def test_a_bad_plan_is_told_by_its_field(
    client: AsyncClient, asked: RollbackRequest | Exclusion, code: str, path: str
) -> None:
    """Every list and text of it is bounded, and the field stands in the error."""
    if isinstance(asked, Exclusion):
        asked = to(mode="rewind", exclude=asked)
    with pytest.raises(RequestError) as found:
        await client.rollback(asked)
    assert found.value.code == code
    assert [violation.path for violation in found.value.violations] == [path]


async def test_an_id_that_the_caller_makes_up_arrives(
    client: AsyncClient, world: World, before: SnapshotView
) -> None:
    """Only one that can be part of a snapshot's id; without one there is none."""
    mine, other = "0a" * 16, "1b" * 16
    done = await client.rollback(to(), mine)
    await client.undo_rollback("card-fraud", done.control_id, other)
    await client.rollback(to())
    assert world.rollbacks.ids == [mine, other, None]
    for bad in ("a", "0A" * 16, "../" + "a" * 29, "0" * 33):
        for asked in (client.rollback(to(), bad), client.undo_rollback("card-fraud", None, bad)):
            with pytest.raises(RequestError, match="32 hexadecimal digits"):
                await asked
    assert len(world.rollbacks.ids) == 3


async def test_a_plan_that_other_clients_may_send(target: str, before: SnapshotView) -> None:
    """Without a target it is refused, of an unknown mode too; without a mode it is a revert."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = snapshot_pb2_grpc.SnapshotServiceStub(channel)

        async def ask(**plan: Any) -> Any:
            plan = {"agent": "card-fraud", **plan}
            message = snapshot_pb2.RollbackPlan(**plan)
            return await stub.PreviewRollback(snapshot_pb2.PreviewRollbackRequest(plan=message))

        for plan, words in (({}, "target is missing"), ({"mode": 77}, "mode 77 is not known")):
            given = plan | ({"snapshot_id": BEFORE} if plan else {})
            with pytest.raises(grpc.aio.AioRpcError, match=words) as found:
                await ask(**given)
            assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await ask(snapshot_id=BEFORE)).preview.mode == snapshot_pb2.ROLLBACK_MODE_REVERT


async def test_the_client_asks_no_nonsense(client: AsyncClient) -> None:
    """One target and a known mode, and texts that protobuf can carry."""
    for asked, words in (
        (to(before_ms=5), "one of both"),
        (RollbackRequest(agent="card-fraud"), "one of both"),
        (to(mode="forget"), "give revert or rewind"),
        (to(keys=("\ud800",)), "cannot be asked"),
        (to(mode="rewind", exclude=Exclusion(header=("\ud800", ""))), "cannot be asked"),
        (to(mode="rewind", exclude=Exclusion(from_ms=2**64)), "cannot be asked"),
    ):
        with pytest.raises(RequestError, match=words) as found:
            await client.preview_rollback(asked)
        assert found.value.code == "invalid_request"


plans = st.builds(
    snapshot_pb2.RollbackPlan,
    agent=st.sampled_from(["card-fraud", "", "a" * 600]),
    snapshot_id=st.none() | st.text(max_size=5),
    mode=st.sampled_from([0, 1, 2]),
    keys=st.lists(st.text(max_size=5), max_size=3),
    exclude=st.none()
    | st.builds(
        snapshot_pb2.Exclusion,
        decision_ids=st.lists(st.just(DECISION) | st.text(max_size=20), max_size=3),
        keys=st.lists(st.text(max_size=5), max_size=3),
        from_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
        to_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
        header=st.none() | st.builds(snapshot_pb2.RecordHeader, name=st.text(max_size=3)),
    ),
)


@given(plan=plans)
def test_a_plan_is_refused_or_comes_back_whole(plan: snapshot_pb2.RollbackPlan) -> None:
    """Whatever is sent: a code of the table, or a request that encodes to the same plan."""
    limits, refused = Limits(), ""
    try:
        asked = decode_snapshots.plan(plan, limits)
    except RequestError as error:
        refused = error.code
    if refused:
        assert refused in status.TABLE
    else:
        assert decode_snapshots.plan(encode_snapshots.plan(asked), limits) == asked
