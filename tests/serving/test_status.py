from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import (
    ConflictError,
    EventError,
    HeadraceError,
    NotFoundError,
    OtherBuildError,
    OverloadError,
    RequestError,
    SpecError,
    StateError,
    UnavailableError,
    Violation,
)
from headrace.serving import prediction_pb2, prediction_pb2_grpc, status
from headrace.serving.client import AsyncClient
from tests.serving.world import SPEC, World


def raised(code: str) -> status.Refusal:
    """An error of the class that the table names for the code."""
    kind = status.TABLE[code].error
    if kind is SpecError:
        return SpecError([Violation("$.agent", "is empty", "give a name")])
    if kind is StateError:
        return StateError("the disk is full; free some space")
    if issubclass(kind, OverloadError):
        return kind(code, f"text of {code}", retry_s=0.25)
    assert issubclass(kind, RequestError)
    return kind(code, f"text of {code}", agent="card-fraud")


@pytest.mark.parametrize("code", status.TABLE)
async def test_every_code_reaches_the_client_as_its_class(
    code: str, world: World, target: str, client: AsyncClient
) -> None:
    """Each row of the table: the port's error leaves with the row's status and comes back equal."""
    row, question = status.TABLE[code], prediction_pb2.Question(agent="card-fraud", key="4711")
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = prediction_pb2_grpc.PredictionServiceStub(channel)
        world.fault = raised(code)
        with pytest.raises(grpc.aio.AioRpcError) as bare:
            await stub.Predict(prediction_pb2.PredictRequest(question=question))
    assert bare.value.code() is row.status
    world.fault = raised(code)
    with pytest.raises(HeadraceError) as rebuilt:
        await client.predict("card-fraud", key="4711")
    assert type(rebuilt.value) is row.error
    assert getattr(rebuilt.value, "code", code) == code
    if isinstance(rebuilt.value, RequestError):
        assert rebuilt.value.text == f"text of {code}"


def test_state_of_another_build_leaves_under_its_own_code() -> None:
    """What a worker found at its start looks to a client as what a rollback is refused with."""
    found = status.rebuild(status.describe(OtherBuildError("written with river 0.25.0")))
    assert isinstance(found, ConflictError)
    assert (found.code, str(found)) == ("other_build", "written with river 0.25.0")


def test_details_say_reason_field_resource_and_retry() -> None:
    """ErrorInfo says the code, BadRequest the field, ResourceInfo the thing, RetryInfo when."""
    gone = _details(status.describe(NotFoundError("unknown_key", "never seen", agent="a", key="k")))
    assert gone["ErrorInfo"].reason == "UNKNOWN_KEY"
    assert gone["ErrorInfo"].domain == "headrace"
    assert (gone["ResourceInfo"].resource_type, gone["ResourceInfo"].resource_name) == ("key", "k")
    busy = _details(status.describe(OverloadError("overloaded", "later", retry_s=0.25)))
    assert busy["RetryInfo"].retry_delay.ToMilliseconds() == 250
    event = _details(status.describe(EventError("bad_json", "no JSON", path="$.a")))
    assert event["ErrorInfo"].reason == "BAD_EVENT"
    assert event["BadRequest"].field_violations[0].field == "$.a"
    away = _details(status.describe(UnavailableError("broker_away", "away")))
    assert away["RetryInfo"].retry_delay.ToSeconds() == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (NotFoundError, grpc.StatusCode.NOT_FOUND),
        (UnavailableError, grpc.StatusCode.UNAVAILABLE),
        (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_code_that_is_not_in_the_table_leaves_by_its_class(
    kind: type[RequestError], expected: grpc.StatusCode
) -> None:
    """An unknown code keeps its name and gets the status of its class."""
    described = status.describe(kind("brand_new", "text"))
    assert described.code == expected.value[0]
    rebuilt = status.rebuild(described)
    assert isinstance(rebuilt, RequestError)
    assert rebuilt.code == "brand_new"


@given(
    violations=st.lists(
        st.builds(Violation, path=st.text(), text=st.text(), hint=st.text()), min_size=1
    ),
    code=st.sampled_from([c for c, row in status.TABLE.items() if row.error is RequestError]),
    text=st.text(max_size=5000),
    context=st.dictionaries(st.sampled_from(["agent", "path", "topic"]), st.text()),
)
def test_no_error_is_too_large_for_its_metadata(
    violations: list[Violation], code: str, text: str, context: dict[str, str]
) -> None:
    """Whatever an error says, its details fit into 8 KiB of metadata and can be rebuilt."""
    for error in (
        SpecError(violations * 50),
        RequestError(code, text * 10, violations=violations, **context),
    ):
        described = status.describe(error)
        assert len(described.SerializeToString()) <= status.DETAILS_BYTES + 2000
        rebuilt = status.rebuild(described)
        assert type(rebuilt) is type(error)


async def test_deploying_a_bad_spec_raises_every_violation(client: AsyncClient) -> None:
    """Two hundred violations do not fit into metadata; the client gets them all the same."""
    fields = "\n".join(f"unknown_{n}: 1" for n in range(200))
    with pytest.raises(SpecError) as found:
        await client.deploy(f"{SPEC}\n{fields}")
    assert len(found.value.violations) == 200


async def test_a_bug_is_told_by_its_id_only(
    world: World, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """What is unexpected leaves as INTERNAL with an id; the traceback is in the log under it."""
    world.fault = ZeroDivisionError("secret detail")
    with pytest.raises(RequestError) as found:
        await client.predict("card-fraud", key="4711")
    error_id = found.value.context["id"]
    assert found.value.code == "internal"
    assert "secret" not in str(found.value)
    assert f"id={error_id}" in caplog.text
    assert "secret detail" in caplog.text


class Panic(BaseException):
    """As pyo3's PanicException: no Exception."""


async def test_a_panic_is_a_bug_like_any_other(world: World, client: AsyncClient) -> None:
    """A panic of River's Rust half ends one call with INTERNAL, and the next one is served."""
    world.fault = Panic("index out of bounds")
    with pytest.raises(RequestError, match="internal error"):
        await client.predict("card-fraud", key="4711")
    assert (await client.predict("card-fraud", key="4711")).score == 0.95


def _details(described: Any) -> dict[str, Any]:
    kinds = ("ErrorInfo", "BadRequest", "RetryInfo", "ResourceInfo")
    found = {}
    for detail in described.details:
        for name in kinds:
            message = getattr(error_details_pb2, name)()
            if detail.Unpack(message):
                found[name] = message
    return found
