"""The calls of SnapshotService, for both clients."""

from __future__ import annotations

from headrace.serving import (
    calls,
    decode_snapshots,
    encode_snapshots,
    past_messages,
    snapshot_pb2,
)
from headrace.serving.caller import AsyncCaller, Caller
from headrace.views import (
    RollbackPreview,
    RollbackRequest,
    RollbackView,
    SnapshotView,
    Verification,
)


class SnapshotCalls(Caller):
    """Snapshots, rollbacks to them, and decisions made again from them."""

    def create_snapshot(self, agent: str, name: str) -> SnapshotView:
        """Cut the agent as it is; kept until it is deleted. Its id is `<agent>.<name>`."""
        request = calls.asked(snapshot_pb2.CreateSnapshotRequest, agent=agent, name=name)
        response = self._control(self._snapshot.CreateSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    def snapshot(self, snapshot_id: str) -> SnapshotView:
        """One snapshot."""
        request = calls.asked(snapshot_pb2.GetSnapshotRequest, snapshot_id=snapshot_id)
        response = self._call(self._snapshot.GetSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    def snapshots(self, agent: str | None = None) -> list[SnapshotView]:
        """The snapshots of one agent or of all, newest first."""
        request = calls.asked(snapshot_pb2.ListSnapshotsRequest, agent=agent or "")
        found: dict[str, SnapshotView] = {}
        for page in self._pages(self._snapshot.ListSnapshots, request):
            views = map(decode_snapshots.snapshot, page.snapshots)
            found |= {view.snapshot_id: view for view in views}
        return list(found.values())

    def pin_snapshot(self, snapshot_id: str, *, pinned: bool = True) -> SnapshotView:
        """Keep it from being removed with age, or leave it to that again."""
        request = calls.asked(
            snapshot_pb2.PinSnapshotRequest, snapshot_id=snapshot_id, unpin=not pinned
        )
        response = self._control(self._snapshot.PinSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove it for good."""
        request = calls.asked(snapshot_pb2.DeleteSnapshotRequest, snapshot_id=snapshot_id)
        self._control(self._snapshot.DeleteSnapshot, request)

    def preview_rollback(self, asked: RollbackRequest) -> RollbackPreview:
        """What a rollback would change. Changes nothing."""
        request = snapshot_pb2.PreviewRollbackRequest(plan=encode_snapshots.plan(asked))
        response = self._control(self._snapshot.PreviewRollback, request)
        return decode_snapshots.preview(response.preview)

    def rollback(self, asked: RollbackRequest, request_id: str | None = None) -> RollbackView:
        """Put a snapshot's state in place of the agent's. Not `done`: ask `get_rollback` again.

        With a `request_id` (32 hexadecimal digits) it can be asked again when the answer was lost.
        """
        request = snapshot_pb2.RollbackRequest(
            plan=encode_snapshots.plan(asked), request_id=request_id or ""
        )
        response = self._control(self._snapshot.Rollback, request)
        return decode_snapshots.rollback(response.rollback)

    def undo_rollback(
        self, agent: str, control_id: str | None = None, request_id: str | None = None
    ) -> RollbackView:
        """Put back the state that a rollback replaced; without an id the last one's.

        `request_id`: as for `rollback`.
        """
        request = calls.asked(
            snapshot_pb2.UndoRollbackRequest,
            agent=agent,
            control_id=control_id or "",
            request_id=request_id or "",
        )
        response = self._control(self._snapshot.UndoRollback, request)
        return decode_snapshots.rollback(response.rollback)

    def get_rollback(self, control_id: str) -> RollbackView:
        """How far a rollback is."""
        request = calls.asked(snapshot_pb2.GetRollbackRequest, control_id=control_id)
        response = self._call(self._snapshot.GetRollback, request)
        return decode_snapshots.rollback(response.rollback)

    def rollbacks(self, agent: str) -> list[RollbackView]:
        """All rollbacks of the agent, newest first."""
        request = calls.asked(snapshot_pb2.ListRollbacksRequest, agent=agent)
        pages = self._pages(self._snapshot.ListRollbacks, request)
        return [decode_snapshots.rollback(each) for page in pages for each in page.rollbacks]

    def verify_decision(
        self, decision_id: str | None = None, *, record: calls.Event | None = None
    ) -> Verification:
        """Make a decision again, by its id or from its record, and compare."""
        request = calls.verify(decision_id, record)
        return past_messages.read_verification(
            self._control(self._snapshot.VerifyDecision, request)
        )


class AsyncSnapshotCalls(AsyncCaller):
    """The same, awaited."""

    async def create_snapshot(self, agent: str, name: str) -> SnapshotView:
        """Cut the agent as it is; kept until it is deleted. Its id is `<agent>.<name>`."""
        request = calls.asked(snapshot_pb2.CreateSnapshotRequest, agent=agent, name=name)
        response = await self._control(self._snapshot.CreateSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    async def snapshot(self, snapshot_id: str) -> SnapshotView:
        """One snapshot."""
        request = calls.asked(snapshot_pb2.GetSnapshotRequest, snapshot_id=snapshot_id)
        response = await self._call(self._snapshot.GetSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    async def snapshots(self, agent: str | None = None) -> list[SnapshotView]:
        """The snapshots of one agent or of all, newest first."""
        request = calls.asked(snapshot_pb2.ListSnapshotsRequest, agent=agent or "")
        found: dict[str, SnapshotView] = {}
        async for page in self._pages(self._snapshot.ListSnapshots, request):
            views = map(decode_snapshots.snapshot, page.snapshots)
            found |= {view.snapshot_id: view for view in views}
        return list(found.values())

    async def pin_snapshot(self, snapshot_id: str, *, pinned: bool = True) -> SnapshotView:
        """Keep it from being removed with age, or leave it to that again."""
        request = calls.asked(
            snapshot_pb2.PinSnapshotRequest, snapshot_id=snapshot_id, unpin=not pinned
        )
        response = await self._control(self._snapshot.PinSnapshot, request)
        return decode_snapshots.snapshot(response.snapshot)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove it for good."""
        request = calls.asked(snapshot_pb2.DeleteSnapshotRequest, snapshot_id=snapshot_id)
        await self._control(self._snapshot.DeleteSnapshot, request)

    async def preview_rollback(self, asked: RollbackRequest) -> RollbackPreview:
        """What a rollback would change. Changes nothing."""
        request = snapshot_pb2.PreviewRollbackRequest(plan=encode_snapshots.plan(asked))
        response = await self._control(self._snapshot.PreviewRollback, request)
        return decode_snapshots.preview(response.preview)

    async def rollback(self, asked: RollbackRequest, request_id: str | None = None) -> RollbackView:
        """Put a snapshot's state in place of the agent's. Not `done`: ask `get_rollback` again.

        With a `request_id` (32 hexadecimal digits) it can be asked again when the answer was lost.
        """
        request = snapshot_pb2.RollbackRequest(
            plan=encode_snapshots.plan(asked), request_id=request_id or ""
        )
        response = await self._control(self._snapshot.Rollback, request)
        return decode_snapshots.rollback(response.rollback)

    async def undo_rollback(
        self, agent: str, control_id: str | None = None, request_id: str | None = None
    ) -> RollbackView:
        """Put back the state that a rollback replaced; without an id the last one's.

        `request_id`: as for `rollback`.
        """
        request = calls.asked(
            snapshot_pb2.UndoRollbackRequest,
            agent=agent,
            control_id=control_id or "",
            request_id=request_id or "",
        )
        response = await self._control(self._snapshot.UndoRollback, request)
        return decode_snapshots.rollback(response.rollback)

    async def get_rollback(self, control_id: str) -> RollbackView:
        """How far a rollback is."""
        request = calls.asked(snapshot_pb2.GetRollbackRequest, control_id=control_id)
        response = await self._call(self._snapshot.GetRollback, request)
        return decode_snapshots.rollback(response.rollback)

    async def rollbacks(self, agent: str) -> list[RollbackView]:
        """All rollbacks of the agent, newest first."""
        request = calls.asked(snapshot_pb2.ListRollbacksRequest, agent=agent)
        pages = self._pages(self._snapshot.ListRollbacks, request)
        return [decode_snapshots.rollback(each) async for page in pages for each in page.rollbacks]

    async def verify_decision(
        self, decision_id: str | None = None, *, record: calls.Event | None = None
    ) -> Verification:
        """Make a decision again, by its id or from its record, and compare."""
        request = calls.verify(decision_id, record)
        return past_messages.read_verification(
            await self._control(self._snapshot.VerifyDecision, request)
        )
