from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from headrace.errors import NotFoundError
from headrace.serving import (
    prediction_pb2,
    prediction_pb2_grpc,
    snapshot_pb2,
    snapshot_pb2_grpc,
    status,
)
from headrace.serving.client import AsyncClient, Client
from headrace.views import AsOf
from tests.serving.past import CONFIRMED
from tests.serving.world import World, code_of

STATES = (AsOf(snapshot_id="card-fraud.é"), AsOf(offset=0), AsOf(offset=2**62), AsOf(time_ms=5))


async def test_every_way_to_name_a_state_arrives(client: AsyncClient, world: World) -> None:
    """Zero is not absent, and the answer says which state it is of."""
    for state in STATES:
        answer = await client.predict("card-fraud", key="4711", as_of=state)
        assert (answer.score, answer.standing.offset) == (0.95, state.offset or 0)
    assert world.past.asked == [*STATES]
    assert (await client.predict("card-fraud", key="4711", as_of=None)).standing.offset == 90


@pytest.mark.parametrize(
    "state",
    [AsOf(), AsOf(offset=1, time_ms=1), AsOf(offset=-1), AsOf(time_ms=-5), AsOf(snapshot_id="")],
    ids=str,
)
async def test_a_state_that_is_none_is_refused(client: AsyncClient, state: AsOf) -> None:
    """By the client, or by the server; neither asks the past."""
    assert await code_of(client.predict("card-fraud", key="1", as_of=state)) == "invalid_request"


@pytest.mark.parametrize(
    "state",
    [prediction_pb2.AsOf(), prediction_pb2.AsOf(snapshot_id="x" * 600)],
    ids=["nothing", "long"],
)
async def test_states_that_other_clients_may_send(
    target: str, world: World, state: prediction_pb2.AsOf
) -> None:
    """Told by the field."""
    question = prediction_pb2.Question(agent="card-fraud", key="1")
    request = prediction_pb2.PredictRequest(question=question, as_of=state)
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = prediction_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await stub.Predict(request)
    assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert world.past.asked == []


async def test_a_decision_is_verified_by_id_or_record(client: AsyncClient, target: str) -> None:
    """The verdict arrives whole, in both clients."""
    assert await client.verify_decision(CONFIRMED.decision_id) == CONFIRMED
    found = await client.verify_decision(record={"id": CONFIRMED.decision_id, "score": 0.25})
    assert found.verdict == "contradicted"
    assert [(d.field, d.found, d.expected) for d in found.differences] == [
        ("more", "1", ""),
        ("score", "0.25", "0.5"),
    ]
    found = await client.verify_decision(record=b"{}")
    assert (found.verdict, found.reason) == ("unverifiable", "void")
    with pytest.raises(NotFoundError) as missing:
        await client.verify_decision("card-fraud/3/transactions/0/18")
    assert missing.value.code == "unknown_decision"
    assert missing.value.context["decision"] == "card-fraud/3/transactions/0/18"


def test_the_table_says_not_found() -> None:
    """Of a decision that its topic does not hold."""
    assert status.TABLE["unknown_decision"].status is grpc.StatusCode.NOT_FOUND


async def test_the_client_asks_for_one_decision(client: AsyncClient) -> None:
    """Not for none, and not for two at a time."""
    assert await code_of(client.verify_decision()) == "invalid_request"
    assert await code_of(client.verify_decision("a", record=b"{}")) == "invalid_request"


@pytest.mark.parametrize(
    "request_",
    [
        snapshot_pb2.VerifyDecisionRequest(),
        snapshot_pb2.VerifyDecisionRequest(decision_id="x" * 600),
        snapshot_pb2.VerifyDecisionRequest(record=b"x" * ((1 << 20) + 1)),
    ],
    ids=["nothing", "long id", "large record"],
)
async def test_requests_that_other_clients_may_send(
    target: str, request_: snapshot_pb2.VerifyDecisionRequest
) -> None:
    """Refused before anything is made again."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await stub.VerifyDecision(request_)
    assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_blocking_client_says_the_same(client: AsyncClient, target: str) -> None:
    """Of a state of the past, too."""

    def blocking() -> tuple[Any, Any]:
        with Client(target) as other:
            answer = other.predict("card-fraud", key="4711", as_of=AsOf(offset=41))
            return answer, other.verify_decision(CONFIRMED.decision_id)

    answer, found = await asyncio.to_thread(blocking)
    assert answer == await client.predict("card-fraud", key="4711", as_of=AsOf(offset=41))
    assert found == CONFIRMED
