"""AgentService: deploy, show and steer agents through the control log."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from headrace.errors import SpecError
from headrace.models.spec import load_spec
from headrace.serving import (
    agent_pb2,
    agent_pb2_grpc,
    decode,
    decode_snapshots,
    encode,
    forgets,
    migrations,
)
from headrace.serving.backend import Backend
from headrace.serving.limits import Limits

Context = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Changes nothing itself: each change is a control record that somebody else applies."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._controls = backend.controls
        self._directory = backend.directory
        self._specs = backend.specs
        self._forgets = backend.forgets
        self._limits = limits

    async def DeployAgent(
        self, request: agent_pb2.DeployAgentRequest, context: Context
    ) -> agent_pb2.DeployAgentResponse:
        spec = self._spec(request.spec)
        asked = migrations.asked(request, self._limits)
        if request.dry_run:
            found = await self._controls.dry_run(spec, asked)
            plan = None if found.migration is None else migrations.plan(found.migration)
            return agent_pb2.DeployAgentResponse(dry_run=encode.dry_run(found, plan))
        return agent_pb2.DeployAgentResponse(
            effect=encode.effect(await self._controls.deploy(spec, asked))
        )

    async def ValidateAgent(
        self, request: agent_pb2.ValidateAgentRequest, context: Context
    ) -> agent_pb2.ValidateAgentResponse:
        try:
            # On a thread: reading a long YAML text takes longer than the loop may stop.
            spec = await asyncio.to_thread(load_spec, self._spec(request.spec))
        except SpecError as error:
            found = encode.violations(error.violations)
            return agent_pb2.ValidateAgentResponse(violations=found)
        return agent_pb2.ValidateAgentResponse(
            digest=spec.digest, spec_json=spec.canonical().decode()
        )

    async def GetAgent(
        self, request: agent_pb2.GetAgentRequest, context: Context
    ) -> agent_pb2.GetAgentResponse:
        name = decode.name(request.agent, self._limits)
        return agent_pb2.GetAgentResponse(agent=encode.agent(self._directory.agent(name)))

    async def GetSpec(
        self, request: agent_pb2.GetSpecRequest, context: Context
    ) -> agent_pb2.GetSpecResponse:
        name = decode.name(request.agent, self._limits)
        found = self._specs.spec(name, request.spec_version)
        return agent_pb2.GetSpecResponse(spec_json=encode.json_text(found))

    async def ListAgents(
        self, request: agent_pb2.ListAgentsRequest, context: Context
    ) -> agent_pb2.ListAgentsResponse:
        views = sorted(self._directory.agents(), key=lambda view: view.name)
        return agent_pb2.ListAgentsResponse(agents=[encode.agent(view) for view in views])

    async def PauseLearning(
        self, request: agent_pb2.PauseLearningRequest, context: Context
    ) -> agent_pb2.PauseLearningResponse:
        done = await self._controls.pause(decode.name(request.agent, self._limits))
        return agent_pb2.PauseLearningResponse(effect=encode.effect(done))

    async def ResumeLearning(
        self, request: agent_pb2.ResumeLearningRequest, context: Context
    ) -> agent_pb2.ResumeLearningResponse:
        done = await self._controls.resume(decode.name(request.agent, self._limits))
        return agent_pb2.ResumeLearningResponse(effect=encode.effect(done))

    async def DeleteAgent(
        self, request: agent_pb2.DeleteAgentRequest, context: Context
    ) -> agent_pb2.DeleteAgentResponse:
        done = await self._controls.delete(decode.name(request.agent, self._limits))
        return agent_pb2.DeleteAgentResponse(effect=encode.effect(done))

    async def PreviewForgetKey(
        self, request: agent_pb2.PreviewForgetKeyRequest, context: Context
    ) -> agent_pb2.PreviewForgetKeyResponse:
        found = await self._forgets.preview(*self._of(request.agent, request.key))
        return agent_pb2.PreviewForgetKeyResponse(forget=forgets.message(found))

    async def ForgetKey(
        self, request: agent_pb2.ForgetKeyRequest, context: Context
    ) -> agent_pb2.ForgetKeyResponse:
        begun = await self._forgets.forget(*self._of(request.agent, request.key))
        return agent_pb2.ForgetKeyResponse(forget=forgets.message(begun))

    async def GetForget(
        self, request: agent_pb2.GetForgetRequest, context: Context
    ) -> agent_pb2.GetForgetResponse:
        control_id = decode_snapshots.control_id(request.control_id, self._limits)
        found = self._forgets.get(control_id)
        return agent_pb2.GetForgetResponse(forget=forgets.message(found))

    def _of(self, agent: str, key: str) -> tuple[str, str]:
        decode.name(agent, self._limits)
        decode.key_text(key, self._limits)
        if not key:
            raise decode.invalid("key", "is empty; give the key that is to be forgotten")
        return agent, key

    def _spec(self, spec: bytes) -> bytes:
        if not spec:
            raise decode.invalid("spec", "is empty; give a spec as YAML or JSON")
        if len(spec) > self._limits.spec_bytes:
            raise decode.too_large("spec", len(spec), self._limits.spec_bytes, unit="bytes")
        return spec
