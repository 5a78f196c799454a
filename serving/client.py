"""Clients for Python: `Client` blocks, `AsyncClient` is for asyncio. Both speak in views.

    with Client("127.0.0.1:50051") as client:
        answer = client.predict("card-fraud", key="4711", features={"amount": 12.5})
        print(answer.decision, answer.score, answer.standing.offset)

Errors are the classes of `headrace.errors`, rebuilt from what the worker said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.errors import HeadraceError, SpecError, UnavailableError, Violation
from headrace.serving import (
    agent_pb2,
    agent_pb2_grpc,
    calls,
    decision_pb2,
    decision_pb2_grpc,
    decode,
    prediction_pb2,
    prediction_pb2_grpc,
)
from headrace.serving.async_client import AsyncClient
from headrace.serving.calls import Asked, Event, Outcome
from headrace.views import AgentView, Answer, DryRun, Effect, KeyView, Position, Question

__all__ = ["AsyncClient", "Client"]


class Client:
    """A blocking client; may be shared by threads. Every call has a deadline, watches have none."""

    def __init__(
        self,
        target: str = calls.DEFAULT_TARGET,
        *,
        timeout_s: float = calls.TIMEOUT_S,
        control_timeout_s: float = calls.CONTROL_TIMEOUT_S,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.control_timeout_s = control_timeout_s
        self._channel = grpc.insecure_channel(target, options=calls.OPTIONS)
        self._prediction: Any = prediction_pb2_grpc.PredictionServiceStub(self._channel)
        self._decision: Any = decision_pb2_grpc.DecisionServiceStub(self._channel)
        self._agent: Any = agent_pb2_grpc.AgentServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """End all calls and the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # -- predictions -------------------------------------------------------------------------

    def predict(
        self,
        agent: str,
        *,
        key: str,
        features: Mapping[str, Any] | None = None,
        **asked: Unpack[Asked],
    ) -> Answer:
        """What the key's model says now. Teaches nothing."""
        request = prediction_pb2.PredictRequest(
            question=calls.question(agent, key, features, asked)
        )
        return decode.answer(self._call(self._prediction.Predict, request).answer)

    def predict_many(self, questions: Iterable[Question]) -> list[Outcome]:
        """One outcome per question, in their order: an Answer, or its error as an object."""
        rows: list[Outcome] = []
        for request in calls.batches(questions):
            response = self._call(self._prediction.PredictBatch, request)
            rows.extend(calls.outcome(row) for row in response.outcomes)
        return rows

    def predict_stream(self, questions: Iterable[Question]) -> Iterator[Outcome]:
        """Outcomes as they come, in the order of the questions, which another thread pulls."""
        feed = calls.Feed(questions)
        for response in self._watch(self._prediction.PredictStream, iter(feed)):
            yield calls.outcome(response.outcome)
        if feed.error:
            raise feed.error

    def submit_feedback(self, agent: str, *, key: str, event: Event) -> Position:
        """Append a whole event, its label in it, to the agent's input log."""
        data = calls.event_bytes(event)
        request = calls.asked(
            prediction_pb2.SubmitFeedbackRequest, agent=agent, key=key, event=data
        )
        return decode.position(self._call(self._prediction.SubmitFeedback, request).position)

    def key(self, agent: str, key: str) -> KeyView:
        """One key as it stands."""
        request = calls.asked(prediction_pb2.GetKeyRequest, agent=agent, key=key)
        return decode.key(self._call(self._prediction.GetKey, request))

    # -- decisions ---------------------------------------------------------------------------

    def watch_decisions(
        self,
        agent: str,
        *,
        from_start: bool = False,
        follow: bool = True,
        for_s: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Decision records as they are made; `follow=False` ends where the log ends now, `for_s`
        after so many seconds, with UnavailableError `deadline`.
        """
        request = calls.asked(
            decision_pb2.WatchDecisionsRequest,
            agent=agent,
            start=calls.start(from_start),
            until_end=not follow,
        )
        responses = self._watch(self._decision.WatchDecisions, request, for_s)
        return (calls.record(response.record) for response in responses)

    def watch_quarantine(
        self,
        agent: str | None = None,
        *,
        from_start: bool = False,
        follow: bool = True,
        for_s: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Quarantined events, of one agent or of all."""
        request = calls.asked(
            decision_pb2.WatchQuarantineRequest,
            agent=agent or "",
            start=calls.start(from_start),
            until_end=not follow,
        )
        responses = self._watch(self._decision.WatchQuarantine, request, for_s)
        return (calls.record(response.record) for response in responses)

    # -- agents ------------------------------------------------------------------------------

    def deploy(self, spec: str | bytes | Path) -> Effect:
        """Deploy a spec: its text, or the Path of a file. SpecError carries every violation."""
        return decode.effect(self._deploy(spec, dry_run=False).effect)

    def dry_run(self, spec: str | bytes | Path) -> DryRun:
        """What the spec would do with the recent records of its topic."""
        return decode.dry_run(self._deploy(spec, dry_run=True).dry_run)

    def validate(self, spec: str | bytes | Path) -> list[Violation]:
        """All that is wrong with a spec; nothing: it is good."""
        request = agent_pb2.ValidateAgentRequest(spec=calls.spec_bytes(spec))
        return decode.violations(self._call(self._agent.ValidateAgent, request).violations)

    def agents(self) -> list[AgentView]:
        """All agents, by name."""
        response = self._call(self._agent.ListAgents, agent_pb2.ListAgentsRequest())
        return [decode.agent(each) for each in response.agents]

    def agent(self, name: str) -> AgentView:
        """One agent as it stands."""
        request = calls.asked(agent_pb2.GetAgentRequest, agent=name)
        return decode.agent(self._call(self._agent.GetAgent, request).agent)

    def pause(self, agent: str) -> Effect:
        """Predict and decide, but learn nothing until `resume`."""
        request = calls.asked(agent_pb2.PauseLearningRequest, agent=agent)
        return decode.effect(self._control(self._agent.PauseLearning, request).effect)

    def resume(self, agent: str) -> Effect:
        """Learn again."""
        request = calls.asked(agent_pb2.ResumeLearningRequest, agent=agent)
        return decode.effect(self._control(self._agent.ResumeLearning, request).effect)

    def delete(self, agent: str) -> Effect:
        """Delete the agent and its state."""
        request = calls.asked(agent_pb2.DeleteAgentRequest, agent=agent)
        return decode.effect(self._control(self._agent.DeleteAgent, request).effect)

    def ready(self) -> bool:
        """Whether a worker is there and all its shards answer. Never raises."""
        try:
            answer = self._call(self._health.Check, health_pb2.HealthCheckRequest())
        except UnavailableError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    # -- one call ----------------------------------------------------------------------------

    def _deploy(self, spec: str | bytes | Path, *, dry_run: bool) -> Any:
        data = calls.spec_bytes(spec)
        request = agent_pb2.DeployAgentRequest(spec=data, dry_run=dry_run)
        try:
            return self._control(self._agent.DeployAgent, request)
        except SpecError:
            # An error has room for a few violations only; this call has room for all, with hints.
            violations = self.validate(data)
            if not violations:
                raise
            raise SpecError(violations) from None

    def _control(self, method: Callable[..., Any], request: object) -> Any:
        return self._call(method, request, self.control_timeout_s)

    def _call(
        self, method: Callable[..., Any], request: object, timeout_s: float | None = None
    ) -> Any:
        try:
            return method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _watch(
        self, method: Callable[..., Any], request: object, for_s: float | None = None
    ) -> Iterator[Any]:
        """The call has begun when this returns."""
        return self._read(method(request, timeout=for_s))

    def _read(self, call: Any) -> Iterator[Any]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()

    def _failure(self, error: grpc.RpcError) -> HeadraceError:
        return calls.failure(error, self.target)
