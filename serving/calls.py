"""What both clients share: how a call is asked, how its answer and its failure are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, TypeVar

import grpc
import msgspec
from google.rpc.status_pb2 import Status

from headrace.errors import HeadraceError, OverloadError, RequestError, UnavailableError
from headrace.serving import (
    decision_pb2,
    decode,
    encode,
    past_messages,
    prediction_pb2,
    snapshot_pb2,
    status,
)
from headrace.views import Answer, AsOf, Position, Question

DEFAULT_TARGET = "127.0.0.1:50051"
TIMEOUT_S = 10.0
CONTROL_TIMEOUT_S = 60.0  # a new source topic makes the workers subscribe anew
IN_FLIGHT = 64  # predictions of one AsyncClient; a worker admits 256 of all clients
BATCH_ROWS = 500  # of one PredictBatch or SubmitFeedbackBatch; a server takes 1000
BATCH_BYTES = 1 << 20  # of what one of these brings; a larger event, or question, goes alone
BATCH_ITEMS = 10_000  # that the answers of one PredictBatch may bring: 400 bytes each fit 4 MiB
REFUSED_STREAM = "RST_STREAM with error code 7"  # as gRPC words it
OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.enable_http_proxy", 0),  # gRPC would send even loopback calls to an HTTP proxy
]

Event = bytes | str | Mapping[str, Any]
"""A whole event: JSON text, or an object to be written as JSON."""
Submitted = Position | HeadraceError
"""Where an event of many is, or the error that a single `submit_feedback` would raise."""
Outcome = Answer | HeadraceError
"""A row of a batch or a stream: the answer, or the error that a single call would raise."""
_T = TypeVar("_T")


class Asked(TypedDict, total=False):
    """What else a question may carry: see `headrace.views.Question`."""

    candidates: Iterable[str] | None
    exclude: Iterable[str]
    k: int | None
    setpoint: float | None
    item: str | None
    as_of: AsOf | None  # the state of the past that is to answer; `predict` only


def question(
    agent: str, key: str, features: Mapping[str, Any] | None, asked: Asked
) -> prediction_pb2.Question:
    """The message for one question. Raises RequestError."""
    candidates = asked.get("candidates")
    return encode.question(
        Question(
            agent=agent,
            key=key,
            features=dict(features or {}),
            candidates=None if candidates is None else tuple(candidates),
            exclude=tuple(asked.get("exclude", ())),
            k=asked.get("k"),
            setpoint=asked.get("setpoint"),
            item=asked.get("item"),
        )
    )


def predict(
    agent: str, key: str, features: Mapping[str, Any] | None, asked: Asked
) -> prediction_pb2.PredictRequest:
    """The request for one answer. Raises RequestError."""
    request = prediction_pb2.PredictRequest(question=question(agent, key, features, asked))
    state = asked.get("as_of")
    if state is not None:
        request.as_of.CopyFrom(past_messages.as_of(state))
    return request


def event_batches(
    agent: str, events: Iterable[tuple[str, Event]]
) -> Iterator[prediction_pb2.SubmitFeedbackBatchRequest]:
    """Requests of at most BATCH_ROWS events and about BATCH_BYTES each. Raises RequestError."""
    rows: list[prediction_pb2.KeyedEvent] = []
    size = 0
    for key, event in events:
        row = asked(prediction_pb2.KeyedEvent, key=key, event=event_bytes(event))
        if rows and (len(rows) == BATCH_ROWS or size + len(row.event) > BATCH_BYTES):
            yield asked(prediction_pb2.SubmitFeedbackBatchRequest, agent=agent, events=rows)
            rows, size = [], 0
        rows.append(row)
        size += len(row.event)
    if rows:
        yield asked(prediction_pb2.SubmitFeedbackBatchRequest, agent=agent, events=rows)


def submitted(message: prediction_pb2.Submitted) -> Submitted:
    """The position, or the error as an object."""
    if message.WhichOneof("outcome") == "error":
        return status.rebuild(message.error)
    return decode.position(message.position)


def outcome(message: prediction_pb2.Outcome) -> Outcome:
    """The answer, or the error as an object."""
    if message.WhichOneof("outcome") == "error":
        return status.rebuild(message.error)
    return decode.answer(message.answer)


def verify(decision_id: str | None, record: Event | None) -> snapshot_pb2.VerifyDecisionRequest:
    """The request to verify a decision. Raises RequestError."""
    if (decision_id is None) == (record is None):
        raise RequestError("invalid_request", "give the decision's id, or its record")
    if record is not None:
        return asked(snapshot_pb2.VerifyDecisionRequest, record=event_bytes(record))
    return asked(snapshot_pb2.VerifyDecisionRequest, decision_id=decision_id)


def asked(build: Callable[..., _T], **fields: Any) -> _T:
    """A request message. Raises RequestError for values that protobuf cannot carry."""
    try:
        return build(**fields)
    except (TypeError, ValueError) as error:
        raise RequestError("invalid_request", f"cannot be asked: {error}") from None


def spec_bytes(spec: str | bytes | Path) -> bytes:
    """The spec's text; a Path is read. Raises RequestError when it cannot be."""
    try:
        if isinstance(spec, Path):
            return spec.read_bytes()
        return spec.encode() if isinstance(spec, str) else bytes(spec)
    except OSError as error:
        raise RequestError("invalid_request", f"cannot read {spec!s}: {error.strerror}") from None
    except ValueError as error:
        raise RequestError("invalid_request", f"the spec is not text: {error}") from None


