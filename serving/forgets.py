"""Forgotten keys as protobuf messages and as views, and the calls of both clients."""

from __future__ import annotations

from headrace.serving import agent_pb2, calls
from headrace.serving.caller import AsyncCaller, Caller
from headrace.serving.decode import position as position_of
from headrace.serving.encode import position
from headrace.views import ForgetView


def message(view: ForgetView) -> agent_pb2.Forget:
    """What a server answers."""
    return agent_pb2.Forget(
        control_id=view.control_id,
        agent=view.agent,
        known=view.known,
        partitions=view.partitions,
        positions=map(position, view.positions),
        deleting=view.deleting,
        rewriting=view.rewriting,
        rollbacks=view.rollbacks,
        gone_by_ms=view.gone_by_ms,
        note=view.note,
    )


def view(told: agent_pb2.Forget) -> ForgetView:
    """What a client is answered."""
    return ForgetView(
        control_id=told.control_id,
        agent=told.agent,
        known=told.known if told.HasField("known") else None,
        partitions=told.partitions,
        positions=tuple(map(position_of, told.positions)),
        deleting=tuple(told.deleting),
        rewriting=tuple(told.rewriting),
        rollbacks=tuple(told.rollbacks),
        gone_by_ms=told.gone_by_ms,
        note=told.note,
    )


class ForgetCalls(Caller):
    """Erasing keys."""

    def preview_forget(self, agent: str, key: str) -> ForgetView:
        """What forgetting the key would erase. Erases nothing."""
        request = calls.asked(agent_pb2.PreviewForgetKeyRequest, agent=agent, key=key)
        return view(self._control(self._agent.PreviewForgetKey, request).forget)

    def forget(self, agent: str, key: str) -> ForgetView:
        """Erase a key for good. Not `done`: ask `get_forget` again."""
        request = calls.asked(agent_pb2.ForgetKeyRequest, agent=agent, key=key)
        return view(self._control(self._agent.ForgetKey, request).forget)

    def get_forget(self, control_id: str) -> ForgetView:
        """How far it is."""
        request = calls.asked(agent_pb2.GetForgetRequest, control_id=control_id)
        return view(self._call(self._agent.GetForget, request).forget)


class AsyncForgetCalls(AsyncCaller):
    """The same for asyncio."""

    async def preview_forget(self, agent: str, key: str) -> ForgetView:
        """What forgetting the key would erase. Erases nothing."""
        request = calls.asked(agent_pb2.PreviewForgetKeyRequest, agent=agent, key=key)
        return view((await self._control(self._agent.PreviewForgetKey, request)).forget)

    async def forget(self, agent: str, key: str) -> ForgetView:
        """Erase a key for good. Not `done`: ask `get_forget` again."""
        request = calls.asked(agent_pb2.ForgetKeyRequest, agent=agent, key=key)
        return view((await self._control(self._agent.ForgetKey, request)).forget)

    async def get_forget(self, control_id: str) -> ForgetView:
        """How far it is."""
        request = calls.asked(agent_pb2.GetForgetRequest, control_id=control_id)
        return view((await self._call(self._agent.GetForget, request)).forget)
