"""Clients for Python: `Client` blocks, `AsyncClient` is for asyncio. Both speak in views.

    with Client("127.0.0.1:50051") as client:
        answer = client.predict("card-fraud", key="4711", features={"amount": 12.5})
        print(answer.decision, answer.score, answer.standing.offset)

Errors are the classes of `headrace.errors`, rebuilt from what the worker said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

from grpc_health.v1 import health_pb2

from headrace.errors import HeadraceError, SpecError, UnavailableError, Violation
from headrace.serving import agent_pb2, calls, decision_pb2, decode, migrations, prediction_pb2
from headrace.serving.archive_calls import ArchiveCalls
from headrace.serving.async_client import AsyncClient
from headrace.serving.batches import Batches
from headrace.serving.calls import Asked, Event, Outcome, Submitted
from headrace.serving.forgets import ForgetCalls
from headrace.serving.snapshot_calls import SnapshotCalls
from headrace.views import (
    AgentView,
    Answer,
    DryRun,
    Effect,
    KeyView,
    Migration,
    Position,
    Question,
)

__all__ = ["AsyncClient", "Client"]


class Client(SnapshotCalls, ArchiveCalls, ForgetCalls):
    """A blocking client; may be shared by threads. Every call has a deadline, watches have none."""

    # -- predictions -------------------------------------------------------------------------

    def predict(
        self,
        agent: str,
        *,
        key: str,
        features: Mapping[str, Any] | None = None,
        **asked: Unpack[Asked],
    ) -> Answer:
        """What the key's model says now, or said as of another state. Teaches nothing."""
        request = calls.predict(agent, key, features, asked)
        call = self._control if request.HasField("as_of") else self._call
        return decode.answer(call(self._prediction.Predict, request).answer)

    def predict_many(self, questions: Iterable[Question]) -> list[Outcome]:
        """One outcome per question, in their order: an Answer, or its error as an object.

        A call that fails is the outcome of each of its questions; once the worker is away or sheds
        load, nothing more is asked, and all that is left has that error.
        """
        batches = Batches(questions)
        for request in batches:
            try:
                batches.answered(self._call(self._prediction.PredictBatch, request))
            except HeadraceError as error:
                batches.failed(error)
        return batches.outcomes

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

    def submit_many(self, agent: str, events: Iterable[tuple[str, Event]]) -> Iterator[Submitted]:
        """Append whole events, each with its key, as this is iterated: one outcome each, in order.

        A Position, or as an object the error for which the event is not there. If a call fails,
        that is raised: of the events after the last outcome up to BATCH_ROWS may have been
        appended all the same. Nothing is sent twice.
        """
        for request in calls.event_batches(agent, events):
            response = self._control(self._prediction.SubmitFeedbackBatch, request)
            yield from map(calls.submitted, response.outcomes)

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

    def watch_withdrawn(
        self,
        agent: str | None = None,
        *,
        from_start: bool = False,
        follow: bool = True,
        for_s: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What became of decisions in rollbacks, of one agent or of all; see docs/records.md."""
        request = calls.asked(
            decision_pb2.WatchWithdrawnRequest,
            agent=agent or "",
            start=calls.start(from_start),
            until_end=not follow,
        )
        responses = self._watch(self._decision.WatchWithdrawn, request, for_s)
        return (calls.record(response.record) for response in responses)

    # -- agents ------------------------------------------------------------------------------

    def deploy(self, spec: str | bytes | Path, migration: Migration | None = None) -> Effect:
        """Deploy a spec: its text, or the Path of a file. SpecError carries every violation.

        `migration`: how the state goes on where another spec has the name.
        """
        return decode.effect(self._deploy(spec, migration, dry_run=False).effect)

    def dry_run(self, spec: str | bytes | Path, migration: Migration | None = None) -> DryRun:
        """What the spec would do with the recent records of its topic, and what would change."""
        found = self._deploy(spec, migration, dry_run=True).dry_run
        return decode.dry_run(found, migrations.decoded(found))

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

    def spec(self, agent: str, spec_version: int) -> dict[str, Any]:
        """A spec that the agent has, or had since its deploy, with every default filled in."""
        request = calls.asked(agent_pb2.GetSpecRequest, agent=agent, spec_version=spec_version)
        return decode.json_object((self._call(self._agent.GetSpec, request)).spec_json)

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

    def _deploy(
        self, spec: str | bytes | Path, migration: Migration | None, *, dry_run: bool
    ) -> Any:
        data = calls.spec_bytes(spec)
        request = migrations.request(data, migration, dry_run=dry_run)
        try:
            return self._control(self._agent.DeployAgent, request)
        except SpecError:
            # An error has room for a few violations only; this call has room for all, with hints.
            violations = self.validate(data)
            if not violations:
                raise
            raise SpecError(violations) from None