def event_bytes(event: Event) -> bytes:
    """The event as JSON. Raises RequestError when it cannot be written as JSON."""
    try:
        if isinstance(event, bytes):
            return event
        return event.encode() if isinstance(event, str) else msgspec.json.encode(event)
    except (TypeError, ValueError) as error:
        raise RequestError("bad_event", f"is no JSON: {error}") from None


def start(from_start: bool) -> decision_pb2.WatchStart:
    """Where a watch begins."""
    return decision_pb2.WATCH_START_EARLIEST if from_start else decision_pb2.WATCH_START_NOW


def record(data: bytes) -> dict[str, Any]:
    """A decision or quarantine record."""
    return msgspec.json.decode(data, type=dict[str, Any])


class Feed:
    """The questions of a stream, for gRPC to pull, from its own thread or task.

    gRPC would log and hide what goes wrong while it pulls. So the error is kept (`with self`), the
    stream ends early, and the client raises it after the last outcome.
    """

    def __init__(self, questions: Iterable[Question] | AsyncIterable[Question]) -> None:
        self._questions = questions
        self._begun = asyncio.Event()
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[prediction_pb2.PredictStreamRequest]:
        assert isinstance(self._questions, Iterable), "a blocking client takes a plain iterable"
        with self:
            for tag, each in enumerate(self._questions):
                yield _tagged(tag, each)

    async def pulled(self) -> AsyncIterator[prediction_pb2.PredictStreamRequest]:
        """The same for asyncio, from `begin` on; the questions may be awaited for."""
        await self._begun.wait()
        if not isinstance(self._questions, AsyncIterable):
            for request in self:
                yield request
            return
        tag = 0
        with self:
            async for each in self._questions:
                yield _tagged(tag, each)
                tag += 1

    def begin(self) -> None:
        """Let `pulled` give the first question."""
        self._begun.set()

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
        return self.error is not None


def _tagged(tag: int, asked: Question) -> prediction_pb2.PredictStreamRequest:
    return prediction_pb2.PredictStreamRequest(tag=tag, question=encode.question(asked))


def failure(error: Any, target: str) -> HeadraceError:
    """The error that the worker described, or what gRPC itself has to say, in plain words."""
    for name, value in error.trailing_metadata() or ():
        if name == status.DETAILS_KEY:
            return status.rebuild(Status.FromString(value))
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and REFUSED_STREAM in text:
        words = f"the worker at {target} refused the call: too many on this connection"
        return OverloadError("overloaded", words, retry_s=status.DEFAULT_RETRY_S)
    if code is grpc.StatusCode.UNAVAILABLE:
        if "connect" in text.lower() or "resolution" in text.lower():
            words = f"no worker at {target}; start one with `headrace up`"
        else:
            words = f"the worker at {target} went away: {text}"
        return UnavailableError("no_worker", words)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError("deadline", f"no answer from {target} in time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return RequestError("too_large", f"one message is too large: {text}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        words = f"the worker at {target} does not know this call; is it of another version?"
        return RequestError("unimplemented", words)
    if code is grpc.StatusCode.CANCELLED:
        return UnavailableError("cancelled", f"the call to {target} was cancelled")
    return RequestError("internal", f"{code.name}: {text}")
