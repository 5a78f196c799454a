"""SnapshotService: cuts of agents' states, and putting them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from headrace.clock import Clock
from headrace.serving import (
    decode,
    decode_snapshots,
    past_messages,
    snapshot_pb2,
    snapshot_pb2_grpc,
)
from headrace.serving import encode_snapshots as encode
from headrace.serving.archives import ArchiveServicer
from headrace.serving.backend import Backend
from headrace.serving.limits import Limits
from headrace.serving.turns import Turns

Context = grpc.aio.ServicerContext[Any, Any]
_ViewT = TypeVar("_ViewT")
_MessageT = TypeVar("_MessageT", bound=Message)


class SnapshotServicer(ArchiveServicer, snapshot_pb2_grpc.SnapshotServiceServicer):
    """Changes nothing itself: each change is a record that somebody else applies."""

    def __init__(self, backend: Backend, limits: Limits, clock: Clock) -> None:
        super().__init__(backend, limits)
        self._directory = backend.directory
        self._snapshots = backend.snapshots
        self._rollbacks = backend.rollbacks
        self._past = backend.past
        self._clock = clock

    async def CreateSnapshot(
        self, request: snapshot_pb2.CreateSnapshotRequest, context: Context
    ) -> snapshot_pb2.CreateSnapshotResponse:
        agent = decode.name(request.agent, self._limits)
        name = decode_snapshots.snapshot_name(request.name)
        made = await self._snapshots.create(agent, name)
        return snapshot_pb2.CreateSnapshotResponse(snapshot=encode.snapshot(made))

    async def GetSnapshot(
        self, request: snapshot_pb2.GetSnapshotRequest, context: Context
    ) -> snapshot_pb2.GetSnapshotResponse:
        found = self._snapshots.get(self._snapshot_id(request.snapshot_id))
        return snapshot_pb2.GetSnapshotResponse(snapshot=encode.snapshot(found))

    async def ListSnapshots(
        self, request: snapshot_pb2.ListSnapshotsRequest, context: Context
    ) -> snapshot_pb2.ListSnapshotsResponse:
        agent = decode.name(request.agent, self._limits) if request.agent else None
        views = self._snapshots.list(agent)
        if agent is not None and not views:
            self._directory.agent(agent)  # raises for an agent that is not there
        messages, token = await self._page(views, encode.snapshot, request.page_token)
        return snapshot_pb2.ListSnapshotsResponse(snapshots=messages, next_page_token=token)

    async def PinSnapshot(
        self, request: snapshot_pb2.PinSnapshotRequest, context: Context
    ) -> snapshot_pb2.PinSnapshotResponse:
        snapshot_id = self._snapshot_id(request.snapshot_id)
        found = await self._snapshots.pin(snapshot_id, pinned=not request.unpin)
        return snapshot_pb2.PinSnapshotResponse(snapshot=encode.snapshot(found))

    async def DeleteSnapshot(
        self, request: snapshot_pb2.DeleteSnapshotRequest, context: Context
    ) -> snapshot_pb2.DeleteSnapshotResponse:
        await self._snapshots.delete(self._snapshot_id(request.snapshot_id))
        return snapshot_pb2.DeleteSnapshotResponse()

    async def PreviewRollback(
        self, request: snapshot_pb2.PreviewRollbackRequest, context: Context
    ) -> snapshot_pb2.PreviewRollbackResponse:
        plan = decode_snapshots.plan(request.plan, self._limits)
        found = await self._rollbacks.preview(plan)
        return snapshot_pb2.PreviewRollbackResponse(preview=encode.preview(found))

    async def Rollback(
        self, request: snapshot_pb2.RollbackRequest, context: Context
    ) -> snapshot_pb2.RollbackResponse:
        plan = decode_snapshots.plan(request.plan, self._limits)
        request_id = decode_snapshots.request_id(request.request_id)
        begun = await self._rollbacks.rollback(plan, request_id)
        return snapshot_pb2.RollbackResponse(rollback=encode.rollback(begun))

    async def UndoRollback(
        self, request: snapshot_pb2.UndoRollbackRequest, context: Context
    ) -> snapshot_pb2.UndoRollbackResponse:
        agent = decode.name(request.agent, self._limits)
        control_id = self._control_id(request.control_id) if request.control_id else None
        request_id = decode_snapshots.request_id(request.request_id)
        begun = await self._rollbacks.undo(agent, control_id, request_id)
        return snapshot_pb2.UndoRollbackResponse(rollback=encode.rollback(begun))

    async def GetRollback(
        self, request: snapshot_pb2.GetRollbackRequest, context: Context
    ) -> snapshot_pb2.GetRollbackResponse:
        found = self._rollbacks.get(self._control_id(request.control_id))
        return snapshot_pb2.GetRollbackResponse(rollback=encode.rollback(found))

    async def ListRollbacks(
        self, request: snapshot_pb2.ListRollbacksRequest, context: Context
    ) -> snapshot_pb2.ListRollbacksResponse:
        agent = decode.name(request.agent, self._limits)
        views = self._rollbacks.list(agent)
        if not views:
            self._directory.agent(agent)  # raises for an agent that is not there
        messages, token = await self._page(views, encode.rollback, request.page_token)
        return snapshot_pb2.ListRollbacksResponse(rollbacks=messages, next_page_token=token)

    async def VerifyDecision(
        self, request: snapshot_pb2.VerifyDecisionRequest, context: Context
    ) -> snapshot_pb2.VerifyDecisionResponse:
        decision_id, record = past_messages.read_decision(request, self._limits)
        return past_messages.verification(await self._past.verify(decision_id, record))

    def _snapshot_id(self, text: str) -> str:
        return decode_snapshots.snapshot_id(text, self._limits)

    def _control_id(self, text: str) -> str:
        return decode_snapshots.control_id(text, self._limits)

    async def _page(
        self, views: Sequence[_ViewT], encoded: Callable[[_ViewT], _MessageT], token: str
    ) -> tuple[list[_MessageT], str]:
        """As many as fit, newest first, and the token of the next page.

        A token says how many of the oldest are left, so that new ones between two pages move none.
        """
        left = decode_snapshots.page_token(token)
        rest = views if left is None else views[max(0, len(views) - left) :]
        turns = Turns(self._clock, self._limits.slice_s)
        messages: list[_MessageT] = []
        size = 0
        for view in rest:
            message = encoded(view)
            size += message.ByteSize()
            if messages and size > self._limits.page_bytes:
                break
            messages.append(message)
            await turns.due()
        left = len(rest) - len(messages)
        return messages, str(left) if left else ""
