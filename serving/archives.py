"""The part of SnapshotService that compares snapshots, and carries them in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from headrace.errors import UnavailableError
from headrace.serving import decode_snapshots, snapshot_pb2
from headrace.serving import encode_snapshots as encode
from headrace.serving.backend import Backend
from headrace.serving.decode import invalid
from headrace.serving.limits import Limits

Context = grpc.aio.ServicerContext[Any, Any]


class ArchiveServicer:
    """No more than one piece of an archive is held here, on either way."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._archives = backend.archives
        self._limits = limits

    async def DiffSnapshots(
        self, request: snapshot_pb2.DiffSnapshotsRequest, context: Context
    ) -> snapshot_pb2.DiffSnapshotsResponse:
        earlier = decode_snapshots.snapshot_id(request.earlier, self._limits, "earlier")
        later = request.later or None
        if later is not None:
            later = decode_snapshots.snapshot_id(later, self._limits, "later")
        found = await self._archives.diff(earlier, later)
        return snapshot_pb2.DiffSnapshotsResponse(diff=encode.diff(found))

    async def ExportSnapshot(
        self, request: snapshot_pb2.ExportSnapshotRequest, context: Context
    ) -> AsyncIterator[snapshot_pb2.ExportSnapshotResponse]:
        snapshot_id = decode_snapshots.snapshot_id(request.snapshot_id, self._limits)
        archive = await self._archives.export(snapshot_id)
        head = snapshot_pb2.ArchiveHead(digest=archive.digest, size_bytes=archive.size_bytes)
        yield snapshot_pb2.ExportSnapshotResponse(head=head)
        step = min(self._limits.piece_bytes, self._limits.message_bytes // 2)
        async with aclosing(archive.pieces) as pieces:
            async for piece in pieces:
                for start in range(0, len(piece), step):
                    part = piece[start : start + step]
                    yield snapshot_pb2.ExportSnapshotResponse(piece=part)

    async def ImportSnapshot(
        self, requests: AsyncIterator[snapshot_pb2.ImportSnapshotRequest], context: Context
    ) -> snapshot_pb2.ImportSnapshotResponse:
        first = await self._next(requests)
        if first is None or first.WhichOneof("part") != "digest":
            raise invalid("digest", "must be the first message")
        digest = decode_snapshots.sha256("digest", first.digest)
        found = await self._archives.import_(digest, self._pieces(requests))
        return snapshot_pb2.ImportSnapshotResponse(snapshot=encode.snapshot(found))

    async def _pieces(
        self, requests: AsyncIterator[snapshot_pb2.ImportSnapshotRequest]
    ) -> AsyncIterator[bytes]:
        while (request := await self._next(requests)) is not None:
            if request.WhichOneof("part") != "piece":
                raise invalid("piece", "is missing; the digest comes first, once")
            yield request.piece

    async def _next(
        self, requests: AsyncIterator[snapshot_pb2.ImportSnapshotRequest]
    ) -> snapshot_pb2.ImportSnapshotRequest | None:
        """The next message, None after the last. Raises UnavailableError `deadline`: a client that
        sends nothing keeps others from importing.
        """
        message_s = self._limits.message_s
        try:
            async with asyncio.timeout(message_s):
                return await anext(requests, None)
        except TimeoutError:
            text = f"the client has sent nothing for {message_s} s"
            raise UnavailableError("deadline", text) from None
