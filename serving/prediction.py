"""PredictionService: answers from shards as they are or were, and events for who has a label."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc

from headrace.clock import Clock
from headrace.errors import EventError, RequestError, StateError
from headrace.serving import (
    decode,
    encode,
    past_messages,
    prediction_pb2,
    prediction_pb2_grpc,
    status,
)
from headrace.serving.backend import Backend
from headrace.serving.limits import Limits
from headrace.serving.turns import Turns
from headrace.views import Position

Context = grpc.aio.ServicerContext[Any, Any]
OUTCOME_BYTES = 2048
"""An event's outcome is no larger: a status has a message, a reason and one violation, clipped."""


class PredictionServicer(prediction_pb2_grpc.PredictionServiceServicer):
    """Answers questions; teaches nothing."""

    def __init__(self, backend: Backend, limits: Limits, clock: Clock) -> None:
        self._predictor = backend.predictor
        self._past = backend.past
        self._sink = backend.sink
        self._limits = limits
        self._clock = clock

    async def Predict(
        self, request: prediction_pb2.PredictRequest, context: Context
    ) -> prediction_pb2.PredictResponse:
        if not request.HasField("as_of"):
            return prediction_pb2.PredictResponse(answer=self._answer(request.question))
        question = decode.question(request.question, self._limits)
        as_of = past_messages.read_as_of(request.as_of, self._limits)
        answer = await self._past.predict(question, as_of)
        return prediction_pb2.PredictResponse(answer=encode.answer(answer))

    async def PredictBatch(
        self, request: prediction_pb2.PredictBatchRequest, context: Context
    ) -> prediction_pb2.PredictBatchResponse:
        rows = len(request.questions)
        if rows > self._limits.batch_rows:
            raise decode.too_large("questions", rows, self._limits.batch_rows)
        response = prediction_pb2.PredictBatchResponse()
        turns = Turns(self._clock, self._limits.slice_s)
        for asked in request.questions:
            response.outcomes.append(self._outcome(asked))
            await turns.due()
        return response

    async def PredictStream(
        self, requests: AsyncIterable[prediction_pb2.PredictStreamRequest], context: Context
    ) -> AsyncIterator[prediction_pb2.PredictStreamResponse]:
        # Clients wait for the headers before they send: they say that the call was taken.
        await context.send_initial_metadata(())
        # One question at a time: the next is read when this outcome is written, so a client that
        # sends more than it reads is held back by HTTP/2 flow control, not by our memory.
        async for request in requests:
            outcome = self._outcome(request.question)
            yield prediction_pb2.PredictStreamResponse(tag=request.tag, outcome=outcome)

    async def SubmitFeedback(
        self, request: prediction_pb2.SubmitFeedbackRequest, context: Context
    ) -> prediction_pb2.SubmitFeedbackResponse:
        agent = decode.name(request.agent, self._limits)
        key, event = self._event(request.key, request.event)
        place = await self._sink.append(agent, key, event)
        return prediction_pb2.SubmitFeedbackResponse(position=encode.position(place))

    async def SubmitFeedbackBatch(
        self, request: prediction_pb2.SubmitFeedbackBatchRequest, context: Context
    ) -> prediction_pb2.SubmitFeedbackBatchResponse:
        agent = decode.name(request.agent, self._limits)
        rows = len(request.events)
        # The answer must fit: that it does not would be known when the events are appended.
        most = min(self._limits.batch_rows, max(self._limits.message_bytes // OUTCOME_BYTES, 1))
        if rows > most:
            raise decode.too_large("events", rows, most)
        events: list[tuple[str, bytes]] = []
        refused: dict[int, RequestError] = {}
        for row, each in enumerate(request.events):
            try:
                events.append(self._event(each.key, each.event))
            except RequestError as error:
                refused[row] = error
        taken = iter(await self._sink.append_all(agent, events))
        outcomes = [refused[row] if row in refused else next(taken) for row in range(rows)]
        return prediction_pb2.SubmitFeedbackBatchResponse(outcomes=map(_submitted, outcomes))

    async def GetKey(
        self, request: prediction_pb2.GetKeyRequest, context: Context
    ) -> prediction_pb2.GetKeyResponse:
        agent = decode.name(request.agent, self._limits)
        key = decode.key_text(request.key, self._limits)
        return encode.key(self._predictor.key(agent, key))

    def _event(self, key: str, event: bytes) -> tuple[str, bytes]:
        """Raises RequestError."""
        key = decode.key_text(key, self._limits)
        size = len(event)
        if size > self._limits.event_bytes:
            raise decode.too_large("event", size, self._limits.event_bytes, unit="bytes")
        if not size:
            raise decode.invalid("event", "is empty; give the whole event as JSON")
        return key, event

    def _answer(self, asked: prediction_pb2.Question) -> prediction_pb2.Answer:
        return encode.answer(self._predictor.predict(decode.question(asked, self._limits)))

    def _outcome(self, asked: prediction_pb2.Question) -> prediction_pb2.Outcome:
        try:
            return prediction_pb2.Outcome(answer=self._answer(asked))
        except (RequestError, StateError) as error:  # also of an agent whose state is damaged
            return prediction_pb2.Outcome(error=status.describe(error))


def _submitted(outcome: Position | EventError | RequestError) -> prediction_pb2.Submitted:
    if isinstance(outcome, Position):
        return prediction_pb2.Submitted(position=encode.position(outcome))
    return prediction_pb2.Submitted(error=status.describe(outcome))
